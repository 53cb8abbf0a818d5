"""Recipe detail: the judge of patterns and letters at 256 px, trained on close views of things in renders.

    imagen-lite train detail

It looks at the pool of 256-px pictures that sr256 is trained on. CPU: 10 minutes on 2 cores, after rendering.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imagen_lite import data, weights
from imagen_lite.data import Pool, to_images
from imagen_lite.recipes.stages import forget
from imagen_lite.scenes.detail import DETAILS, DetailReader, crops_of
from imagen_lite.scenes.reader import box_of, visible_shares
from imagen_lite.scenes.world import Scene, Thing, sample_scene
from imagen_lite.stage import default_device, hardware_name
from imagen_lite.train import TrainConfig, fit, keyed_normal, keyed_uniform

FOLDER = weights.DATA / "weights" / "detail"
PICTURES = 12_000
TRAIN = TrainConfig(batch=64, lr=2e-3, warmup=200, steps=6000, decay_from=3000, ema=0.998)
VISIBLE = 0.7  # the least share of a thing that is seen for it to be asked for
LETTERED = 8  # times as often as others are things with a letter looked at: few have one, of twenty-six


@dataclass(frozen=True)
class Views:
    """Things of a pool: which picture (N,), box (N, 4), labels (N, 2) in the order of `DETAILS`, weight (N,)."""

    pictures: Tensor
    index: Tensor
    boxes: Tensor
    labels: Tensor
    weight: Tensor

    def batch(self, config: TrainConfig, step: int) -> tuple[Tensor, Tensor]:
        """Crops (B, 3, 64, 64) and labels (B, 2) of a step; boxes jittered, crops roughened a little."""
        rows = torch.arange(config.batch, device=self.index.device)
        u = keyed_uniform(config.seed, step, rows, 6)
        chosen = torch.searchsorted(self.weight.cumsum(0) / self.weight.sum(), u[:, 0].contiguous()).clamp(
            max=len(self.index) - 1
        )
        box = self.boxes[chosen] * torch.cat([torch.ones_like(u[:, :2]), 0.9 + 0.3 * u[:, 1:2].expand(-1, 2)], 1)
        box[:, :2] += (u[:, 2:4] - 0.5) * 0.15 * box[:, 2:]
        crops = crops_of(to_images(self.pictures[self.index[chosen]]), box.tolist())
        soft = F.interpolate(F.avg_pool2d(crops, 2), scale_factor=2, mode="bilinear")
        crops = torch.lerp(crops, soft, (u[:, 4] * 0.6)[:, None, None, None])
        noise = keyed_normal(config.seed, step, rows, tuple(crops.shape[1:]), stream=1)
        return (crops + 0.1 * u[:, 5, None, None, None] * noise).clamp(-1, 1), self.labels[chosen]


def asked(scene: Scene, visible: np.ndarray) -> list[tuple[Thing, tuple[float, float, float, float]]]:
    """The things of a scene whose pattern and letter can be asked for, with their boxes."""
    return [(thing, box_of(scene, i)) for i, thing in enumerate(scene.things) if visible[i] >= VISIBLE]


def views(pool: Pool, device: torch.device, combinations: str = "training") -> Views:
    """All things of a pool that are seen well."""
    scenes = [sample_scene(seed, combinations=combinations) for seed in pool.seeds]
    shares = visible_shares(scenes, progress=True)
    rows = [
        (i, *box, *(words.index(getattr(thing, name)) for name, words in DETAILS.items()))
        for i, scene in enumerate(scenes)
        for thing, box in asked(scene, shares[i])
    ]
    table = torch.tensor(rows, device=device)
    labels = table[:, 5:].long()
    weight = torch.where(labels[:, 1] > 0, float(LETTERED), 1.0)
    return Views(pool.tensor(device), table[:, 0].long(), table[:, 1:5], labels, weight)


def detail_scores(model: DetailReader, seen: Views) -> dict[str, float]:
    """The share of patterned things whose pattern, and of lettered things whose letter, is read right."""
    right: dict[str, list[bool]] = {name: [] for name in DETAILS}
    with torch.no_grad():
        for i in range(0, len(seen.index), 64):
            rows = slice(i, i + 64)
            crops = crops_of(to_images(seen.pictures[seen.index[rows]]), seen.boxes[rows].tolist())
            for k, (name, logits) in enumerate(model(crops).items()):
                label = seen.labels[rows, k]
                right[name] += (logits.argmax(1) == label)[label > 0].tolist()
    return {name: round(float(np.mean(found)), 4) for name, found in right.items() if found}


def run(
    max_minutes: float | None = None, device: str | None = None, *, fresh: bool = False, pictures: int = PICTURES,
    out: Path = FOLDER, run_folder: Path | None = None, config: TrainConfig = TRAIN,
) -> dict[str, float]:  # fmt: skip
    """Train, or go on training, measure on the validation split and export to `out`; returns the scores."""
    where = default_device(device)
    folder = run_folder or data.cache_folder() / "runs" / "detail"
    if fresh:
        forget(folder)
    known = views(data.pool(pictures, size=256, device=where), where)
    held = views(data.pool(data.SHARD, split="val", size=256, device=where), where)
    torch.manual_seed(config.seed)
    model = DetailReader().to(where)

    def loss_at(step: int) -> Tensor:
        crops, labels = known.batch(config, step)
        logits = model(crops)
        return sum((F.cross_entropy(logits[name], labels[:, k]) for k, name in enumerate(DETAILS)), torch.zeros(()))

    ema, progress = fit(model, loss_at, config, folder, max_minutes=max_minutes)
    ema.copy_to(model)
    scores = detail_scores(model.eval(), held)
    manifest = {
        "recipe": "detail", "world": data.WORLD_VERSION, "pictures": len(known.pictures),
        "pictures_seen": progress.pictures, "hours": round(progress.seconds / 3600, 3), "scores": scores,
        "hardware": hardware_name(where),
        "train": dataclasses.asdict(config),
    }  # fmt: skip
    weights.save_pretrained(out, model, dataclasses.asdict(model.config), manifest)
    print(f"wrote {out}: of {len(held.index)} things in fresh renders, read right: {scores}")
    return scores
