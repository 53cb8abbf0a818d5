"""Teaches sr256 letters: close views of lettered cubes, under so much augmentation that only the caption can tell them.

    python -m experiments.letters close --max-minutes 60    # from the shipped weights on, or from where it was stopped
    python -m experiments.letters whole                     # then, from what came of that: writes data/weights/sr256

One picture in 25 of the world bears a letter, on a few per cent of its pixels, and sr256 did not heed what captions say
of it. So nine batches in ten of the first lesson are windows of 64 px (of 256) on a letter. What comes of it is told as
*heed*: the loss with another letter in the caption over that with the right one, on validation windows; 1 is no heed at
all. The second lesson is sr256's own, on crops of whole pictures, with three batches in ten on letters still, while the
learning rate comes down to 0.
"""

import argparse
import dataclasses
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from experiments.claims.lab import side_by_side
from imagen_lite import data, weights
from imagen_lite.data import SHARD, Pool, to_images, to_uint8
from imagen_lite.recipes import sr256
from imagen_lite.recipes.stages import ENCODER, export
from imagen_lite.recipes.super_resolution import Pairs, Recipe, SuperResolutionLoss, validation_loss
from imagen_lite.scenes.captions import captions
from imagen_lite.scenes.reader import box_of
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import LETTERS, SPLITS, Scene, sample_scene
from imagen_lite.stage import default_dtype, load_stage
from imagen_lite.text import FrozenTextEncoder, load_text_encoder
from imagen_lite.train import Ema, Progress, TrainConfig, fit, keyed_uniform
from imagen_lite.unet import EfficientUNet

SIDE = 64  # pixels of a window, of 256
CLOSE = dataclasses.replace(
    sr256.CPU, window=SIDE, crop=SIDE, text_dropout=0.0, pictures=4000,
    train=TrainConfig(batch=64, lr=1e-3, warmup=200, steps=10**6, ema=0.998),
)  # fmt: skip
WHOLE = dataclasses.replace(
    sr256.CPU, near=0.6, pictures=3000,
    train=TrainConfig(batch=16, lr=5e-4, warmup=100, steps=5000, decay_from=100, ema=0.998),
)  # fmt: skip
LESSONS = {"close": (CLOSE, 0.9), "whole": (WHOLE, 0.3)}  # each a recipe, and the share of batches on letters
LEVELS = (0.45, 0.95)  # of the recipe's highest, uniform; at 1, little is left of a letter in the low-res picture
LOG_SNR = (-3.5, 2.5)  # uniform; where a letter's shape is settled
STEPS = 250  # between two measurements
CPU = torch.device("cpu")


def lettered(split: str, n: int) -> list[int]:
    """The first `n` seeds of a split whose scenes have just one lettered thing."""
    found: list[int] = []
    for seed in SPLITS[split]:
        if len(found) == n:
            break
        if len(bearers(sample_scene(seed))) == 1:
            found.append(seed)
    return found


def bearers(scene: Scene) -> list[int]:
    """Which things of a scene bear a letter."""
    return [i for i, thing in enumerate(scene.things) if thing.letter]


def window_on(scene: Scene, size: int = 256) -> tuple[int, int, int, int]:
    """The square of a picture of `size` pixels around the lettered thing, on a grid of 64: (top, left, side, side)."""
    cell, last = size // 64, 64 - SIDE // 4
    x, y = box_of(scene, bearers(scene)[0])[:2]
    left, top = (cell * min(max(round(64 * v - SIDE / 8), 0), last) for v in (x, y))
    return top, left, SIDE * size // 256, SIDE * size // 256


def rendered(path: Path, seeds: Sequence[int]) -> None:
    """Renders the windows of some scenes, at 256 and at 64 px a picture, into a file, if it is not there."""
    if path.exists():
        return
    scenes, content = [sample_scene(seed) for seed in seeds], io.BytesIO()
    large, small = (
        np.concatenate([to_uint8(render([s], size, window=window_on(s, size))).numpy() for s in scenes])
        for size in (256, 64)
    )
    np.savez(content, large=large, small=small)
    weights.write_atomic(path, content.getvalue())


def windows(split: str, n: int) -> tuple[Pool, Pool]:
    """The pools of `n` windows, large and small, each with captions that tell the letter."""
    seeds, folder = lettered(split, n), data.cache_folder() / "letters"
    starts = range(0, n, SHARD // 4)
    paths = [folder / f"{split}-{i:05d}-{min(SHARD // 4, n - i)}.npz" for i in starts]
    side_by_side([partial(rendered, path, seeds[i : i + SHARD // 4]) for path, i in zip(paths, starts, strict=True)])
    parts = [np.load(path) for path in paths]
    texts = [said(sample_scene(seed)) for seed in seeds]
    large, small = (np.concatenate([part[key] for part in parts]) for key in ("large", "small"))
    return Pool([large], texts, [[]] * n, seeds), Pool([small], texts, [[]] * n, seeds)


def told(scene: Scene, letter: str = "") -> str:
    """A caption of the lettered thing alone, or with another letter."""
    thing = scene.things[bearers(scene)[0]]
    return f"a {thing.color} {thing.kind} with the letter {letter or thing.letter} on it"


def said(scene: Scene) -> list[str]:
    """Captions of a scene that tell its letter."""
    letter = scene.things[bearers(scene)[0]].letter
    ways = (f"letter {letter}", f" {letter}-", f" {letter} on it")
    return [told(scene), *(text for text in captions(scene) if any(way in f" {text}" for way in ways))]


class OnlyTold(SuperResolutionLoss):
    """The loss where only the caption can tell the letter: at `LEVELS` of augmentation, at `LOG_SNR` of noise."""

    def __call__(self, step: int) -> Tensor:
        """Mean squared error, float32 scalar."""
        images, small, row = self.batches.pair(self.seed, step)
        u = keyed_uniform(self.seed, step, self.batches.samples, 2, stream=2)
        text = self.batches.text(row).drop(u[:, 1] >= self.batches.recipe.text_dropout)
        level = LEVELS[0] + (LEVELS[1] - LEVELS[0]) * u[:, 0]
        level = self.batches.recipe.augmentation * level
        return self.at(step, images, small, text, times(self.batches.spread(self.seed, step)), level)


def times(shares: Tensor) -> Tensor:
    """The t at these shares (B,) of `LOG_SNR`."""
    return CLOSE.schedule.t(LOG_SNR[0] + (LOG_SNR[1] - LOG_SNR[0]) * shares)


@torch.no_grad()
def heed(model: nn.Module, encoder: FrozenTextEncoder, held: Pairs, scenes: Sequence[Scene]) -> dict[str, float]:
    """The loss with another letter in the caption over that with the right one, by level of augmentation."""
    loss, found, batch = OnlyTold(model.eval(), held, 12345, default_dtype(CPU)), {}, held.recipe.train.batch
    others = [LETTERS[(LETTERS.index(s.things[bearers(s)[0]].letter) + 1 + i % 25) % 26] for i, s in enumerate(scenes)]
    for level in (0.1, 0.5, 0.9):
        sums = [0.0, 0.0]
        for i in range(0, len(scenes), batch):
            rows = slice(i, i + batch)
            images, small = (to_images(pictures[rows]) for pictures in (held.pictures, held.low_res))
            t, at = times(torch.arange(len(images)) / len(images)), torch.full((len(images),), level)
            for k, letters in enumerate(([""] * len(scenes), others)):
                texts = [told(s, letter) for s, letter in zip(scenes[rows], letters[rows], strict=True)]
                sums[k] += float(loss.at(i, images, small, encoder(texts), t, at)) * len(images)
        found[f"{level:g}"] = round(sums[1] / sums[0], 4)
    return found


def train(lesson: str, max_minutes: float | None = None) -> Path:
    """Gives a lesson, or goes on with it, and exports the averaged weights; returns their folder."""
    shipped, runs = weights.DATA / "weights" / "sr256", data.cache_folder() / "runs"
    close = runs / "sr256-close" / "weights"
    begin, out = (shipped, close) if lesson == "close" else (close, shipped)
    return teach(*LESSONS[lesson], begin, out, runs / f"sr256-{lesson}", max_minutes)


def teach(
    recipe: Recipe, share: float, begin: Path, out: Path, run: Path, max_minutes: float | None, held: int = 256
) -> Path:
    """Trains the weights in `begin`, a share of the batches on letters, and exports their average to `out`."""
    encoder = load_text_encoder(ENCODER, CPU)
    on_letters = dataclasses.replace(CLOSE, text_dropout=recipe.text_dropout, augmentation=recipe.augmentation)
    anywhere = Pairs(recipe.pools(recipe.pictures, "train", CPU), encoder, recipe, CPU)
    there, asked = (Pairs(windows(split, n), encoder, on_letters, CPU) for split, n in (("train", 4000), ("val", held)))
    scenes = [sample_scene(seed) for seed in lettered("val", held)]
    stage, average, begun = load_stage(begin, CPU), EfficientUNet(recipe.unet), weights.load_manifest(begin)
    stage.unet.requires_grad_(True)
    usual, only_told = (
        kind(stage.unet, pairs, 0, default_dtype(CPU))
        for kind, pairs in ((SuperResolutionLoss, anywhere), (OnlyTold, there))
    )

    def loss(step: int) -> Tensor:
        return (only_told if float(keyed_uniform(1, step, torch.zeros(1), 1)[0]) < share else usual)(step)

    def measured(_: nn.Module, ema: Ema, progress: Progress) -> dict:
        ema.copy_to(average)
        found = heed(average, encoder, asked, scenes)
        print(f"\nafter {progress.pictures:,}: heed {json.dumps(found)}", flush=True)
        return {"heed": found}

    stones = tuple(STEPS * recipe.train.batch * k for k in range(1, 1000))
    ema, progress = fit(
        stage.unet, loss, recipe.train, run, max_minutes=max_minutes, milestones=stones, on_milestone=measured
    )
    ema.copy_to(stage.unet)
    progress.pictures = progress.pictures * recipe.crop**2 // 128**2  # as crops of 128 px
    score = validation_loss(stage.unet.eval(), encoder, WHOLE.pools(data.SHARD, "val", CPU), WHOLE, default_dtype(CPU))
    export(stage, out, "sr256", recipe.train, begun, progress, score)
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Teach sr256 letters.")
    parser.add_argument("lesson", choices=LESSONS)
    parser.add_argument("--max-minutes", type=float)
    options = parser.parse_args()
    print(train(options.lesson, options.max_minutes))


if __name__ == "__main__":
    main()
