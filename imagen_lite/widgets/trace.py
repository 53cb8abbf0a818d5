"""Traces: one picture being drawn, step by step, as the sampler saw it; for the scrubber and the saturation view."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from imagen_lite.cascade import Cascade
from imagen_lite.sampler import State
from imagen_lite.weights import write_atomic
from imagen_lite.widgets.sweep import FOLDER, THRESHOLDS, read_sheet, sample_states, write_sheet

REACH = 4.0  # files keep values within ±REACH, in 255 steps


@dataclass(frozen=True)
class Trace:
    """One prompt, seed and weight, drawn with each thresholding.

    Attributes:
        raw_x0: (thresholdings, steps, H, W, 3) float32, the predicted picture before thresholding, within ±`REACH`.
        x_t: the same shape, the noisy picture that each step began with.
        scale: (thresholdings, steps), s, by which the threshold divided.
        times: (steps,) t of each step; `log_snr` likewise.
    """

    prompt: str
    seed: int
    weight: float
    thresholds: tuple[str, ...]
    raw_x0: np.ndarray
    x_t: np.ndarray
    scale: np.ndarray
    times: tuple[float, ...]
    log_snr: tuple[float, ...]


def sample_trace(
    cascade: Cascade, prompt: str, seed: int, weight: float, thresholds: Sequence[str] = THRESHOLDS, *,
    callback: Callable[[str, State], object] | None = None,
) -> Trace:  # fmt: skip
    """Draws one picture with each thresholding; `callback` gets the thresholding and each state."""
    rows = [sample_states(cascade, [prompt], weight, name, [seed], callback)[1] for name in thresholds]

    def pixels(name: str) -> np.ndarray:
        values = torch.stack([torch.stack([getattr(state, name)[0] for state in states]) for states in rows])
        return values.float().nan_to_num(REACH).clamp(-REACH, REACH).permute(0, 1, 3, 4, 2).cpu().numpy()

    scale = np.array([[float(state.s[0]) for state in states] for states in rows])
    levels = [state.t for state in rows[0]]
    return Trace(
        prompt, seed, weight, tuple(thresholds), pixels("raw_x0"), pixels("x_t"), scale,
        tuple(level.t for level in levels), tuple(level.log_snr for level in levels),
    )  # fmt: skip


def save_trace(trace: Trace, name: str, folder: Path = FOLDER) -> None:
    """Writes NAME-x0.webp, NAME-xt.webp (a row a thresholding, a column a step) and NAME.json."""
    for ending, values in (("x0", trace.raw_x0), ("xt", trace.x_t)):
        stored = np.round((values / REACH + 1) * 127.5).astype(np.uint8)
        # Noise does not compress, and only its looks are wanted.
        write_sheet(stored, folder / f"{name}-{ending}.webp", lossless=ending == "x0")
    told = {k: getattr(trace, k) for k in ("prompt", "seed", "weight", "thresholds", "times", "log_snr")}
    told["scale"] = np.round(trace.scale, 3).tolist()
    write_atomic(folder / f"{name}.json", json.dumps(told, ensure_ascii=False) + "\n")


def load_trace(name: str, folder: Path = FOLDER) -> Trace:
    """A prepared trace; raises FileNotFoundError where there is none of this name."""
    told = json.loads((folder / f"{name}.json").read_text())
    rows, columns = len(told["thresholds"]), len(told["times"])

    def pixels(ending: str) -> np.ndarray:
        stored = read_sheet(folder / f"{name}-{ending}.webp", rows, columns).astype(np.float32)
        return (stored / 127.5 - 1) * REACH

    return Trace(
        told["prompt"], told["seed"], told["weight"], tuple(told["thresholds"]), pixels("x0"), pixels("xt"),
        np.array(told["scale"]), tuple(told["times"]), tuple(told["log_snr"]),
    )  # fmt: skip
