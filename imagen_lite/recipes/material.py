"""What a stage is trained on: renders of the world with our own encoder, or your pictures with any encoder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from imagen_lite import data, processes
from imagen_lite.data import SHARD, Pool, cache_folder
from imagen_lite.inputs import check_prompts
from imagen_lite.recipes.pictures import kept_as, own_pictures
from imagen_lite.recipes.stages import ENCODER
from imagen_lite.text import EmbeddingCache, FrozenTextEncoder, load_text_encoder
from imagen_lite.weights import WeightsError

HELD = 20  # about one in so many of your own pictures is not trained on
PROMPTS = 16  # captions of those, drawn at milestones


@dataclass(frozen=True)
class Material:
    """Captioned pictures to train on and to judge by, and who reads the captions.

    Attributes:
        name: of where the pictures are from, for the manifest.
        train, held: the pools.
        encoder: reads captions anew in each step, or has read them all before.
        text_encoder: the encoder's name, folder or hub id, by which `load_cascade` finds it.
        prompts: what milestones draw.
    """

    name: str
    train: Pool
    held: Pool
    encoder: FrozenTextEncoder | EmbeddingCache
    text_encoder: str
    prompts: tuple[str, ...]


def rendered(count: int, prompts: tuple[str, ...], device: torch.device) -> Material:
    """`count` pictures of the world at 64 px."""
    train, held = data.pool(count, device=device), data.pool(data.SHARD, split="val", device=device)
    return Material(data.WORLD_VERSION, train, held, load_text_encoder(ENCODER, device), ENCODER.name, prompts)


def own(
    source: str, text_encoder: str | None, count: int | None, most: int, length: int, device: torch.device
) -> Material:
    """A folder's or a hub set's pictures at 64 px (see `pictures`), captions embedded once.

    Args:
        text_encoder: a folder or hub id; None is ours, which knows the words of its world alone.
        count: how many pictures; None is all of a folder, and the first `most` of a hub set, which may be endless.
        length: tokens of a caption that training reads.

    Raises:
        ValueError: no pictures, a hub id that is no whole one, or held-out captions none of which can be drawn.
    """
    folder, name = Path(text_encoder or "").expanduser(), text_encoder or ENCODER.name
    if text_encoder and folder.is_dir():
        name = str(folder.resolve())
    elif text_encoder and "/" not in text_encoder:
        raise ValueError(
            f"there is no folder {text_encoder!r}; of the hub give the whole id, such as google/flan-t5-small"
        )
    found = own_pictures(source, count=count or (None if Path(source).expanduser().is_dir() else most))
    train, held = split(found.pool)
    captions = [text for own in found.pool.captions for text in own]
    cache = embedded(captions, text_encoder or ENCODER, device)
    prompts = tuple(texts[0] for texts in held.captions if _can_be_drawn(texts[0]))[:PROMPTS]
    if not prompts:
        raise ValueError("none of the held-out captions can be drawn: captions must be English sentences")
    if processes.place()[0] == 0:
        print(found.report())
        print(f"{len(held):,} of them are held out; {_cut(captions, cache, length):.1%} of the captions have more than "
              f"{length} tokens, of which no more are read")  # fmt: skip
    return Material(Path(source).expanduser().resolve().name, train, held, cache, name, prompts)


def _can_be_drawn(caption: str) -> bool:
    try:
        return bool(check_prompts([caption]))
    except ValueError:
        return False


def _cut(captions: list[str], cache: EmbeddingCache, length: int) -> float:
    """The share of captions with more than `length` tokens."""
    parts = (cache(captions[i : i + 256]).mask.sum(1) > length for i in range(0, len(captions), 256))
    return float(torch.cat(list(parts)).float().mean())


def split(pool: Pool) -> tuple[Pool, Pool]:
    """A pool in two: to train on, and about every twentieth picture to judge by.

    Which it is follows from the picture itself: it stays where it is when others come, and wherever it is found twice.
    """
    if len(pool) < 2:
        raise ValueError("one picture is trained on and another judged by: there must be two or more")
    digests = (hashlib.sha256(pool.picture(i).tobytes()).digest() for i in range(len(pool)))
    held = np.array([int.from_bytes(digest[:4]) % HELD == 0 for digest in digests])
    if not held.any() or held.all():  # there are but a few
        held = np.arange(len(pool)) == len(pool) - 1

    def part(rows: list[int]) -> Pool:
        shards = [np.stack([pool.picture(i) for i in rows[k : k + SHARD]]) for k in range(0, len(rows), SHARD)]
        captions, mirrored = ([texts[i] for i in rows] for texts in (pool.captions, pool.mirrored))
        return Pool(shards, captions, mirrored, [pool.seeds[i] for i in rows])

    return part(np.flatnonzero(~held).tolist()), part(np.flatnonzero(held).tolist())


def embedded(captions: list[str], text_encoder: str | Path, device: torch.device) -> EmbeddingCache:
    """A cache that holds these captions' embeddings; the encoder is loaded only if some are missing."""
    folder = Path(text_encoder).expanduser()
    name = folder.name if folder.is_dir() else str(text_encoder)
    path = cache_folder() / "embeddings" / f"{kept_as(name, folder.glob('*'))}.sqlite"
    if not _holds(path, captions):
        cache = EmbeddingCache(path, load_text_encoder(text_encoder, device), batch=64)
        new = cache.missing(captions)
        for i in tqdm(range(0, len(new), 64), desc=f"embedding captions with {cache.name}"):
            cache(new[i : i + 64])
    return EmbeddingCache(path)


def _holds(path: Path, captions: list[str]) -> bool:
    try:
        return not EmbeddingCache(path).missing(captions)
    except WeightsError:  # it is not there, or was interrupted before its first captions
        return False
