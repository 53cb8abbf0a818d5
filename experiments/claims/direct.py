"""Thresholds once more, for a network that answers with ε itself and learns by the plain loss on it, as the paper's
does (§2.1, §2.3), and for its twin, which is preconditioned and trained as all networks of imagen_lite are.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.claims import lab
from experiments.claims.guidance import HIGH, THRESHOLDS, seen
from experiments.claims.lab import Trial
from experiments.claims.results import folder_of
from imagen_lite.cascade import Cascade
from imagen_lite.recipes.base64 import Base64Loss
from imagen_lite.recipes.evaluation import kept
from imagen_lite.text import TextEmbedding
from imagen_lite.unet import EfficientUNet, preconditioning

ITSELF, TWIN = "ε itself", "preconditioned"


class DirectUNet(EfficientUNet):
    """The same layers without preconditioning: eps = F(x_t)."""

    def forward(self, x_t: Tensor, t: Tensor, text: TextEmbedding, *conditions: Tensor) -> Tensor:
        """As `EfficientUNet.forward`."""
        c_skip, _, c_out = preconditioning(t, torch.ones(1, 1, 1, 1))
        return (super().forward(x_t, t, text, *conditions) - c_skip * x_t.float()) / c_out


class PlainLoss(Base64Loss):
    """The paper's: each error of ε counts alike."""

    def weight(self, t: Tensor) -> Tensor:
        """Ones (B,)."""
        return torch.ones_like(t)


NETWORKS = {ITSELF: Trial("direct", network=DirectUNet, loss=PlainLoss), TWIN: Trial("t5-lite-base")}


def cell(cascade: Cascade, asked: list[lab.Ask], weight: float, threshold: str, seed: int) -> dict[str, Any]:
    """What is right at a weight and threshold, how far from renders, and how much lies at the ends of the range."""
    images = lab.drawn(cascade, [ask.caption for ask in asked], weight, seed, threshold)
    found = seen(images, [ask.means for ask in asked], lab.rendered(asked, max(cascade.stages)))
    return {"weight": weight, "threshold": threshold, **found}


def judged(name: str, seed: int, n: int) -> dict[str, Any]:
    """All weights and thresholds of one network, with captions of one thing that no other seed asks."""
    cascade, progress = lab.train(dataclasses.replace(NETWORKS[name], seed=seed))
    asked = lab.asks("one thing", n * (seed + 1))[n * seed :]
    cells = [cell(cascade, asked, weight, threshold, seed) for weight in HIGH for threshold in THRESHOLDS]
    return {"network": name, "seed": seed, "pictures": progress.pictures, "cells": cells}


def thresholds(n: int = 100, seeds: Sequence[int] = (0,)) -> dict[str, Any]:
    """Both networks, each seed of one beside the same of the other."""
    parts = [
        partial(kept, folder_of("direct") / f"{name}-{seed}-{n}.json", partial(judged, name, seed, n))
        for seed in seeds
        for name in NETWORKS
    ]
    found = lab.a_core_each(parts)
    rows = [{"network": f["network"], "seed": f["seed"], **row} for f in found for row in f["cells"]]
    rows[0]["seconds"] = sum(f["seconds"] for f in found)
    return {"n": n, "seeds": list(seeds), "rows": rows}


def of(result: dict[str, Any], network: str) -> dict[str, Any]:
    """The result of one network alone, in the shape of `guidance.thresholds`."""
    return result | {"rows": [row for row in result["rows"] if row["network"] == network]}
