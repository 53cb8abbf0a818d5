"""The reader: a small detector that says what a picture of this world shows, with an error that we can measure.

Centre points (CenterNet, arXiv 1904.07850): every thing is a peak of a heat map at half resolution; what it is and
where it stands is read off at the peak. It works at 64 px; larger pictures are averaged down first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from imagen_lite.layers import group_norm
from imagen_lite.scenes.claims import Placed
from imagen_lite.scenes.world import COLORS, FINISHES, FOV, KINDS, LIGHTS, PATTERNS, SIZES, SURFACES, Scene
from imagen_lite.weights import DATA, load_config, load_into

SIZE = 64  # pixels a side of what the network sees
GRID = 32  # cells a side of the heat map
MOST = 4  # things in a scene

ATTRIBUTES = {"kind": KINDS, "color": COLORS, "size": SIZES, "finish": FINISHES, "pattern": PATTERNS}
SETTING = {"surface": SURFACES, "light": LIGHTS}
# Channels of the map: the heat's logit; the centre's offset in cells; log of width and height (1: the whole picture);
# depth; the logit of standing on another thing; logits of the attributes.
CHANNELS = {"heat": 1, "offset": 2, "extent": 2, "depth": 1, "on": 1} | {k: len(v) for k, v in ATTRIBUTES.items()}


@dataclass(frozen=True)
class Seen(Placed):
    """One thing as the reader sees it: a `Placed` thing (without its letter) and its box.

    `x`, `y`, `width`, `height`: the box's centre and sides in [0, 1] of the picture, y down. `depth` counts from the
    middle of the picture. `score`: how sure the reader is that the thing is there, in [0, 1].
    """

    y: float = 0.5
    width: float = 0.3
    height: float = 0.3
    score: float = 1.0


@dataclass(frozen=True)
class ReaderConfig:
    """Widths of the network at 32, 16 and 8 cells a side, and the score above which a peak counts as a thing."""

    widths: tuple[int, int, int] = (32, 64, 96)
    threshold: float = 0.35

    def __post_init__(self):
        if len(self.widths) != 3 or any(w < 16 or w % 16 for w in self.widths):
            raise ValueError(f"widths must be three multiples of 16, not {self.widths}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, not {self.threshold}")


class _Block(nn.Module):
    """Two 3×3 convolutions around a skip; `dilation` widens what they see."""

    def __init__(self, width: int, dilation: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), group_norm(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False), group_norm(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _convolution(wide: int, narrow: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, narrow, 3, stride, 1, bias=False), group_norm(narrow), nn.ReLU())


class Reader(nn.Module):
    """Three scales down, two up again, and two heads: a map of things and the setting."""

    def __init__(self, config: ReaderConfig = ReaderConfig()):
        super().__init__()
        self.config = config
        a, b, c = config.widths
        self.fine = nn.Sequential(_convolution(12, a), _Block(a))  # 32×32
        self.middle = nn.Sequential(_convolution(a, b, 2), _Block(b), _Block(b))  # 16×16
        self.coarse = nn.Sequential(_convolution(b, c, 2), _Block(c, 2))  # 8×8
        # Sunset paints white things orange: what colour a thing is takes the whole picture to tell.
        self.everywhere = nn.Sequential(nn.Linear(c, c), nn.ReLU(), nn.Linear(c, c))
        self.to_middle, self.join_middle = nn.Conv2d(c, b, 1), _Block(b)
        self.to_fine, self.join_fine = nn.Conv2d(b, a, 1), _convolution(a, b)
        self.things = nn.Sequential(nn.Conv2d(b, 2 * b, 1), nn.ReLU(), nn.Conv2d(2 * b, sum(CHANNELS.values()), 1))
        self.setting = nn.Linear(c, sum(len(v) for v in SETTING.values()))
        last = self.things[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias[:1], -3.0)  # things are rare: start from a low heat

    def forward(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Images (B, 3, 64, 64) -> maps {name of CHANNELS: (B, C, 32, 32)}, logits {name of SETTING: (B, C)}."""
        fine = self.fine(F.pixel_unshuffle(images, 2))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        pooled = self.everywhere(coarse.mean((2, 3)))
        coarse = coarse + pooled[:, :, None, None]
        middle = self.join_middle(middle + F.interpolate(self.to_middle(coarse), scale_factor=2.0))
        maps = self.things(self.join_fine(fine + F.interpolate(self.to_fine(middle), scale_factor=2.0))).float()
        setting = self.setting(pooled).float()
        sizes = [len(words) for words in SETTING.values()]
        return (
            dict(zip(CHANNELS, maps.split(list(CHANNELS.values()), 1), strict=True)),
            dict(zip(SETTING, setting.split(sizes, 1), strict=True)),
        )


# The truth about a scene, in the reader's terms ----------------------------------------------------------------


def depth_of(scene: Scene, index: int) -> float:
    """How far beyond the middle of the picture a thing stands, along the ground in picture widths (as in `Placed`)."""
    camera = scene.camera
    middle = camera.target[1] + camera.target[2] / math.tan(math.radians(camera.elevation))
    return (scene.things[index].y - middle) / (2 * camera.distance * math.tan(math.radians(FOV / 2)))


def box_of(scene: Scene, index: int) -> tuple[float, float, float, float]:
    """The box around a thing in the picture: centre x, y, width, height, in [0, 1]; from its bounds, not its pixels."""
    thing, base = scene.things[index], scene.base_height(index)
    u, _, depth = scene.camera.project(thing.x, thing.y, base + thing.height / 2)
    _, top, _ = scene.camera.project(thing.x, thing.y + 0.2 * thing.radius, base + thing.height)
    _, bottom, _ = scene.camera.project(thing.x, thing.y - 0.7 * thing.radius, base)
    width = 0.95 * thing.radius / (depth * math.tan(math.radians(FOV / 2)))
    return (u + 1) / 2, (top + bottom + 2) / 4, width, (bottom - top) / 2


def visible_shares(scenes: Sequence[Scene], progress: bool = False) -> np.ndarray:
    """The share of each thing's silhouette that nothing hides, (N, 4), as seen at 32 px; 0 where there is no thing."""
    from imagen_lite.scenes.renderer import render_ids  # what only reads should not wait for the ray tracer

    shares = np.zeros((len(scenes), MOST), np.float32)
    for start in tqdm(range(0, len(scenes), 100), desc="what is hidden", disable=not progress):
        ids, full = render_ids(list(scenes[start : start + 100]), 32)
        for row, (seen, whole) in enumerate(zip(ids.cpu().numpy(), full.cpu().numpy(), strict=True), start):
            for i in range(len(scenes[row].things)):
                shares[row, i] = (seen == i).sum() / max(1, whole[i])
    return shares


# Reading --------------------------------------------------------------------------------------------------------


def decode(maps: dict[str, Tensor], threshold: float) -> list[list[Seen]]:
    """The things at the peaks of the heat maps, surest first."""
    heat = maps["heat"].sigmoid()
    peaks = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, torch.zeros(()).to(heat))[:, 0].flatten(1)
    scores, cells = peaks.topk(2 * MOST, 1)  # (B, 8)
    read = {name: m.flatten(2).transpose(1, 2) for name, m in maps.items()}  # (B, 1024, C)
    read = {k: v.gather(1, cells[..., None].expand(-1, -1, v.shape[-1])) for k, v in read.items()}
    grid = torch.stack([cells % GRID, cells // GRID], -1)
    center = (grid + 0.5 + read["offset"]) / GRID
    numbers = torch.cat([center, read["extent"].exp(), read["depth"], read["on"], scores[..., None]], -1).cpu().tolist()
    words = torch.stack([read[name].argmax(-1) for name in ATTRIBUTES], -1).cpu().tolist()
    return [_things(row, names, threshold) for row, names in zip(numbers, words, strict=True)]


def _things(rows: list[list[float]], names: list[list[int]], threshold: float) -> list[Seen]:
    """The things of one picture, without double detections, each on what carries it."""
    seen: list[Seen] = []
    raised: list[bool] = []
    for (x, y, w, h, depth, on, score), indices in zip(rows, names, strict=True):
        words = {name: known[i] for (name, known), i in zip(ATTRIBUTES.items(), indices, strict=True)}
        thing = Seen(**words, x=x, y=y, width=w, height=h, depth=depth, score=score)
        if score >= threshold and all(_overlap(thing, other) < 0.6 for other in seen):
            seen.append(thing)
            raised.append(on > 0)
    return [replace(t, on=_carrier(seen, i)) if raised[i] else t for i, t in enumerate(seen)]


def _overlap(a: Seen, b: Seen) -> float:
    """Intersection over union of two boxes."""
    dx = min(a.x + a.width / 2, b.x + b.width / 2) - max(a.x - a.width / 2, b.x - b.width / 2)
    dy = min(a.y + a.height / 2, b.y + b.height / 2) - max(a.y - a.height / 2, b.y - b.height / 2)
    both = max(dx, 0.0) * max(dy, 0.0)
    return both / max(a.width * a.height + b.width * b.height - both, 1e-9)


def _carrier(seen: list[Seen], index: int) -> int | None:
    """The thing whose top is nearest to the bottom of thing `index`, if one is near at all."""
    top = seen[index]

    def gap(i: int) -> float:
        return abs(seen[i].x - top.x) + abs((seen[i].y - seen[i].height / 2) - (top.y + top.height / 2))

    below = [i for i in range(len(seen)) if i != index and seen[i].y > top.y]
    best = min(below, key=gap, default=None)
    return best if best is not None and gap(best) < 0.25 else None


@lru_cache(maxsize=4)
def load_reader(folder: Path | None = None, device: str = "cpu") -> Reader:
    """The shipped reader (data/weights/reader), or one in another folder; loaded once. Raises WeightsError."""
    folder = folder or DATA / "weights" / "reader"
    config = load_config(folder)
    model = Reader(ReaderConfig(tuple(config["widths"]), config["threshold"]))
    load_into(model, folder)
    model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model.eval().requires_grad_(False)


def _maps(images: Tensor, model: Reader | None) -> tuple[Reader, dict[str, Tensor], dict[str, Tensor]]:
    """The network's answer for images of any size."""
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < SIZE:
        raise ValueError(f"images must be (B, 3, H, W) with sides of {SIZE} or more, not {tuple(images.shape)}")
    model = model or load_reader(device=str(images.device))
    images = images.float().clamp(-1, 1)
    if images.shape[2:] != (SIZE, SIZE):
        images = F.interpolate(images, size=(SIZE, SIZE), mode="area")
    with torch.no_grad():
        parts = [model(part.contiguous(memory_format=torch.channels_last)) for part in images.split(128)]
    maps, setting = ({k: torch.cat([p[i][k] for p in parts]) for k in parts[0][i]} for i in (0, 1))
    return model, maps, setting


def read(images: Tensor, model: Reader | None = None) -> list[list[Seen]]:
    """What each picture shows, surest first.

    Args:
        images: (B, 3, H, W) in [-1, 1], sides of 64 or more.
        model: a reader; None takes the shipped one.

    Raises:
        ValueError: images of another shape. WeightsError: no weights.
    """
    model, maps, _ = _maps(images, model)
    return decode(maps, model.config.threshold)


def read_setting(images: Tensor, model: Reader | None = None) -> list[tuple[str, str]]:
    """(surface, light) of each picture; arguments as in `read`."""
    _, _, setting = _maps(images, model)
    surface, light = (setting[name].argmax(1).tolist() for name in SETTING)
    return [(SURFACES[s], LIGHTS[k]) for s, k in zip(surface, light, strict=True)]
