"""What a stage is trained on: renders of the world with our own encoder, or your pictures with any encoder."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from imagen_lite import data
from imagen_lite.data import Pool
from imagen_lite.recipes.pictures import own_pictures
from imagen_lite.recipes.stages import ENCODER
from imagen_lite.text import EmbeddingCache, FrozenTextEncoder, load_text_encoder

HELD = 20  # one in so many of your own pictures is not trained on
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


def own(source: str, text_encoder: str | None, count: int | None, device: torch.device) -> Material:
    """A folder's or a hub set's pictures at 64 px (see `pictures`), captions embedded once.

    Args:
        text_encoder: a folder or hub id; None is ours, which knows the words of its world alone.
    """
    found = own_pictures(source, count=count)
    print(found.report())
    train, held = split(found.pool)
    cache = embedded([text for own in found.pool.captions for text in own], text_encoder or ENCODER, device)
    folder = Path(text_encoder or "").expanduser()
    name = ENCODER.name if text_encoder is None else str(folder.resolve()) if folder.is_dir() else text_encoder
    return Material(Path(source).name, train, held, cache, name, tuple(c[0] for c in held.captions[:PROMPTS]))


def split(pool: Pool) -> tuple[Pool, Pool]:
    """A pool in two: to train on, and every twentieth picture (of two at least one) to judge by."""
    if len(pool) < 2:
        raise ValueError("one picture is trained on and another judged by: there must be two or more")
    rows = np.arange(len(pool))
    held = rows % HELD == min(HELD, len(pool)) - 1
    pictures = np.concatenate(pool.pictures)

    def part(rows: np.ndarray) -> Pool:
        captions, mirrored = ([texts[i] for i in rows] for texts in (pool.captions, pool.mirrored))
        shards = [pictures[rows[i : i + data.SHARD]] for i in range(0, len(rows), data.SHARD)]
        return Pool(shards, captions, mirrored, [pool.seeds[i] for i in rows])

    return part(rows[~held]), part(rows[held])


def embedded(captions: list[str], text_encoder: str | Path, device: torch.device) -> EmbeddingCache:
    """A cache that holds these captions' embeddings; the encoder is loaded only if some are missing."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", str(text_encoder)).strip("-")[-60:]
    digest = hashlib.sha256(str(text_encoder).encode()).hexdigest()[:8]
    path = data.cache_folder() / "embeddings" / f"{name}-{digest}.sqlite"
    if not path.is_file() or EmbeddingCache(path).missing(captions):
        cache = EmbeddingCache(path, load_text_encoder(text_encoder, device), batch=64)
        new = cache.missing(captions)
        for i in tqdm(range(0, len(new), 64), desc=f"embedding captions with {cache.name}"):
            cache(new[i : i + 64])
    return EmbeddingCache(path)
