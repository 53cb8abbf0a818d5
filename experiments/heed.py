"""Teaches sr256 to heed captions: close views of letters and patterns that only the caption can tell.

    python -m experiments.heed close --max-minutes 60    # letters; from the shipped weights on, or where it was stopped
    python -m experiments.heed whole                     # then, from what came of that
    python -m experiments.heed both                      # then patterns, too: writes data/weights/sr256

One picture in 25 of the world bears a letter, on a few per cent of its pixels, and sr256 did not heed what captions say
of it. So nine batches in ten of the first lesson are windows of 64 px (of 256) on a letter, under so much augmentation
that nothing else tells it. What comes of it is told as *heed*: the loss with another letter in the caption over that
with the right one, on validation windows; 1 is no heed at all. The second lesson is sr256's own, on crops of whole
pictures, with three batches in ten on letters still, while the learning rate comes down to 0; but patterns were heeded
less after it than before. So in the third, as long again, two batches in ten are on letters, and two on patterns.
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
from imagen_lite.scenes.world import LETTERS, PATTERNS, SPLITS, Scene, sample_scene
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
BOTH = dataclasses.replace(WHOLE, pictures=6000, train=dataclasses.replace(WHOLE.train, steps=10_000))
LESSONS = {  # each a recipe, and the share of batches on each detail
    "close": (CLOSE, {"letter": 0.9}),
    "whole": (WHOLE, {"letter": 0.3}),
    "both": (BOTH, {"letter": 0.2, "pattern": 0.2}),
}
WORDS = {"letter": tuple(LETTERS), "pattern": PATTERNS[1:]}  # a plain thing bears no pattern
LEVELS = (0.45, 0.95)  # of the recipe's highest, uniform; at 1, little is left of a letter in the low-res picture
LOG_SNR = (-3.5, 2.5)  # uniform; where a letter's shape is settled
STEPS = 250  # between two measurements
CPU = torch.device("cpu")


def bearers(scene: Scene, detail: str) -> list[int]:
    """Which things of a scene bear a letter, or a pattern."""
    return [i for i, thing in enumerate(scene.things) if getattr(thing, detail) in WORDS[detail]]


def bearing(detail: str, split: str, n: int) -> list[int]:
    """The first `n` seeds of a split whose scenes have just one thing that bears a letter, or a pattern."""
    found: list[int] = []
    for seed in SPLITS[split]:
        if len(found) == n:
            break
        if len(bearers(sample_scene(seed), detail)) == 1:
            found.append(seed)
    return found


def window_on(scene: Scene, thing: int, size: int = 256) -> tuple[int, int, int, int]:
    """The square of a picture of `size` pixels around a thing, on a grid of 64: (top, left, side, side)."""
    cell, last = size // 64, 64 - SIDE // 4
    x, y = box_of(scene, thing)[:2]
    left, top = (cell * min(max(round(64 * v - SIDE / 8), 0), last) for v in (x, y))
    return top, left, SIDE * size // 256, SIDE * size // 256


def rendered(path: Path, detail: str, seeds: Sequence[int]) -> None:
    """Renders the windows of some scenes, at 256 and at 64 px a picture, into a file, if it is not there."""
    if path.exists():
        return
    scenes, content = [sample_scene(seed) for seed in seeds], io.BytesIO()
    things = [bearers(scene, detail)[0] for scene in scenes]
    large, small = (
        np.concatenate([
            to_uint8(render([scene], size, window=window_on(scene, thing, size))).numpy()
            for scene, thing in zip(scenes, things, strict=True)
        ])
        for size in (256, 64)
    )  # fmt: skip
    np.savez(content, large=large, small=small)
    weights.write_atomic(path, content.getvalue())


def windows(detail: str, split: str, n: int) -> tuple[Pool, Pool]:
    """The pools of `n` windows, large and small, each with captions that tell the letter, or the pattern."""
    seeds, folder = bearing(detail, split, n), data.cache_folder() / f"{detail}s"
    starts = range(0, n, SHARD // 4)
    paths = [folder / f"{split}-{i:05d}-{min(SHARD // 4, n - i)}.npz" for i in starts]
    parts = zip(paths, starts, strict=True)
    side_by_side([partial(rendered, path, detail, seeds[i : i + SHARD // 4]) for path, i in parts])
    pictures = [np.load(path) for path in paths]
    texts = [said(sample_scene(seed), detail) for seed in seeds]
    large, small = (np.concatenate([part[key] for part in pictures]) for key in ("large", "small"))
    return Pool([large], texts, [[]] * n, seeds), Pool([small], texts, [[]] * n, seeds)


def told(scene: Scene, detail: str, word: str = "") -> str:
    """A caption of the one thing alone that bears a letter, or a pattern; or with another word for that."""
    thing = scene.things[bearers(scene, detail)[0]]
    word = word or getattr(thing, detail)
    bare = f"{thing.color} {thing.kind}"
    return f"a {bare} with the letter {word} on it" if detail == "letter" else f"a {word} {bare}"


def said(scene: Scene, detail: str) -> list[str]:
    """Captions of a scene that tell its letter, or its pattern."""
    word = getattr(scene.things[bearers(scene, detail)[0]], detail)
    ways = (f"letter {word}", f" {word}-", f" {word} on it") if detail == "letter" else (f" {word} ",)
    return [told(scene, detail), *(text for text in captions(scene) if any(way in f" {text} " for way in ways))]


class OnlyTold(SuperResolutionLoss):
    """The loss where only the caption can tell a detail: at `LEVELS` of augmentation, at `LOG_SNR` of noise."""

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


def another(word: str, detail: str, i: int) -> str:
    """Another word for a detail, each in its turn as `i` grows."""
    words = WORDS[detail]
    return words[(words.index(word) + 1 + i % (len(words) - 1)) % len(words)]


@torch.no_grad()
def heed(
    model: nn.Module, encoder: FrozenTextEncoder, held: Pairs, scenes: Sequence[Scene], detail: str
) -> dict[str, float]:
    """The loss with another word in the caption over that with the right one, by level of augmentation."""
    right = [getattr(scene.things[bearers(scene, detail)[0]], detail) for scene in scenes]
    words = [right, [another(word, detail, i) for i, word in enumerate(right)]]
    loss, found, batch = OnlyTold(model.eval(), held, 12345, default_dtype(CPU)), {}, held.recipe.train.batch
    for level in (0.1, 0.5, 0.9):
        sums = [0.0, 0.0]
        for i in range(0, len(scenes), batch):
            rows = slice(i, i + batch)
            images, small = (to_images(pictures[rows]) for pictures in (held.pictures, held.low_res))
            t, at = times(torch.arange(len(images)) / len(images)), torch.full((len(images),), level)
            for k in range(2):
                pairs = zip(scenes[rows], words[k][rows], strict=True)
                text = encoder([told(scene, detail, word) for scene, word in pairs])
                sums[k] += float(loss.at(i, images, small, text, t, at)) * len(images)
        found[f"{level:g}"] = round(sums[1] / sums[0], 4)
    return found


def looked_at(u: float, shares: dict[str, float]) -> str | None:
    """The detail that a batch is on, by a number from [0, 1); None: it is on whole pictures."""
    for detail, share in shares.items():
        if u < share:
            return detail
        u -= share
    return None


def train(lesson: str, max_minutes: float | None = None) -> Path:
    """Gives a lesson, or goes on with it, and exports the averaged weights; returns their folder."""
    shipped, runs = weights.DATA / "weights" / "sr256", data.cache_folder() / "runs"
    close, whole = (runs / f"sr256-{name}" / "weights" for name in ("close", "whole"))
    begin, out = {"close": (shipped, close), "whole": (close, whole), "both": (whole, shipped)}[lesson]
    return teach(*LESSONS[lesson], begin, out, runs / f"sr256-{lesson}", max_minutes)


def teach(
    recipe: Recipe, shares: dict[str, float], begin: Path, out: Path, run: Path, max_minutes: float | None,
    held: int = 256,
) -> Path:  # fmt: skip
    """Trains the weights in `begin`, these shares of the batches on details, and exports their average to `out`."""
    encoder = load_text_encoder(ENCODER, CPU)
    on_details = dataclasses.replace(CLOSE, text_dropout=recipe.text_dropout, augmentation=recipe.augmentation)
    anywhere = Pairs(recipe.pools(recipe.pictures, "train", CPU), encoder, recipe, CPU)
    there, asked = (
        {detail: Pairs(windows(detail, split, n), encoder, on_details, CPU) for detail in shares}
        for split, n in (("train", 4000), ("val", held))
    )
    scenes = {detail: [sample_scene(seed) for seed in bearing(detail, "val", held)] for detail in shares}
    stage, average, begun = load_stage(begin, CPU), EfficientUNet(recipe.unet), weights.load_manifest(begin)
    stage.unet.requires_grad_(True)
    usual = SuperResolutionLoss(stage.unet, anywhere, 0, default_dtype(CPU))
    only_told = {detail: OnlyTold(stage.unet, pairs, 0, default_dtype(CPU)) for detail, pairs in there.items()}

    def loss(step: int) -> Tensor:
        detail = looked_at(float(keyed_uniform(1, step, torch.zeros(1), 1)[0]), shares)
        return (only_told[detail] if detail else usual)(step)

    def measured(_: nn.Module, ema: Ema, progress: Progress) -> dict:
        ema.copy_to(average)
        found = {detail: heed(average, encoder, pairs, scenes[detail], detail) for detail, pairs in asked.items()}
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
    parser = argparse.ArgumentParser(description="Teach sr256 to heed captions.")
    parser.add_argument("lesson", choices=LESSONS)
    parser.add_argument("--max-minutes", type=float)
    options = parser.parse_args()
    print(train(options.lesson, options.max_minutes))


if __name__ == "__main__":
    main()
