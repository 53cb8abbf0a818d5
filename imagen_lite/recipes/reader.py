"""Recipe reader: the detector that judges pictures of this world, trained on renders, held-out combinations included.

    imagen-lite train reader

CPU: 15 minutes on 2 cores; GPU: 3 minutes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from imagen_lite import data, weights
from imagen_lite.recipes.stages import forget
from imagen_lite.scenes.reader import ATTRIBUTES, GRID, MOST, SETTING, Reader, box_of, depth_of, visible_shares
from imagen_lite.scenes.reader_scores import format_scores, reader_scores
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import WORLD_VERSION, Scene, sample_scene
from imagen_lite.stage import default_device, default_dtype, hardware_name
from imagen_lite.train import TrainConfig, fit, keyed_uniform

FOLDER = weights.DATA / "weights" / "reader"
PICTURES = 30_000
EMPTY = 1500  # more, in which there is nothing: without them the reader sees things in flat grey
CPU = TrainConfig(batch=64, lr=2e-3, warmup=200, steps=4000, decay_from=2400, ema=0.998)
GPU = TrainConfig(batch=256, lr=3e-3, warmup=200, steps=6000, decay_from=3000, ema=0.998)

# Targets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Targets:
    """What the maps should say of B scenes, in tensors of (B, 4, ...); rows beyond a scene's things have weight 0.

    `box` (..., 4): centre x, y, width, height in [0, 1]. `depth` (...). `weight` (...): 1, or 0 for no thing and for
    things too hidden to ask for. `labels` (..., 6): on, then the indices of `ATTRIBUTES`. `setting` (B, 2).
    """

    box: Tensor
    depth: Tensor
    weight: Tensor
    labels: Tensor
    setting: Tensor

    def at(self, rows: Tensor) -> "Targets":
        """The targets of some rows."""
        return Targets(self.box[rows], self.depth[rows], self.weight[rows], self.labels[rows], self.setting[rows])

    def to(self, device: torch.device | str) -> "Targets":
        """The same on another device."""
        return Targets(*(v.to(device) for v in (self.box, self.depth, self.weight, self.labels, self.setting)))

    def mirrored(self, which: Tensor) -> "Targets":
        """The targets with the pictures `which` (B,) bool flipped left to right."""
        box = self.box.clone()
        box[..., 0] = torch.where(which[:, None], 1 - box[..., 0], box[..., 0])
        return Targets(box, self.depth, self.weight, self.labels, self.setting)


def targets(scenes: Sequence[Scene], visible: np.ndarray | None = None) -> Targets:
    """Targets of scenes; `visible` (N, 4) is the share of each thing's silhouette that nothing hides (below 0.3 a thing
    is asked for by neither presence nor absence)."""
    n = len(scenes)
    box, depth = np.full((n, MOST, 4), 0.5, np.float32), np.zeros((n, MOST), np.float32)
    weight, labels = np.zeros((n, MOST), np.float32), np.zeros((n, MOST, 1 + len(ATTRIBUTES)), np.int64)
    setting = np.zeros((n, len(SETTING)), np.int64)
    for row, scene in enumerate(scenes):
        setting[row] = [words.index(getattr(scene, name)) for name, words in SETTING.items()]
        for i, thing in enumerate(scene.things):
            box[row, i], depth[row, i], weight[row, i] = box_of(scene, i), depth_of(scene, i), 1.0
            words = [words.index(getattr(thing, name)) for name, words in ATTRIBUTES.items()]
            labels[row, i] = [int(thing.on is not None), *words]
    if visible is not None:
        weight = np.where((weight > 0) & (visible < 0.3), -1.0, weight).astype(np.float32)  # -1: do not care
    return Targets(*(torch.from_numpy(v) for v in (box, depth, weight, labels, setting)))


def heat_target(target: Targets) -> tuple[Tensor, Tensor]:
    """The heat map to learn, a Gaussian bump around each thing, and where to learn it: two (B, 32, 32)."""
    cells = torch.arange(GRID, device=target.box.device) + 0.5
    center = (target.box[..., :2] * GRID).clamp(0, GRID - 1e-3).floor() + 0.5  # (B, 4, 2): 1 exactly in one cell
    sigma = (target.box[..., 2:].amin(-1) * GRID / 8).clamp(0.6, 2.5)[..., None, None]
    dx, dy = cells - center[..., :1], cells - center[..., 1:]  # (B, 4, 32)
    bump = torch.exp(-(dx[:, :, None, :] ** 2 + dy[:, :, :, None] ** 2) / (2 * sigma**2))  # (B, 4, 32, 32)
    weight = target.weight[..., None, None]
    ignored = ((weight < 0) & (bump > 0.1)).any(1)
    return (bump * (weight > 0)).amax(1), (~ignored).float()


def detection_loss(
    maps: dict[str, Tensor], setting: dict[str, Tensor], target: Targets, jitter: Tensor | None = None
) -> Tensor:
    """The loss of the reader's answer: focal on the heat, L1 on geometry, cross-entropy on the rest.

    `jitter` (B, 4, 2) integers: read attributes that many cells beside the centre, so that a peak that lands on a
    neighbouring cell still reads well.
    """
    heat, asked = heat_target(target)
    total = _focal(maps["heat"][:, 0], heat, asked)
    cell = (target.box[..., :2] * GRID).floor().long() + (0 if jitter is None else jitter)
    cell = cell.clamp(0, GRID - 1)  # (B, 4, 2)
    flat = cell[..., 1] * GRID + cell[..., 0]
    on = target.weight > 0

    def at(name: str) -> Tensor:  # (K, C) of the K things that are there
        values = maps[name].flatten(2).transpose(1, 2)  # (B, 1024, C)
        return values.gather(1, flat[..., None].expand(-1, -1, values.shape[-1]))[on]

    box, labels = target.box[on], target.labels[on]
    total = total + F.l1_loss(at("offset"), box[:, :2] * GRID - cell[on] - 0.5) * 0.5
    total = total + F.l1_loss(at("extent"), box[:, 2:].clamp_min(1e-3).log())
    total = total + F.l1_loss(at("depth")[:, 0], target.depth[on])
    total = total + F.binary_cross_entropy_with_logits(at("on")[:, 0], labels[:, 0].float())
    for i, name in enumerate(ATTRIBUTES):
        total = total + F.cross_entropy(at(name), labels[:, 1 + i]) * (2.0 if name in ("kind", "color") else 0.5)
    for i, name in enumerate(SETTING):
        total = total + F.cross_entropy(setting[name], target.setting[:, i]) * 0.3
    return total


def _focal(logits: Tensor, heat: Tensor, asked: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss, per thing."""
    p = torch.sigmoid(logits)
    there = heat > 0.999
    hit = (1 - p) ** 2 * F.logsigmoid(logits) * there
    miss = (1 - heat) ** 4 * p**2 * F.logsigmoid(-logits) * ~there * asked
    return -(hit.sum() + miss.sum()) / there.sum().clamp_min(1)


# Training -------------------------------------------------------------------------------------------------------


def roughen(images: Tensor, generator: torch.Generator) -> Tensor:
    """What generated pictures suffer from, on renders: blur, fine and coarse noise, flat contrast, wrong patches.

    Colour is a label, so all three channels change alike but for the noise. (B, 3, 64, 64) -> the same shape.
    """
    device, n = images.device, len(images)

    def uniform(low: float, high: float, share: float = 1.0) -> Tensor:  # (B, 1, 1, 1); 0 for 1 - share of the rows
        u = torch.rand(2, n, 1, 1, 1, generator=generator, device=device)
        return (low + (high - low) * u[0]) * (u[1] < share)

    small = int(torch.randint(26, 52, (), generator=generator, device=device))
    blurred = F.interpolate(F.interpolate(images, size=(small, small), mode="area"), size=64, mode="bilinear")
    images = torch.lerp(images, blurred, uniform(0.3, 1.0, 0.4))
    patch = _boxes(n, 3, 9, generator, device)
    images = torch.where(patch & (uniform(1, 1, 0.25) > 0), images.roll(1, 0), images)
    images = images * (1 + uniform(-0.12, 0.1, 0.5)) + uniform(-0.06, 0.06, 0.5)
    fine = torch.randn(images.shape, generator=generator, device=device)
    coarse = torch.randn((n, 3, 16, 16), generator=generator, device=device)
    images = (
        images + uniform(0, 0.12, 0.5) * fine + uniform(0, 0.1, 0.4) * F.interpolate(coarse, size=64, mode="bicubic")
    )
    return images.clamp(-1, 1)


def _boxes(n: int, low: int, high: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """One random box a row, sides of `low` to `high` pixels, as a mask (B, 1, 64, 64)."""
    side = torch.randint(low, high + 1, (2, n, 1), generator=generator, device=device)
    first = (torch.rand(2, n, 1, generator=generator, device=device) * (64 - side)).long()
    at = torch.arange(64, device=device)
    y, x = (at >= first) & (at < first + side)
    return (y[:, :, None] & x[:, None, :])[:, None]


@dataclass(frozen=True)
class Examples:
    """Pictures (N, 64, 64, 3) uint8 and their targets on the training device; a batch follows from the step."""

    pictures: Tensor
    targets: Targets
    config: TrainConfig

    def batch(self, step: int) -> tuple[Tensor, Targets, Tensor]:
        """Images, targets and the jitter for `detection_loss`; half of the pictures flipped, most of them roughened."""
        device = self.pictures.device
        u = keyed_uniform(self.config.seed, step, torch.arange(self.config.batch, device=device), 2 + 2 * MOST)
        rows, flip = (u[:, 0] * len(self.pictures)).long(), u[:, 1] < 0.5
        images = data.to_images(self.pictures[rows])
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        generator = torch.Generator(device).manual_seed(hash((self.config.seed, step)) % 2**31)
        images = roughen(images, generator).contiguous(memory_format=torch.channels_last)
        return images, self.targets.at(rows).mirrored(flip), (u[:, 2:] * 3).long().view(-1, MOST, 2) - 1


def empty_scenes(count: int, device: torch.device | None = None, first: int = 0) -> tuple[list[Scene], Tensor]:
    """Scenes without a thing, and their pictures (count, 64, 64, 3) uint8: the settings of scenes `first` and on.

    The ray tracer needs something to trace, so the pictures are taken with the things moved far behind the camera.
    """
    scenes = [sample_scene(seed, combinations="all") for seed in range(first, first + count)]
    away = [
        dataclasses.replace(s, things=tuple(dataclasses.replace(t, y=t.y - 100, on=None) for t in s.things))
        for s in scenes
    ]
    parts = [data.to_uint8(render(away[i : i + 100], 64, device=device)).cpu() for i in range(0, count, 100)]
    return [dataclasses.replace(s, things=()) for s in scenes], torch.cat(parts)


def examples(count: int, device: torch.device, config: TrainConfig, empty: int = EMPTY) -> Examples:
    """The first `count` training scenes, "all" combinations, rendered or from the cache, and `empty` empty ones."""
    pool = data.pool(count, combinations="all", device=device)
    scenes = [sample_scene(seed, combinations="all") for seed in tqdm(pool.seeds, desc="scenes")]
    path = data.cache_folder() / "pictures" / f"{WORLD_VERSION}-visible-all-{len(scenes)}.npy"
    if not path.exists():
        shares = visible_shares(scenes, progress=True)
        partial = path.with_suffix(".part.npy")
        np.save(partial, shares)
        partial.replace(path)
    bare, pictures = empty_scenes(empty, device)
    visible = np.concatenate([np.load(path), np.zeros((empty, MOST), np.float32)])
    pictures = torch.cat([pool.tensor(device), pictures.to(device)])
    return Examples(pictures, targets(scenes + bare, visible).to(device), config)


def run(
    max_minutes: float | None = None, device: str | None = None, *, fresh: bool = False, pictures: int = PICTURES,
    out: Path = FOLDER, run_folder: Path | None = None, config: TrainConfig | None = None,
) -> dict:  # fmt: skip
    """Train, or go on training, measure on fresh renders and export to `out`; returns the scores.

    Args:
        max_minutes: of training; None trains to the last step.
        device: "cuda" or "cpu"; None picks.
        fresh: forget the run's checkpoint.
        pictures: how many scenes to learn from.
    """
    where = default_device(device)
    dtype = default_dtype(where)
    config = config or (GPU if where.type == "cuda" else CPU)
    folder = run_folder or data.cache_folder() / "runs" / "reader"
    if fresh:
        forget(folder)
    known = examples(pictures, where, config)
    torch.manual_seed(config.seed)
    model = Reader().to(where, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss_at(step: int) -> Tensor:
        images, target, jitter = known.batch(step)
        with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
            maps, setting = model(images)
        return detection_loss(maps, setting, target, jitter)

    ema, progress = fit(model, loss_at, config, folder, max_minutes=max_minutes)
    ema.copy_to(model)
    scores = reader_scores(model.eval(), 1000, where)
    manifest = {
        "recipe": "reader", "world": WORLD_VERSION, "pictures": len(known.pictures),
        "pictures_seen": progress.pictures, "hours": round(progress.seconds / 3600, 3),
        "hardware": hardware_name(where),
        "train": dataclasses.asdict(config), "scores": scores,
    }  # fmt: skip
    weights.save_pretrained(out, model, dataclasses.asdict(model.config), manifest)
    print(f"wrote {out}: " + format_scores(scores))
    return scores
