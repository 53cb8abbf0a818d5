"""What guidance buys and costs, and what thresholding saves of it: the shipped base model as it is (§4.3, Fig. 4)."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from experiments.claims.results import folder_of
from experiments.distances import distance, nearer, numbers
from experiments.results import BASE
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.evaluate import alignment, saturated_share
from imagen_lite.evaluate.alignment_report import PLAIN, Case, cases, interval
from imagen_lite.evaluate.fidelity import reader_features
from imagen_lite.recipes.evaluation import kept
from imagen_lite.scenes.clip_lite import kernel_distance
from imagen_lite.scenes.renderer import render

MODELS = (*BASE, "clip-lite")  # what draws, and what judges
SEEDS = (0, 1, 2)
WEIGHTS = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)
HIGH = (1.0, 3.0, 8.0, 15.0)
THRESHOLDS = ("none", "static", "dynamic")


def asked(n: int, seed: int) -> list[Case]:
    """`n` test captions of one thing, two things and a relation in equal parts; other ones for each seed."""
    each = -(-n // len(PLAIN))
    every = [cases(name, "test", each * (seed + 1))[each * seed :] for name in PLAIN]
    return [case for group in zip(*every, strict=True) for case in group][:n]


def cell(
    cascade: Cascade, some: list[Case], real: Tensor, weight: float, threshold: str, seed: int, batch: int = 64
) -> dict[str, Any]:
    """What is right of the pictures at one weight and threshold, and how far they are from the renders."""
    captions = [case.caption for case in some]
    drawn = torch.cat([
        cascade.sample(
            captions[i : i + batch], guidance_weight=weight, threshold=threshold, seed=seed * 10_000 + i, resolution=64
        ).images.cpu()
        for i in range(0, len(captions), batch)
    ])  # fmt: skip
    found = {"weight": weight, "threshold": threshold, **seen(drawn, captions, real)}
    return found | {"features": numbers(reader_features(drawn))}


def seen(images: Tensor, captions: list[str], real: Tensor) -> dict[str, Any]:
    """What is right, how far pictures are from the renders, and how much of them lies at the ends of the range."""
    return {
        "right": [int(v.aligned) for v in alignment(images, captions)],
        "kernel": round(kernel_distance(images, real), 4),
        "at_the_end": round(float(saturated_share(images).mean()), 4),
    }


def cells(name: str, ways: list[tuple[float, str]], n: int) -> dict[str, Any]:
    """All `ways` at all seeds, each seed with captions and noise of its own; the Fréchet distance over all seeds."""
    cascade, folder, rows, like = load_cascade(), folder_of(name, MODELS), [], []
    for seed in SEEDS:
        some = asked(n, seed)
        real = torch.cat([render([c.scene for c in some[i : i + 60]], 64).cpu() for i in range(0, n, 60)])
        like += numbers(reader_features(real))
        for way in tqdm(ways, desc=f"{name}, seed {seed}"):
            find = partial(cell, cascade, some, real, *way, seed)
            rows.append({"seed": seed, **kept(folder / f"{n}-{seed}-{way[0]:g}-{way[1]}.json", find)})
    features = {way: [f for r in rows if (r["weight"], r["threshold"]) == way for f in r["features"]] for way in ways}
    pooled = distances({way: np.array(table) for way, table in features.items()}, np.array(like))
    rows = [{key: value for key, value in row.items() if key != "features"} for row in rows]
    return {"n": n, "seeds": list(SEEDS), "rows": rows, "pooled": pooled}


def distances(features: dict[tuple[float, str], np.ndarray], real: np.ndarray) -> list[dict[str, Any]]:
    """The Fréchet distance of each way, and how much further off it is than the nearest, with the paired interval."""

    found = {way: distance(table, real) for way, table in features.items()}
    least = features[min(found, key=lambda way: found[way])]
    return [
        {
            "weight": way[0], "threshold": way[1], "frechet": round(found[way], 5),
            "more": interval(least, table, real, statistic=nearer, resamples=200),
        }
        for way, table in features.items()
    ]  # fmt: skip


def trade_off(n: int = 201) -> dict[str, Any]:
    """Alignment and distance to renders over the guidance weight, thresholded dynamically, as always."""
    return cells("trade-off", [(weight, "dynamic") for weight in WEIGHTS], n)


def thresholds(n: int = 132) -> dict[str, Any]:
    """The same at few weights, without thresholding, with static and with dynamic thresholding."""
    return cells("thresholds", [(weight, name) for weight in HIGH for name in THRESHOLDS], n)


def pooled(rows: list[dict], **where: Any) -> np.ndarray:
    """The hits of all seeds at a weight and a threshold, in the order of captions."""
    return np.concatenate([r["right"] for r in rows if all(r[k] == v for k, v in where.items())]).astype(float)


def mean_of(rows: list[dict], key: str, **where: Any) -> list[float]:
    """A number of each seed."""
    return [r[key] for r in rows if all(r[k] == v for k, v in where.items())]
