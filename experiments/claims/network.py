"""The Efficient U-Net against a classic one, as 16 to 64 super-resolution; and a cascade against one stage (§2.5, B.1).

Pictures of one thing. Alike are the parameters of the two U-Nets, and the seconds of one core of all that is compared.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from experiments.claims import lab
from experiments.claims.encoders import LENGTH
from experiments.claims.lab import CPU, Trial
from experiments.claims.results import folder_of
from imagen_lite import data
from imagen_lite.cascade import Cascade
from imagen_lite.recipes import super_resolution
from imagen_lite.recipes.evaluation import kept
from imagen_lite.recipes.stages import ENCODER
from imagen_lite.recipes.super_resolution import Pairs, Recipe, SuperResolutionLoss
from imagen_lite.stage import Sampling, Stage, default_dtype
from imagen_lite.text import load_text_encoder
from imagen_lite.train import Ema, Progress, TrainConfig, fit
from imagen_lite.unet import EfficientUNet, UNetConfig

MINUTES = 8.0  # of one core, for each enlarger and each base
CLASSIC = UNetConfig(  # 2.46 M parameters, 3.7 GFLOP
    channels=(32, 64, 96), blocks=(3, 3, 3), attention=(None, None, "self"), strides=(1, 2, 2), order="classic",
    skip_scale=1.0, patch=1, head_channels=32, low_res=True,
)  # fmt: skip
EFFICIENT = dataclasses.replace(  # 2.54 M parameters, 0.7 GFLOP
    CLASSIC, blocks=(1, 3, 4), strides=(2, 2, 2), order="efficient", skip_scale=2**-0.5
)
DESIGNS = {"Efficient": EFFICIENT, "classic": CLASSIC}
TRAIN = TrainConfig(batch=32, lr=1e-3, warmup=50, ema=0.99)
SAMPLING = Sampling(steps=12, guidance_weight=1.0, spacing="log_snr", lambda_start=-5.0, aug_level=0.1)
MILESTONES = tuple(500 * 2**k for k in range(10))  # pictures


def enlarge(name: str, seed: int, minutes: float) -> tuple[Stage, list[dict[str, Any]]]:
    """Train an enlarger from 16 to 64 px; the stage, and its validation loss after so many pictures and seconds."""
    encoder = load_text_encoder(ENCODER)
    recipe = Recipe(DESIGNS[name], dataclasses.replace(TRAIN, seed=seed), size=64, crop=32, text_length=LENGTH)
    pools, held = (
        (lab.one_thing(count, split, 64), lab.one_thing(count, split, 16))
        for count, split in ((lab.PICTURES, "train"), (data.SHARD, "val"))
    )
    torch.manual_seed(seed)
    model = EfficientUNet(recipe.unet).to(memory_format=torch.channels_last)  # pyright: ignore
    loss = SuperResolutionLoss(model, Pairs(pools, encoder, recipe, CPU), seed, default_dtype(CPU))
    curve: list[dict[str, Any]] = []

    def measure(_: object, ema: Ema, progress: Progress) -> dict[str, Any]:
        judged = EfficientUNet(recipe.unet).eval()
        ema.copy_to(judged)
        score = super_resolution.validation_loss(judged, encoder, held, recipe, default_dtype(CPU))
        curve.append({"pictures": progress.pictures, "seconds": round(progress.seconds, 1), "loss": round(score, 5)})
        return curve[-1]

    folder = data.cache_folder() / "runs" / "claims" / f"enlarger-{name}-{seed}"
    left = lab.minutes_left(folder, minutes)
    ema, progress = fit(
        model, loss, recipe.train, folder, max_minutes=left, milestones=MILESTONES, on_milestone=measure
    )
    lab.check_ended(progress, recipe.train.steps, minutes)
    measure(model, ema, progress)
    ema.copy_to(model)
    return Stage(model.eval().requires_grad_(False), recipe.schedule, 64, sampling=SAMPLING), curve


def design(name: str, seed: int) -> dict[str, Any]:
    """What one design has learned after `MINUTES`, and on the way."""
    curve = enlarge(name, seed, MINUTES)[1]
    last = curve[-1]
    return {"variant": name, "seed": seed, "rate": round(last["pictures"] / last["seconds"], 2), "curve": curve}


def designs(seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """Both designs, each seed of one beside the same of the other, so that they share the machine alike."""
    parts = [
        partial(kept, folder_of(f"design-{MINUTES:g}") / f"{name}-{seed}.json", partial(design, name, seed))
        for seed in seeds
        for name in DESIGNS
    ]
    return {"n": super_resolution.VALIDATION, "seeds": list(seeds), "rows": lab.a_core_each(parts)}


def at_the_same(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> tuple[float, float]:
    """The losses of two curves at the last number of pictures at which both were measured."""
    at, last = ({row["pictures"]: row["loss"] for row in curve} for curve in (a, b))
    same = max(at.keys() & last.keys())
    return at[same], last[same]


def whole(seed: int, n: int) -> dict[str, Any]:
    """One stage of 64 px, trained as long as the two of a cascade together."""
    cascade, progress = lab.train(Trial("one-stage", seed=seed, side=64, steps=10**6, minutes=2 * MINUTES))
    return {"variant": "one stage", "seed": seed, "pictures": [progress.pictures], "judged": lab.judge(cascade, n)}


def cascaded(seed: int, n: int) -> dict[str, Any]:
    """A base of 16 px and the Efficient enlarger, for half as long each."""
    base, progress = lab.train(Trial("base-16", seed=seed, side=16, steps=10**6, minutes=MINUTES))
    stage, curve = enlarge("Efficient", seed, MINUTES)
    cascade = Cascade(base.text_encoder, base.stages | {64: stage}, base.dtype)
    seen = [progress.pictures, curve[-1]["pictures"]]
    return {"variant": "cascade", "seed": seed, "pictures": seen, "judged": lab.judge(cascade, n)}


def stages(n: int = 100, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """A cascade against one stage at equal compute."""
    ways = {"one-stage": whole, "cascade": cascaded}
    parts = [
        partial(kept, folder_of(f"stages-{MINUTES:g}") / f"{name}-{seed}-{n}.json", partial(way, seed, n))
        for seed in seeds
        for name, way in ways.items()
    ]
    return {"n": n, "seeds": list(seeds), "rows": lab.a_core_each(parts)}
