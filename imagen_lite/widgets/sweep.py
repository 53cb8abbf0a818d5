"""Sweeps: one prompt and one noise, drawn at many guidance weights with each thresholding, with what the sampler saw.

Prepared ones lie in `data/sweeps`, NAME.webp (the pictures, a row a thresholding) and NAME.json (the rest), and are
made by `make refresh`; any other is sampled in seconds.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagen_lite.cascade import Cascade
from imagen_lite.data import to_uint8
from imagen_lite.evaluate import alignment, colorfulness, outside_share, saturated_share
from imagen_lite.sampler import State
from imagen_lite.weights import DATA, write_atomic

FOLDER = DATA / "sweeps"
WEIGHTS = (1.0, 2.0, 3.0, 5.0, 8.0, 11.0, 15.0)
THRESHOLDS = ("none", "static", "dynamic")
EDGES = np.linspace(-3, 3, 49)  # of the histograms' bins; what lies beyond counts in the outermost


@dataclass(frozen=True)
class Frame:
    """One picture of a sweep.

    Attributes:
        outside: share of the predicted x0 beyond [-1, 1], step by step, before thresholding.
        scale: s, by which the threshold divided, step by step.
        histogram: shares of the last step's x0, before thresholding, in the bins of `EDGES`.
        saturated: share of the picture's values at the range's ends; `colorfulness`: Hasler & Süsstrunk's.
        aligned, reasons: the reader's verdict.
    """

    outside: tuple[float, ...]
    scale: tuple[float, ...]
    histogram: tuple[float, ...]
    saturated: float
    colorfulness: float
    aligned: bool
    reasons: tuple[str, ...]


Drawn = tuple[np.ndarray, Frame]


@dataclass(frozen=True)
class Sweep:
    """Pictures (thresholds, weights, H, W, 3) uint8 of one prompt and seed, and a `Frame` for each."""

    prompt: str
    seed: int
    weights: tuple[float, ...]
    thresholds: tuple[str, ...]
    pictures: np.ndarray
    frames: tuple[tuple[Frame, ...], ...]

    def drawn(self) -> dict[tuple[int, int], Drawn]:
        """(thresholding, weight), as indices -> the picture and its frame."""
        rows = enumerate(self.frames)
        return {(t, w): (self.pictures[t, w], frame) for t, row in rows for w, frame in enumerate(row)}


def histogram(values: Tensor) -> tuple[float, ...]:
    """Shares of finite values in the bins of `EDGES`."""
    values = values[values.isfinite()].clamp(float(EDGES[0]), float(EDGES[-1]))
    counts, _ = np.histogram(values.float().cpu().numpy(), EDGES)
    return tuple(round(float(c) / max(1, len(values)), 4) for c in counts)


def sample_states(
    cascade: Cascade, prompts: list[str], weight: Tensor | float, threshold: str, seeds: list[int],
    callback: Callable[[str, State], object] | None = None, *, percentile: float = 0.995,
) -> tuple[Tensor, list[State]]:  # fmt: skip
    """64-px images of some prompts, and every state on the way; `callback` gets the thresholding and each state."""
    states: list[State] = []

    def keep(_: int, state: State) -> None:
        states.append(state)
        if callback:
            callback(threshold, state)

    out = cascade.sample(
        prompts, guidance_weight=weight, threshold=threshold, percentile=percentile, seed=seeds, resolution=64,
        callback=keep,
    )  # fmt: skip
    return out.images, states


def sample_sweep(
    cascade: Cascade, prompt: str, seed: int, weights: Sequence[float] = WEIGHTS,
    thresholds: Sequence[str] = THRESHOLDS, *, percentile: float = 0.995,
    callback: Callable[[str, State], object] | None = None,
) -> Sweep:  # fmt: skip
    """Draws a sweep, all weights of a thresholding as one batch; `callback` gets the thresholding and each state."""
    rows, frames, n = [], [], len(weights)
    for name in thresholds:
        images, states = sample_states(
            cascade, [prompt] * n, torch.tensor(weights), name, [seed] * n, callback, percentile=percentile
        )
        rows.append(to_uint8(images).cpu().numpy())
        frames.append(_frames(states, images, prompt))
    return Sweep(prompt, seed, tuple(weights), tuple(thresholds), np.stack(rows), tuple(frames))


def _frames(states: list[State], images: Tensor, prompt: str) -> tuple[Frame, ...]:
    """What is told of the pictures of one row."""
    outside = torch.stack([outside_share(state.raw_x0) for state in states], 1).tolist()  # (B, steps)
    scale = torch.stack([state.s for state in states], 1).tolist()
    numbers = zip(saturated_share(images).tolist(), colorfulness(images).tolist(), strict=True)
    verdicts = alignment(images, [prompt] * len(images))
    return tuple(
        Frame(
            tuple(round(v, 4) for v in outside[i]), tuple(round(v, 3) for v in scale[i]),
            histogram(states[-1].raw_x0[i]), round(saturated, 4), round(color, 1),
            verdicts[i].aligned, verdicts[i].reasons,
        )
        for i, (saturated, color) in enumerate(numbers)
    )  # fmt: skip


def write_sheet(pictures: np.ndarray, path: Path, *, lossless: bool = True) -> None:
    """Writes pictures (rows, columns, H, W, 3) uint8 as one WebP; zebra stripes need exact values, so lossless."""
    rows, columns, height, width, _ = pictures.shape
    sheet = pictures.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    packed = io.BytesIO()
    Image.fromarray(sheet).save(packed, "WEBP", lossless=lossless, quality=100 if lossless else 95, method=6)
    write_atomic(path, packed.getvalue())


def read_sheet(path: Path, rows: int, columns: int) -> np.ndarray:
    """The pictures that `write_sheet` wrote."""
    sheet = np.array(Image.open(path).convert("RGB"))
    height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
    return sheet.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)


def save_sweep(sweep: Sweep, name: str, folder: Path = FOLDER) -> None:
    """Writes NAME.webp and NAME.json."""
    write_sheet(sweep.pictures, folder / f"{name}.webp")
    text = {k: v for k, v in asdict(sweep).items() if k != "pictures"}
    write_atomic(folder / f"{name}.json", json.dumps(text, separators=(",", ":"), ensure_ascii=False) + "\n")


def load_sweep(name: str, folder: Path = FOLDER) -> Sweep:
    """A prepared sweep.

    Raises:
        FileNotFoundError: there is none of this name.
    """
    text = json.loads((folder / f"{name}.json").read_text())
    weights, thresholds = tuple(text["weights"]), tuple(text["thresholds"])
    pictures = read_sheet(folder / f"{name}.webp", len(thresholds), len(weights))
    frames = tuple(tuple(_frame(f) for f in row) for row in text["frames"])
    return Sweep(text["prompt"], text["seed"], weights, thresholds, pictures, frames)


def _frame(stored: dict[str, Any]) -> Frame:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    return Frame(**values)


def prepared(folder: Path = FOLDER) -> dict[str, str]:
    """The prepared sweeps: what to call each, its category and its prompt, and its name; in the order of the list."""
    index = folder / "index.json"
    return json.loads(index.read_text()) if index.exists() else {}
