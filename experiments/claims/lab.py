"""Small text-to-image models, alike but for one thing: 32 px, one thing a picture, some minutes of one core each.

A `Trial` names what differs. What it draws is enlarged to 64 px and judged as the shipped model is: of renders made so
small and enlarged again, the reader reads as many right as of sharp ones.
"""

import dataclasses
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.claims.encoders import LENGTH, load_encoder
from experiments.claims.unclip import load_predicted
from imagen_lite import data, weights
from imagen_lite.cascade import Cascade
from imagen_lite.data import Pool, to_images, to_uint8
from imagen_lite.evaluate import alignment
from imagen_lite.evaluate.alignment_report import cases
from imagen_lite.recipes import base64
from imagen_lite.recipes.stages import Captioned, EncodedText
from imagen_lite.scenes.clip_lite import kernel_distance
from imagen_lite.scenes.corpus import FACTS
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.words import article
from imagen_lite.scenes.world import COLORS, KINDS, Scene, sample_scene
from imagen_lite.stage import Sampling, Stage, default_dtype
from imagen_lite.text import FrozenTextEncoder, TextEmbedding
from imagen_lite.train import Progress, TrainConfig, fit
from imagen_lite.unet import EfficientUNet, UNetConfig

SIDE = 32
PICTURES = 12_000  # of the world's pool, of which a third show one thing
UNET = UNetConfig(channels=(32, 64, 96), blocks=(1, 2, 2), head_channels=32)
TRAIN = TrainConfig(batch=64, lr=2e-3, warmup=100, steps=2000, decay_from=1000, ema=0.995)
SAMPLING = Sampling(steps=16, guidance_weight=3.0, spacing="log_snr", lambda_start=-8.0)
WEIGHTS = (1.0, 2.0, 4.0, 8.0)
HELD = 1024  # pictures that a validation loss is measured on
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trial:
    """One run: a text encoder, a network and a seed; `name` is for people and folders."""

    name: str
    encoder: str = "t5-lite-base"
    unet: UNetConfig = UNET
    seed: int = 0
    steps: int = TRAIN.steps
    side: int = SIDE
    minutes: float | None = None  # it stops after so long, if `steps` are not over before
    network: type[EfficientUNet] = EfficientUNet
    loss: type[base64.Base64Loss] = base64.Base64Loss

    @property
    def folder(self) -> Path:
        """Where its checkpoint and its log lie; they do not ship."""
        return data.cache_folder() / "runs" / "claims" / f"{self.name}-{self.seed}"

    def recipe(self, dim: int) -> base64.Recipe:
        """As base64's, at one size from first to last, for text embeddings of width `dim`."""
        train = dataclasses.replace(TRAIN, seed=self.seed, steps=self.steps, decay_from=self.steps // 2)
        unet = dataclasses.replace(self.unet, text_dim=dim)
        return OneSize(unet, train, text_length=LENGTH, pixels=self.side)


@dataclass(frozen=True)
class OneSize(base64.Recipe):
    """A recipe that sees all its pictures at `pixels` a side."""

    pixels: int = SIDE

    def side(self, seen: int) -> int:
        """Always the same."""
        return self.pixels


def one_thing(count: int = PICTURES, split: str = "train", side: int = SIDE) -> Pool:
    """The pictures among the first `count` of a split that show one thing, at `side` pixels, at most 64."""
    pool = data.pool(count, split=split)
    rows = [i for i, seed in enumerate(pool.seeds) if len(sample_scene(seed).things) == 1]
    small = F.avg_pool2d(to_images(pool.tensor()[rows]), 64 // side)
    captions, mirrored = ([every[i] for i in rows] for every in (pool.captions, pool.mirrored))
    return Pool([to_uint8(small).numpy()], captions, mirrored, [pool.seeds[i] for i in rows])


class LearnedText(EncodedText):
    """As `EncodedText`, with gradients: for an encoder that learns with the picture model."""

    def __call__(self, row: Tensor) -> TextEmbedding:
        """The captions of those rows (B,)."""
        lengths = self.lengths[row]
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return TextEmbedding(self.encoder.model(self.ids[row, : mask.shape[1]].long(), mask) * mask[..., None], mask)


def train(trial: Trial) -> tuple[Cascade, Progress]:
    """Train a trial, or go on, and give what draws with its averaged weights."""
    pool, text = one_thing(side=trial.side), None
    if trial.encoder == "predicted":
        encoder, text = load_predicted(pool, trial.seed)
    else:
        encoder = load_encoder(trial.encoder, trial.seed)
    recipe = trial.recipe(encoder.dim)
    reads = cast(FrozenTextEncoder, encoder)  # as it is called here
    batches = Captioned(pool, reads, recipe, CPU)
    torch.manual_seed(trial.seed)
    unet = trial.network(recipe.unet).to(memory_format=torch.channels_last)  # pyright: ignore
    model: nn.Module = unet
    if text is not None:
        batches.text = cast(EncodedText, text)
    if encoder.learns:
        captions = [text for own, mirror in zip(pool.captions, pool.mirrored, strict=True) for text in own + mirror]
        batches.text = LearnedText(captions, reads, LENGTH, CPU)
        model = nn.ModuleDict({"unet": unet, "text": encoder.model})
    loss = trial.loss(unet, batches, trial.seed, default_dtype(CPU))
    left = None if trial.minutes is None else minutes_left(trial.folder, trial.minutes)
    ema, progress = fit(model, loss, recipe.train, trial.folder, max_minutes=left)
    check_ended(progress, trial.steps, trial.minutes)
    ema.copy_to(model)
    stage = Stage(unet.eval().requires_grad_(False), recipe.schedule, trial.side, sampling=SAMPLING)
    return Cascade(encoder, {trial.side: stage}, default_dtype(CPU)), progress


def minutes_left(folder: Path, minutes: float) -> float:
    """How much of `minutes` a run has yet to train, by its log."""
    log = folder / "log.jsonl"
    done = json.loads(log.read_text().splitlines()[-1])["seconds"] / 60 if log.exists() else 0.0
    return max(0.0, minutes - done)


def check_ended(progress: Progress, steps: int, minutes: float | None) -> None:
    """Raises RuntimeError for a training that was interrupted: it must not be judged as if it had ended."""
    if progress.step < steps and (minutes is None or progress.seconds < 60 * minutes - 15):
        raise RuntimeError(
            f"stopped after {progress.step:,} steps, before its end; the same command goes on from there"
        )


# What is asked of it: pairs of a caption and what it means in plain words ---------------------------------------------


@dataclass(frozen=True)
class Ask:
    """A caption, what it means in plain words, and the scene it is about."""

    caption: str
    means: str
    scene: Scene


def asks(category: str, n: int, split: str = "test") -> list[Ask]:
    """`n` captions of a category: "one thing", "text-only word", or one of `HARD`, of scenes that it shares with "one
    thing"."""
    if category not in HARD:
        return [Ask(case.caption, case.caption, case.scene) for case in cases(category, split, n)]
    found = []
    for case in cases("one thing", split, n):
        thing, rng = case.scene.things[0], random.Random(f"{category} {case.scene.seed}")
        other = rng.choice([c for c in COLORS if c != thing.color]), rng.choice([k for k in KINDS if k != thing.kind])
        text = HARD[category](thing.color, thing.kind, *other, rng)
        found.append(Ask(text, article(f"{thing.color} {thing.kind}"), case.scene))
    return found


HARD = {
    "fact of a colour": lambda color, kind, _, __, rng: (
        f"{article(kind)} with the colour of {rng.choice(FACTS[color])}"
    ),
    "fact of a kind": lambda color, kind, _, __, rng: f"{article(color)} thing that {rng.choice(FACTS[kind])}",
    "negation": lambda color, kind, color2, kind2, _: (
        f"not {article(f'{color2} {kind2}')} but {article(f'{color} {kind}')}"
    ),
    "coreference": lambda color, kind, *_: f"there is {article(kind)}. it is {color}.",
}


def drawn(
    cascade: Cascade, captions: list[str], weight: float, seed: int, threshold: str = "dynamic", batch: int = 128
) -> Tensor:
    """What is drawn of the captions, enlarged to what the judges look at, (n, 3, 64, 64)."""
    size = max(cascade.stages)
    parts = [
        cascade.sample(
            captions[i : i + batch], guidance_weight=weight, threshold=threshold, seed=seed + i, resolution=size
        ).images
        for i in range(0, len(captions), batch)
    ]
    return enlarged(torch.cat(parts))


def rendered(asked: Sequence[Ask], size: int) -> Tensor:
    """Renders of the scenes that were asked for, made as small as what is drawn, and enlarged as that is."""
    return enlarged(F.avg_pool2d(render([ask.scene for ask in asked], 64), 64 // size))


def enlarged(images: Tensor) -> Tensor:
    """(B, 3, side, side) -> (B, 3, 64, 64)."""
    return F.interpolate(images.float(), (64, 64), mode="bicubic").clamp(-1, 1)


def judge(cascade: Cascade, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """What is right, by category and weight, and how far the pictures are from renders of the same scenes."""
    rows = []
    for category in ("one thing", "text-only word", *HARD):
        asked = asks(category, n)
        real = rendered(asked, max(cascade.stages))
        for weight in WEIGHTS:
            images = drawn(cascade, [ask.caption for ask in asked], weight, seed)
            verdicts = alignment(images, [ask.means for ask in asked])
            rows.append({
                "category": category, "weight": weight, "right": [int(v.aligned) for v in verdicts],
                "distance": round(float(kernel_distance(images, real)), 6),
            })  # fmt: skip
    return rows


@torch.no_grad()
def held_loss(cascade: Cascade, recipe: base64.Recipe) -> float:
    """The loss on pictures of the validation split, with their captions and fixed noise: comparable between trials.

    (But for "predicted", which in training is told of the pictures themselves.)
    """
    recipe = dataclasses.replace(recipe, text_dropout=0.0)
    reads = cast(FrozenTextEncoder, cascade.text_encoder)
    ((side, stage),) = cascade.stages.items()
    held = Captioned(one_thing(data.SHARD, "val", side), reads, recipe, CPU)
    loss = base64.Base64Loss(stage.unet, held, 12345, default_dtype(CPU))
    return float(torch.stack([loss(step) for step in range(HELD // recipe.train.batch)]).mean())


def run(trial: Trial, n: int = 100) -> dict[str, Any]:
    """Train and judge a trial; what was found is kept beside its checkpoint, and read the next time."""
    path = trial.folder / "found.json"
    if path.exists():
        return json.loads(path.read_text())
    cascade, progress = train(trial)
    unet = cast(EfficientUNet, cascade.stages[trial.side].unet)
    found = {
        "trial": trial.name, "seed": trial.seed, "encoder": trial.encoder, "pictures": progress.pictures,
        "parameters": sum(p.numel() for p in unet.parameters()), "seconds": round(progress.seconds),
        "loss": round(held_loss(cascade, trial.recipe(unet.config.text_dim)), 5), "n": n, "rows": judge(cascade, n),
    }  # fmt: skip
    weights.write_atomic(path, json.dumps(found))
    return found


def run_all(trials: Sequence[Trial], n: int = 100) -> list[dict[str, Any]]:
    """All trials, as many at once as there are cores, a core each; what was found before is only read.

    On two threads one such small network is not twice as fast as on one.
    """
    left = dict.fromkeys(trial for trial in trials if not (trial.folder / "found.json").exists())
    a_core_each([partial(run, trial, n) for trial in left])
    return [run(trial, n) for trial in trials]


def a_core_each(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the jobs give, of trials that see the pools, as `side_by_side`."""
    for count, split in ((PICTURES, "train"), (data.SHARD, "val")):  # rendered once, by all cores
        data.pool(count, split=split)
    return side_by_side(jobs)


def side_by_side(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the jobs give, each in a process of one thread, as many at once as there are cores."""
    with get_context("spawn").Pool(max(1, min(len(jobs), os.cpu_count() or 1)), torch.set_num_threads, (1,)) as workers:
        return workers.map(called, jobs, chunksize=1)


def called(job: Callable[[], Any]) -> Any:
    """The job's result."""
    return job()


def hits(found: Sequence[dict[str, Any]], category: str, weight: float) -> np.ndarray:
    """How often each caption of a category is drawn right, (n,), over the seeds of a trial."""
    rows = [r for one in found for r in one["rows"] if (r["category"], r["weight"]) == (category, weight)]
    return np.mean([r["right"] for r in rows], axis=0)
