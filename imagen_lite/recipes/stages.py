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
from imagen_lite.text import T5TextEncoder, TextEmbedding
from imagen_lite.train import Progress, TrainConfig, keyed_uniform
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
    """A pool's pictures and its captions' token ids, on the training device; a batch follows from the step."""

    def __init__(self, pool: Pool, encoder: T5TextEncoder, recipe: R, device: torch.device):
        self.pictures, self.recipe, self.device = pool.tensor(device), recipe, device
        self.ids, self.lengths = token_table(pool, encoder, recipe.text_length, device)
        self.mirrors = torch.tensor([bool(m) for m in pool.mirrored], device=device)

    def rows(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Which pictures (B,) a step sees, which of them flipped (B,), and token ids (B, L) and mask of a caption."""
        total = len(self.mirrors)
        u = keyed_uniform(seed, step, torch.arange(self.recipe.train.batch, device=self.device), 3, stream=1)
        index = (u[:, 0] * total).long()
        flip = (u[:, 1] < 0.5) & self.mirrors[index]
        row = (index * 2 + flip.long()) * data.CAPTIONS + (u[:, 2] * data.CAPTIONS).long()
        lengths = self.lengths[row].long()
        longest = self.recipe.text_length if self.device.type == "cuda" else int(lengths.max())
        mask = torch.arange(longest, device=self.device) < lengths[:, None]
        return index, flip, self.ids[row, :longest].long(), mask

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W), token ids (B, L) and mask (B, L) of a step: pictures, flips and captions at random."""
        index, flip, ids, mask = self.rows(seed, step)
        images = to_images(self.pictures[index])
        return torch.where(flip[:, None, None, None], images.flip(3), images), ids, mask


def token_table(pool: Pool, encoder: T5TextEncoder, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (2NK, length) int16 and lengths (2NK,) of every caption; a missing mirror's rows repeat the picture's own."""
    captions = [c for own, mirror in zip(pool.captions, pool.mirrored, strict=True) for c in (*own, *(mirror or own))]
    ids = torch.zeros(len(captions), length, dtype=torch.int16)
    lengths = torch.zeros(len(captions), dtype=torch.int16)
    for start in range(0, len(captions), 4096):
        rows, mask = encoder.tokenizer(captions[start : start + 4096])
        keep = min(length, rows.shape[1])
        ids[start : start + len(rows), :keep] = rows[:, :keep].to(torch.int16)
        lengths[start : start + len(rows)] = mask[:, :keep].sum(1).to(torch.int16)
    return ids.to(device), lengths.to(device)


def embed(encoder: T5TextEncoder, ids: Tensor, mask: Tensor) -> TextEmbedding:
    """The frozen encoder's embeddings of token ids (B, L)."""
    with torch.no_grad():
        return TextEmbedding(encoder.model(ids, mask) * mask[..., None], mask)


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


def start(model: EfficientUNet, folder: Path, out: Path, fresh: bool) -> dict:
    """Prepare the run's folder; returns the pictures that the weights had seen, and the hours, when the run began."""
    state, begun = folder / "state.safetensors", folder / "begun.json"
    folder.mkdir(parents=True, exist_ok=True)
    if fresh:
        state.unlink(missing_ok=True)
    if state.exists() and begun.exists():
        return json.loads(begun.read_text())
    past = {"pictures_seen": 0, "hours": 0.0}
    if not fresh and (out / weights.TENSORS).exists():
        if _load(model, out):
            manifest = weights.load_manifest(out)
            past = {key: manifest[key] for key in past}
            print(f"going on from {out.name}, which has seen {past['pictures_seen']:,} pictures")
        else:
            print(f"{out.name} is of another shape than this recipe's: starting from nothing")
    weights.write_atomic(begun, json.dumps(past))
    return past


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
    stage: Stage, out: Path, recipe: str, train: TrainConfig, begun: dict, progress: Progress, score: float
) -> None:
    """Write a stage's averaged weights with their history."""
    manifest = {
        "recipe": recipe,
        "world": data.WORLD_VERSION,
        "text_encoder": weights.load_manifest(ENCODER)["sha256"],
        "pictures_seen": begun["pictures_seen"] + progress.pictures,
        "hours": round(begun["hours"] + progress.seconds / 3600, 3),
        "hardware": hardware_name(next(stage.unet.parameters()).device),
        "validation_loss": round(score, 5),
        "train": dataclasses.asdict(train),
    }
    weights.save_pretrained(out, stage.unet, stage.config(), manifest)
    print(f"wrote {out}: {manifest['pictures_seen']:,} pictures seen, validation loss {score:.4f}")
