"""What the same minutes of one core teach: our U-Net and recipe beside the peers' U-Nets with the usual recipe.

All see the same pictures (one thing, 32 px) in the same order, the same noise and the same embeddings of t5-lite, in
the same training loop (AdamW, a warm-up, an average of the weights), and are drawn from by the same sampler. Ours has
its own preconditioning and loss; the peers predict the noise, with the paper's plain loss. Each is trained at three
learning rates and judged at the best. Time is that of training steps alone. A run goes on where it was stopped.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from experiments.claims import lab
from experiments.claims.lab import CPU, TRAIN, OneSize
from experiments.peers import matching
from experiments.peers.curves import LOSSES, curve_of, seconds_to, whole_curve
from experiments.peers.networks import LONGEST, Shape, build
from imagen_lite import data
from imagen_lite.cascade import Cascade
from imagen_lite.data import Pool
from imagen_lite.evaluate import alignment
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.evaluate.fidelity import frechet_distance, reader_features
from imagen_lite.prediction import Weighting, loss_weight
from imagen_lite.recipes.evaluation import kept
from imagen_lite.recipes.material import embedded
from imagen_lite.recipes.stages import ENCODER, Captioned, caption_rows, denoising_loss, precision
from imagen_lite.scenes.clip_lite import kernel_distance
from imagen_lite.scenes.renderer import render
from imagen_lite.stage import Stage, default_dtype
from imagen_lite.text import FrozenTextEncoder, load_text_encoder
from imagen_lite.train import Ema, Progress, fit, keyed_normal, keyed_uniform
from imagen_lite.unet import UNetConfig
from imagen_lite.weights import write_atomic

MINUTES = 12.0
N = 400  # pictures drawn for each weight; the Fréchet distance needs twice its 192 features
SHARES = (0.25, 0.5, 1.0)
RATES = {  # of learning; the best of the three, by the plain loss, counts
    "ours": (2e-3, 4e-3, 8e-3),
    "diffusers": (3e-3, 1e-2, 3e-2),
    "imagen-pytorch": (3e-3, 1e-2, 3e-2),
}
WEIGHTS = (1.0, 2.0, 4.0)  # of guidance; the best counts
MILESTONES = tuple(round(500 * 2 ** (k / 2)) for k in range(28))  # pictures at which a point of the curve is measured


@dataclass(frozen=True)
class Run:
    """One training: `network` is a row of `matching.matches`."""

    network: dict[str, Any]
    rate: float
    seed: int
    minutes: float

    @property
    def ours(self) -> bool:
        """Whether it is our network, with our recipe."""
        return self.network["library"] == "ours"

    @property
    def folder(self) -> Path:
        """Where its checkpoint, its log, its averaged weights and what was found lie; they do not ship."""
        patch = self.network["shape"]["patch"]
        name = f"{self.network['library']}-{patch}-{self.network['same']}-{self.rate:g}-{self.seed}-{self.minutes:g}"
        return data.cache_folder() / "runs" / "peers" / name

    def average(self, share: float) -> Path:
        """Where its averaged weights lie, as they were at a share of its minutes."""
        return self.folder / f"{share:g}.safetensors"

    def model(self) -> nn.Module:
        """The network with fresh weights."""
        torch.manual_seed(self.seed)
        values = self.network["shape"]
        model = build(UNetConfig.from_dict(values) if self.ours else Shape.from_dict(values))
        return model.to(memory_format=torch.channels_last)  # pyright: ignore


class NoiseLoss:
    """The loss of a step on the noise, as `base64.Base64Loss` at one size, with a weighting of one's choice."""

    def __init__(self, model: nn.Module, batches: Captioned[OneSize], seed: int, weighting: Weighting):
        self.model, self.batches, self.seed, self.weighting = model, batches, seed, weighting

    def __call__(self, step: int) -> Tensor:
        """Mean squared error, float32 scalar."""
        recipe, samples = self.batches.recipe, self.batches.samples
        images, row = self.batches.batch(self.seed, step)
        t = self.batches.spread(self.seed, step)
        eps = keyed_normal(self.seed, step, samples, tuple(images.shape[1:]), stream=3)
        keep = keyed_uniform(self.seed, step, samples, 2, stream=2)[:, 1] >= recipe.text_dropout
        with precision(images.device, default_dtype(CPU)):
            weight = loss_weight(recipe.schedule.log_snr(t), "eps", self.weighting)
            text = self.batches.text(row).drop(keep)
            return denoising_loss(self.model, recipe.schedule, images, t, eps, weight, text)


def batches_of(pool: Pool, recipe: OneSize) -> Captioned[OneSize]:
    """Batches with captions that were embedded once, and are read from disk."""
    return Captioned(pool, embedded(caption_rows(pool)[0], ENCODER, CPU), recipe, CPU)


@torch.no_grad()
def held_loss(model: nn.Module, held: Captioned[OneSize], weighting: Weighting = "plain") -> float:
    """The loss on pictures of the validation split, with fixed noise: the same measure for all."""
    loss = NoiseLoss(model.eval(), held, 12345, weighting)
    return float(torch.stack([loss(step) for step in range(lab.HELD // held.recipe.train.batch)]).mean())


@torch.no_grad()
def drawn(model: nn.Module, encoder: FrozenTextEncoder, recipe: OneSize, n: int, seed: int) -> dict[str, Any]:
    """Alignment of what is drawn, and its distances to renders of the same scenes, at the weight with most right."""
    stage = Stage(model.eval(), recipe.schedule, recipe.pixels, sampling=lab.SAMPLING)
    cascade = Cascade(encoder, {recipe.pixels: stage}, default_dtype(CPU))
    asked = lab.asks("one thing", n)
    real = lab.enlarged(F.avg_pool2d(render([ask.scene for ask in asked], 64), 64 // recipe.pixels))
    rows = []
    for weight in WEIGHTS:
        images = lab.drawn(cascade, [ask.caption for ask in asked], weight, seed)
        hits = np.array([v.aligned for v in alignment(images, [ask.means for ask in asked])], float)
        a, b = reader_features(images), reader_features(real)
        rows.append({
            "weight": weight, "right": round(hits.mean(), 4), "interval": interval(hits),
            "kernel": round(float(kernel_distance(images, real)), 3),
            "frechet": round(frechet_distance(a, b), 4) if n >= 2 * a.shape[1] else None,
        })  # fmt: skip
    return {"n": n, "best": max(rows, key=lambda row: row["right"]), "weights": rows}


def recipe_of(run: Run, encoder: FrozenTextEncoder) -> OneSize:
    """What a run is trained with, and drawn with."""
    train = dataclasses.replace(TRAIN, lr=run.rate, seed=run.seed, steps=10**7, decay_from=None)
    return OneSize(dataclasses.replace(lab.UNET, text_dim=encoder.dim), train, text_length=LONGEST)


def trained(run: Run) -> dict[str, Any]:
    """Trains a run, and keeps its losses and its averaged weights at each of `SHARES` of its minutes."""
    recipe = recipe_of(run, load_text_encoder(ENCODER, CPU))
    train = recipe.train
    held = batches_of(lab.one_thing(data.SHARD, "val"), dataclasses.replace(recipe, text_dropout=0.0))
    model, average = run.model(), run.model()
    loss = NoiseLoss(model, batches_of(lab.one_thing(), recipe), run.seed, "snr+1" if run.ours else "plain")

    def measured(_: nn.Module, ema: Ema, __: Progress) -> dict[str, float]:
        ema.copy_to(average)
        return {"held": round(held_loss(average, held), 5), "held_v": round(held_loss(average, held, "snr+1"), 5)}

    def point(share: float) -> dict[str, Any]:
        ema, progress, minutes = Ema(model, train.ema), Progress(), share * run.minutes
        while (left := lab.minutes_left(run.folder, minutes)) > 0.01 or not progress.step:
            begun = time.monotonic()
            ema, progress = fit(
                model, loss, train, run.folder, max_minutes=left, milestones=MILESTONES, on_milestone=measured
            )
            if time.monotonic() - begun < 60 * left - 1:
                raise RuntimeError(f"stopped after {progress.step:,} steps; the same command goes on from there")
        write_atomic(run.average(share), save({name: value.contiguous() for name, value in ema.shadow.items()}))
        about = {"minutes": minutes, "trained": round(progress.seconds, 1), "pictures": progress.pictures}
        return about | measured(model, ema, progress)

    points = [kept(run.folder / f"{share:g}.json", partial(point, share)) for share in SHARES]
    return {"rate": run.rate, "seed": run.seed, "points": points, "curve": curve_of(run.folder / "log.jsonl")}


def judged(run: Run, share: float, n: int) -> dict[str, Any]:
    """What the averaged weights draw, at a share of a run's minutes; what was found is kept, and read the next time."""

    def find() -> dict[str, Any]:
        encoder, model = load_text_encoder(ENCODER, CPU), run.model()
        model.load_state_dict(load_file(run.average(share)), strict=False)
        return drawn(model, encoder, recipe_of(run, encoder), n, run.seed)

    return kept(run.folder / f"drawn-{share:g}-{n}.json", find)


def measure(minutes: float = MINUTES, n: int = N, seeds: Sequence[int] = (0,), patch: int = 1) -> dict[str, Any]:
    """All runs, a core each; of every network the learning rate whose last loss is least.

    Args:
        patch: 1, the peers on whole pixels, as they are made to; 2, on folded ones.
    """
    networks = [
        network
        for network in matching.matches(lab.UNET, lab.SIDE)
        if network["library"] == "ours" or (network["shape"]["patch"] == patch and network["same"] != "gflop")
    ]
    runs = [
        Run(network, rate, seed, minutes)
        for seed in seeds
        for network in networks
        for rate in RATES[network["library"]]
    ]
    for pool in (lab.one_thing(), lab.one_thing(data.SHARD, "val")):
        embedded(caption_rows(pool)[0], ENCODER, CPU)  # once, by all cores
    found = lab.a_core_each([partial(trained, run) for run in runs])
    _judge(found, runs, SHARES[-1:], n)
    rows, best = [], []
    for network in networks:
        tried = [(run, one) for run, one in zip(runs, found, strict=True) if run.network == network]
        rates = {rate: [one for run, one in tried if run.rate == rate] for rate in RATES[network["library"]]}
        rate = min(rates, key=lambda rate: _last(rates[rate]))
        best += [(run, one) for run, one in tried if run.rate == rate]
        rows.append({
            **network, "rate": rate, "runs": rates[rate],
            "rates": [{"rate": rate, "held": _last(some), "right": _right(some)} for rate, some in rates.items()],
        })  # fmt: skip
    _judge([one for _, one in best], [run for run, _ in best], SHARES[:-1], n)
    others = [row for row in rows if row["library"] != "ours"]
    goals = {loss: min(_last(row["runs"], loss) for row in others) for loss in LOSSES}
    for row in rows:
        row["seconds_to"] = {
            loss: [seconds_to(whole_curve(one), goal, loss) for one in row["runs"]] for loss, goal in goals.items()
        }
    return {"n": n, "minutes": minutes, "seeds": list(seeds), "goals": goals, "rows": rows}


def _judge(found: Sequence[dict[str, Any]], runs: Sequence[Run], shares: Sequence[float], n: int) -> None:
    """Puts what the runs draw at these shares into their points."""
    jobs = [partial(judged, run, share, n) for run in runs for share in shares]
    pictures = iter(lab.a_core_each(jobs) if jobs else [])
    for one in found:
        for share in shares:
            one["points"][SHARES.index(share)].update(next(pictures))


def _last(runs: Sequence[dict[str, Any]], loss: str = "held") -> float:
    """The mean of the runs' last losses."""
    return round(float(np.mean([one["points"][-1][loss] for one in runs])), 5)


def _right(runs: Sequence[dict[str, Any]]) -> float:
    """The mean of the shares that they draw right at the end."""
    return round(float(np.mean([one["points"][-1]["best"]["right"] for one in runs])), 4)
