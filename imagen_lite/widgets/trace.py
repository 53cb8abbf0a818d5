"""Traces: one picture being drawn, step by step, as the sampler saw it; for the scrubber and the saturation view."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from imagen_lite.cascade import Cascade
from imagen_lite.sampler import State
from imagen_lite.weights import write_atomic
from imagen_lite.widgets.sweep import FOLDER, THRESHOLDS

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
    rows: list[list[State]] = []
    for name in thresholds:
        states: list[State] = []

        def keep(_: int, state: State, name: str = name, states: list[State] = states) -> None:
            states.append(state)
            if callback:
                callback(name, state)

        cascade.sample(prompt, weight, threshold=name, seed=seed, resolution=64, callback=keep)
        rows.append(states)

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
        rows, columns, height, width, _ = stored.shape
        sheet = stored.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
        packed = io.BytesIO()
        lossless = ending == "x0"  # noise does not compress, and only looks are wanted of it
        Image.fromarray(sheet).save(packed, "WEBP", lossless=lossless, quality=100 if lossless else 80, method=6)
        write_atomic(folder / f"{name}-{ending}.webp", packed.getvalue())
    told = {k: getattr(trace, k) for k in ("prompt", "seed", "weight", "thresholds", "times", "log_snr")}
    told["scale"] = np.round(trace.scale, 3).tolist()
    write_atomic(folder / f"{name}.json", json.dumps(told, ensure_ascii=False) + "\n")


def load_trace(name: str, folder: Path = FOLDER) -> Trace:
    """A prepared trace; raises FileNotFoundError where there is none of this name."""
    told = json.loads((folder / f"{name}.json").read_text())
    rows, columns = len(told["thresholds"]), len(told["times"])

    def pixels(ending: str) -> np.ndarray:
        sheet = np.array(Image.open(folder / f"{name}-{ending}.webp").convert("RGB"), np.float32)
        height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
        values = sheet.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
        return (values / 127.5 - 1) * REACH

    return Trace(
        told["prompt"], told["seed"], told["weight"], tuple(told["thresholds"]), pixels("x0"), pixels("xt"),
        np.array(told["scale"]), tuple(told["times"]), tuple(told["log_snr"]),
    )  # fmt: skip
