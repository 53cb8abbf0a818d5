"""What the text encoder brings: having read before, its size, and how its tokens reach the network (§2.1, Fig. 4a, b).

All are `lab` trials: small models at 32 px, alike but for one thing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.claims import lab
from experiments.claims.lab import HARD, UNET, Trial, hits

ONE, THREE = (0,), (0, 1, 2)  # seeds: each takes some ten minutes of a core for each variant
W = 4.0  # the weight at which trials are compared
CATEGORIES = ("one thing", "text-only word", *HARD)
READ = ("t5-lite-base", "untrained", "joint", "clip-lite")  # what has read, and what has not
RIVALS = (*READ, "predicted", "bert-lite", "gpt-lite")
RIVAL_NAMES = {
    "clip-lite": "CLIP-lite's text, frozen (Stable Diffusion's way)",
    "joint": "text learned with the pictures (GLIDE's)",
    "predicted": "a predicted picture embedding (DALL-E 2's)",
    "bert-lite": "BERT's task",
    "gpt-lite": "GPT's task",
}
ENCODERS = ("t5-lite-tiny", "t5-lite-small", "t5-lite-base")
UNETS = {
    "U-Net 0.8 M": dataclasses.replace(UNET, channels=(16, 32, 64)),
    "U-Net 1.7 M": UNET,
    "U-Net 3.4 M": dataclasses.replace(UNET, channels=(64, 96, 128)),
}
WAYS = {"both": UNET, "pooled": dataclasses.replace(UNET, text="pooled")}
SKIPS = {"1/√2": UNET, "1": dataclasses.replace(UNET, skip_scale=1.0)}


def variants(
    encoders: Sequence[str] = (), unets: dict | None = None, seeds: Sequence[int] = ONE
) -> dict[str, list[Trial]]:
    """The trials of each variant, one a seed; t5-lite-base with `UNET` is the same trial wherever it occurs."""
    shown: dict[str, list[Trial]] = {name: [Trial(name, encoder=name, seed=s) for s in seeds] for name in encoders}
    for name, unet in (unets or {}).items():
        folder = "t5-lite-base" if unet == UNET else f"unet-{name}".replace(" ", "-").replace("/", "-")
        shown[name] = [Trial(folder, unet=unet, seed=s) for s in seeds]
    return shown


def tried(shown: dict[str, list[Trial]], n: int = 100) -> dict[str, Any]:
    """What became of all trials, the first seed of each before the second of any."""
    seeds = [trial.seed for trial in next(iter(shown.values()))]
    order = [trials[k] for k in range(len(seeds)) for trials in shown.values()]
    found = dict(zip(order, lab.run_all(order, n), strict=True))
    rows = [{"variant": name, **found[trial]} for name, trials in shown.items() for trial in trials]
    return {"n": n, "seeds": seeds, "rows": rows}


def of(result: dict[str, Any], variant: str) -> list[dict[str, Any]]:
    """The rows of a variant."""
    return [row for row in result["rows"] if row["variant"] == variant]


def share(result: dict[str, Any], variant: str, category: str, weight: float = W) -> np.ndarray:
    """How often each caption of a category is drawn right by a variant, over seeds: (n,)."""
    return hits(of(result, variant), category, weight)


def overall(result: dict[str, Any], variant: str, weight: float = W) -> np.ndarray:
    """The same over all categories: (n of all,)."""
    return np.concatenate([share(result, variant, category, weight) for category in CATEGORIES])
