"""What the recipes of all stages share: captioned batches, where a run begins, and what is written at its end."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from imagen_lite import data, weights
from imagen_lite.data import Pool, to_images
from imagen_lite.schedule import CosineSchedule, LinearSchedule
from imagen_lite.stage import Stage, hardware_name
from imagen_lite.text import CaptionTokenizer, EmbeddingCache, FrozenTextEncoder, TextEmbedding
from imagen_lite.train import Progress, TrainConfig, alone, keyed_uniform
from imagen_lite.unet import EfficientUNet, UNetConfig

ENCODER = weights.DATA / "weights" / "t5-lite-base"


@dataclass(frozen=True)
class StageRecipe:
    """Everything that decides a stage's weights, but for the world and the text encoder."""

    unet: UNetConfig
    train: TrainConfig
    schedule: CosineSchedule | LinearSchedule = CosineSchedule(-10.0, 10.0)
    pictures: int = 100_000  # size of the pool
    text_dropout: float = 0.1
    text_length: int = 48  # tokens; captions are cut or padded to it on a GPU, where shapes must not change


R = TypeVar("R", bound=StageRecipe)


class Captioned(Generic[R]):
    """A pool's pictures on the training device, and a reader of its captions; a batch follows from the step."""

    def __init__(
        self, pool: Pool, encoder: FrozenTextEncoder | EmbeddingCache, recipe: R, device: torch.device,
        samples: Tensor | None = None,
    ):  # fmt: skip
        """`samples` are the places in a batch that are seen here, (B,), of a process's `share`; None is all."""
        self.pictures, self.recipe, self.device = pool.tensor(device), recipe, device
        self.samples = torch.arange(recipe.train.batch, device=device) if samples is None else samples
        captions, rows = caption_rows(pool)
        self.first, self.count = rows.to(device).unbind(2)  # each (N, 2): the picture's own, its mirror image's
        self.mirrors = torch.tensor([bool(m) for m in pool.mirrored], device=device)
        if isinstance(encoder, EmbeddingCache):
            self.text = CachedText(captions, encoder, recipe.text_length, device)
        else:
            self.text = EncodedText(captions, encoder, recipe.text_length, device)

    def rows(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which pictures (B,) a step sees, which of them flipped (B,), and which row of `text` says what they show."""
        u = keyed_uniform(seed, step, self.samples, 3, stream=1)
        index = (u[:, 0] * len(self.mirrors)).long()
        flip = (u[:, 1] < 0.5) & self.mirrors[index]
        view = index, flip.long()
        return index, flip, self.first[view] + (u[:, 2] * self.count[view]).long()

    def spread(self, seed: int, step: int) -> Tensor:
        """Numbers in [0, 1), (B,): one draw, evenly spread over the whole batch."""
        u = keyed_uniform(seed, step, torch.zeros_like(self.samples[:1]), 1, stream=2)[0]
        return (u + self.samples / self.recipe.train.batch) % 1.0

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) and captions' rows (B,) of a step: pictures, flips and captions at random."""
        index, flip, row = self.rows(seed, step)
        images = to_images(self.pictures[index])
        return torch.where(flip[:, None, None, None], images.flip(3), images), row


def caption_rows(pool: Pool) -> tuple[list[str], Tensor]:
    """All captions, and where they stand, (N, 2, 2): first row and count of each picture's own and of its mirror's.

    A picture that must not be mirrored has its own captions in the place of the mirror's.
    """
    captions, rows = [], []
    for own, mirror in zip(pool.captions, pool.mirrored, strict=True):
        first = len(captions)
        captions += own + mirror
        rows.append([(first, len(own)), (first + len(own), len(mirror)) if mirror else (first, len(own))])
    return captions, torch.tensor(rows)


def token_table(captions: list[str], tokenizer: CaptionTokenizer, length: int) -> tuple[Tensor, Tensor]:
    """Captions as token ids (N, length), 0 at padding, and how many tokens each has (N,), both int32."""
    ids = torch.zeros(len(captions), length, dtype=torch.int32)
    lengths = torch.zeros(len(captions), dtype=torch.int32)
    for start in range(0, len(captions), 4096):
        some, mask = tokenizer(captions[start : start + 4096])
        keep = min(length, some.shape[1])
        ids[start : start + len(some), :keep] = some[:, :keep].to(torch.int32)
        lengths[start : start + len(some)] = mask[:, :keep].sum(1).to(torch.int32)
    return ids, lengths


class EncodedText:
    """Captions as token ids on the training device, encoded anew for each step: for an encoder as small as ours."""

    def __init__(self, captions: list[str], encoder: FrozenTextEncoder, length: int, device: torch.device):
        self.encoder, self.length, self.device = encoder, length, device
        self.ids, self.lengths = (part.to(device) for part in token_table(captions, encoder.tokenizer, length))

    @torch.no_grad()
    def __call__(self, row: Tensor) -> TextEmbedding:
        """The captions of those rows (B,), cut at `length`; on a GPU always so long, for shapes must not change."""
        lengths = self.lengths[row]
        longest = self.length if self.device.type == "cuda" else int(lengths.max())
        mask = torch.arange(longest, device=self.device) < lengths[:, None]
        tokens = self.encoder.model(self.ids[row, :longest].long(), mask)
        return TextEmbedding(tokens * mask[..., None], mask)


class CachedText:
    """Captions embedded beforehand, read from disk in each step: the encoder may be large, and is not needed."""

    def __init__(self, captions: list[str], cache: EmbeddingCache, length: int, device: torch.device):
        self.captions, self.cache, self.length, self.device = captions, cache, length, device

    def __call__(self, row: Tensor) -> TextEmbedding:
        """As `EncodedText`."""
        text = self.cache([self.captions[i] for i in row.tolist()])
        text = TextEmbedding(text.tokens[:, : self.length], text.mask[:, : self.length])
        return (text.padded(self.length) if self.device.type == "cuda" else text).to(self.device)


def precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Within it networks compute in `dtype`."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def denoising_loss(
    model: Callable[..., Tensor], schedule: CosineSchedule | LinearSchedule, images: Tensor, t: Tensor, eps: Tensor,
    weight: Tensor, text: TextEmbedding, *conditions: Tensor,
) -> Tensor:  # fmt: skip
    """The mean of weight ‖ε − ε_θ(α x + σ ε, t, c)‖² of pictures (B, 3, H, W), weight (B,), as a float32 scalar."""
    x_t = schedule.add_noise(images, t, eps).contiguous(memory_format=torch.channels_last)
    output = model(x_t, schedule.angle(t), text, *conditions)
    return (weight * (output.float() - eps).square().mean((1, 2, 3))).mean()


def start(
    model: EfficientUNet, folder: Path, out: Path, fresh: bool, world: str = data.WORLD_VERSION,
    text_encoder: str = ENCODER.name,
) -> dict:  # fmt: skip
    """Prepare the run's folder; returns the pictures that the weights had seen, and the hours, when the run began.

    Raises:
        ValueError: what is there was trained on another world, or with another text encoder.
        RuntimeError: another training is at work there, and `fresh` would take its checkpoint.
    """
    state, begun = folder / "state.safetensors", folder / "begun.json"
    about = {"world": world, "text_encoder": text_encoder}
    folder.mkdir(parents=True, exist_ok=True)
    if fresh:
        forget(folder)
    if state.exists() and begun.exists():
        return _of_the_same(json.loads(begun.read_text()), about, folder)
    past = {"pictures_seen": 0, "hours": 0.0}
    if not fresh and (out / weights.TENSORS).exists():
        if _load(model, out):
            manifest = weights.load_manifest(out)
            encoder = weights.load_config(out).get("text_encoder", ENCODER.name)
            _of_the_same({"world": manifest["world"], "text_encoder": encoder}, about, out)
            past = {key: manifest[key] for key in past}
            print(f"going on from {out.name}, which has seen {past['pictures_seen']:,} pictures")
        else:
            print(f"{out.name} is of another shape than this recipe's: starting from nothing")
    weights.write_atomic(begun, json.dumps(past | about))
    return past


def forget(folder: Path) -> None:
    """Deletes a run's checkpoint. Raises RuntimeError: another training is at work there, and keeps it."""
    with alone(folder):
        (folder / "state.safetensors").unlink(missing_ok=True)


def _of_the_same(found: dict, about: dict[str, str], folder: Path) -> dict:
    """What was found, if it is of the world and the text encoder that are asked for."""
    for key, value in about.items():
        if found.get(key, value) != value:
            raise ValueError(
                f"{folder} was trained with {key.replace('_', ' ')} {found[key]}, not {value}; "
                f"give another --output, or start again with --fresh"
            )
    return found


def _load(model: EfficientUNet, folder: Path) -> bool:
    """Give the model a folder's weights, and a gate that is closed where they have none; False if they do not fit."""
    config = UNetConfig.from_dict(weights.load_config(folder)["unet"])
    if config == model.config:
        weights.load_into(model, folder)
    elif dataclasses.replace(config, gate=True) == model.config:
        plain = EfficientUNet(config)
        weights.load_into(plain, folder)
        state = plain.state_dict()
        gate = {name: torch.cat([state[name], 0 * state[name]]) for name in ("out.weight", "out.bias")}
        model.load_state_dict(state | gate)
    else:
        return False
    return True


def export(
    stage: Stage, out: Path, recipe: str, train: TrainConfig, begun: dict, progress: Progress, score: float,
    world: str = data.WORLD_VERSION, text_encoder: str = ENCODER.name, fingerprint: str = "",
) -> None:  # fmt: skip
    """Write a stage's averaged weights with their history: `world` is where its pictures are from.

    `fingerprint` is the text encoder's, if that is not ours.
    """
    ours = text_encoder == ENCODER.name
    manifest = {
        "recipe": recipe,
        "world": world,
        "text_encoder": weights.load_manifest(ENCODER)["sha256"] if ours else fingerprint,
        "pictures_seen": begun["pictures_seen"] + progress.pictures,
        "hours": round(begun["hours"] + progress.seconds / 3600, 3),
        "hardware": hardware_name(next(stage.unet.parameters()).device),
        "validation_loss": round(score, 5),
        "train": dataclasses.asdict(train),
    }
    config = stage.config() if ours else stage.config() | {"text_encoder": text_encoder}
    weights.save_pretrained(out, stage.unet, config, manifest)
    print(f"wrote {out}: {manifest['pictures_seen']:,} pictures seen, validation loss {score:.4f}")
