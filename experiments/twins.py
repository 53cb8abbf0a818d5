"""Twins: two sr256, alike but for noise conditioning augmentation in training.

    python -m experiments.twins --max-minutes 30                    # each so long, resumable
    python -m experiments.twins --begin nothing --max-minutes 30

They go on from the shipped weights, by the last lesson that those had (`experiments.heed`), or are trained from
nothing, by the recipe. They stay in the user's cache; `experiments.augmentation` compares them.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments import heed
from imagen_lite import data, weights
from imagen_lite.recipes import sr256, super_resolution
from imagen_lite.recipes.super_resolution import Recipe

TITLES = {"renders": "real 64-px renders", "jpegs": "the same, kept as JPEG", "samples": "the base model's samples"}
WEIGHTS = (1.0, 3.0, 8.0)
HIGHEST = {"with": 1.0, "without": 0.0}  # the highest level of augmentation in training, by twin
SHIPPED = weights.DATA / "weights" / "sr256"


@dataclass(frozen=True)
class Twins:
    """Two models that differ in `HIGHEST` alone: what both are trained by, and how they are compared.

    Attributes:
        result: the file of what was measured, and the beginning of the names of its figures.
        runs: the beginning of the names of their runs.
        begin: the folder of the weights that they go on from; None: from nothing.
        recipe: how each is trained, but for augmentation.
        ways: which twin, and the level when sampling.
        levels: of these, by what is enlarged (see `TITLES`), that at which the one with augmentation is compared with
            the other, whose level is 0, by the distance; by what captions say, it is that of `superres.TOLD`.
    """

    result: str
    runs: str
    begin: Path | None
    recipe: Recipe
    ways: tuple[tuple[str, float], ...]
    levels: Mapping[str, float]

    @property
    def inputs(self) -> tuple[str, ...]:
        """What they enlarge."""
        return ("renders", *self.levels)

    def folder(self, name: str) -> Path:
        """Where a twin's weights lie, once they are trained: another place for twins of other weights."""
        of = f"-{weights.load_manifest(self.begin)['sha256'][:8]}" if self.begin else ""
        return data.cache_folder() / "runs" / f"{self.runs}{of}-{name}" / "weights"

    def figure(self, of: str) -> Path:
        """Where a figure is kept: "curves.png", say."""
        return weights.DATA / "readme" / f"{self.result}-{of}"


TWINS = {
    "nothing": Twins(
        "augmentation", "sr256", None,
        dataclasses.replace(sr256.CPU, train=dataclasses.replace(sr256.CPU.train, steps=3000)),
        (("with", 0.0), ("with", 0.1), ("with", 0.3), ("with", 0.6), ("without", 0.0)), {"samples": 0.1},
    ),
    "shipped": Twins(
        "augmentation_on", "sr256-on", SHIPPED,
        dataclasses.replace(heed.BOTH, train=dataclasses.replace(heed.BOTH.train, steps=3000)),
        (("with", 0.0), ("with", 0.1), ("with", 0.3), ("with", 0.5), ("without", 0.0)), {"jpegs": 0.1, "samples": 0.0},
    ),
}  # fmt: skip


def train(twins: Twins, max_minutes: float | None) -> None:
    """Train both, one after the other, on the same pictures and noise."""
    for name, level in HIGHEST.items():
        out, recipe = twins.folder(name), dataclasses.replace(twins.recipe, augmentation=level)
        if twins.begin:
            heed.teach(recipe, heed.LESSONS["both"][1], twins.begin, out, out.parent, max_minutes)
        else:
            super_resolution.run(recipe, recipe, max_minutes, out=out, run_folder=out.parent)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the twins, one after the other.")
    parser.add_argument("--begin", choices=TWINS, default="shipped", help="what they are trained from")
    parser.add_argument("--max-minutes", type=float, help="for each")
    options = parser.parse_args()
    train(TWINS[options.begin], options.max_minutes)


if __name__ == "__main__":
    main()
