"""Enlargements: one 64-px picture made 256 px large at many augmentation levels and guidance weights, then 1024.

Prepared ones lie in `data/sweeps` (NAME-64, -256 and -1024.webp, and NAME.json) and are made by `make refresh`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from imagen_lite.augmentation import augment
from imagen_lite.cascade import Cascade
from imagen_lite.data import to_uint8
from imagen_lite.evaluate import alignment
from imagen_lite.sampler import keyed_noise
from imagen_lite.weights import write_atomic
from imagen_lite.widgets.sweep import FOLDER, read_sheet, write_sheet

AUG_LEVELS = (0.0, 0.1, 0.2, 0.4, 0.7)
WEIGHTS = (1.0, 3.0, 8.0, 15.0)


@dataclass(frozen=True)
class Enlarged:
    """What the cascade makes of one 64-px picture.

    Attributes:
        given: (levels, 64, 64, 3) uint8, the 64-px picture as the 256-px stage is given it, augmented.
        pictures: (levels, weights, 256, 256, 3) uint8; `aligned` likewise, what the reader says of them.
        final: (1024, 1024, 3) uint8, by the default settings; as large as the last stage there is.
    """

    prompt: str
    seed: int
    aug_levels: tuple[float, ...]
    weights: tuple[float, ...]
    given: np.ndarray
    pictures: np.ndarray
    aligned: tuple[tuple[bool, ...], ...]
    final: np.ndarray

    def some(self, levels: Sequence[int], weights: Sequence[int]) -> "Enlarged":
        """Only these rows and columns, by their index: a notebook must not weigh what a lecture may."""
        return replace(
            self,
            aug_levels=tuple(self.aug_levels[i] for i in levels),
            weights=tuple(self.weights[k] for k in weights),
            given=self.given[list(levels)],
            pictures=self.pictures[np.ix_(levels, weights)],
            aligned=tuple(tuple(self.aligned[i][k] for k in weights) for i in levels),
        )


def enlarge_all(
    cascade: Cascade, prompt: str, seed: int = 0, aug_levels: Sequence[float] = AUG_LEVELS,
    weights: Sequence[float] = WEIGHTS,
) -> Enlarged:  # fmt: skip
    """Draws `prompt` at 64 px and enlarges it in every way; the same noise everywhere.

    Raises:
        ValueError: the cascade has no 256-pixel stage.
    """
    low_res, count = cascade.sample(prompt, seed=seed, resolution=64).images, len(weights)
    many, w = low_res.repeat(count, 1, 1, 1), torch.tensor(weights)
    rows = [
        cascade.sample([prompt] * count, w, low_res=many, seed=[seed] * count, aug_level=level, resolution=256).images
        for level in aug_levels
    ]
    eps = keyed_noise([seed], low_res.shape, stream=2 * list(cascade.stages).index(256) + 1)()
    given = torch.cat([augment(low_res.cpu(), level, eps) for level in aug_levels])
    aligned = tuple(tuple(v.aligned for v in alignment(row, [prompt] * count)) for row in rows)
    final = cascade.sample(prompt, seed=seed, low_res=low_res).images
    pictures = torch.stack([to_uint8(row).cpu() for row in rows]).numpy()
    return Enlarged(
        prompt, seed, tuple(aug_levels), tuple(weights), to_uint8(given).numpy(), pictures, aligned,
        to_uint8(final)[0].cpu().numpy(),
    )  # fmt: skip


def save_enlarged(enlarged: Enlarged, name: str, folder: Path = FOLDER) -> None:
    """Writes NAME-64.webp, NAME-256.webp, NAME-1024.webp and NAME.json."""
    write_sheet(enlarged.given[None], folder / f"{name}-64.webp")
    write_sheet(enlarged.pictures, folder / f"{name}-256.webp", lossless=False)
    write_sheet(enlarged.final[None, None], folder / f"{name}-1024.webp", lossless=False)
    told = {k: getattr(enlarged, k) for k in ("prompt", "seed", "aug_levels", "weights", "aligned")}
    write_atomic(folder / f"{name}.json", json.dumps(told, ensure_ascii=False) + "\n")


def load_enlarged(name: str, folder: Path = FOLDER) -> Enlarged:
    """A prepared one; raises FileNotFoundError where there is none of this name."""
    told = json.loads((folder / f"{name}.json").read_text())
    levels, weights = tuple(told["aug_levels"]), tuple(told["weights"])
    return Enlarged(
        told["prompt"], told["seed"], levels, weights,
        read_sheet(folder / f"{name}-64.webp", 1, len(levels))[0],
        read_sheet(folder / f"{name}-256.webp", len(levels), len(weights)),
        tuple(tuple(row) for row in told["aligned"]),
        read_sheet(folder / f"{name}-1024.webp", 1, 1)[0, 0],
    )  # fmt: skip
