"""Noise conditioning augmentation: its level against the guidance weight, with it and without it in training.

    python -m experiments.augmentation train --max-minutes 30     # twins, alike but for that; each so long, resumable
    python -m experiments.augmentation -n 60                      # the table and its figures

The paper's Figs. A.11 and A.12, for 64 to 256 px: enlarged are real 64-px renders, and what the base model draws of
the same captions. The twins stay in the user's cache; their pictures and numbers are kept.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from experiments.distances import distance, nearer
from experiments.results import save_result, table
from experiments.superres import bicubic, drawer, pairs
from imagen_lite import data, viz, weights
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.recipes import sr256, super_resolution
from imagen_lite.recipes.evaluation import windows
from imagen_lite.stage import load_stage

TWINS = {"with": 1.0, "without": 0.0}  # the highest level of augmentation in training
ROWS = (("with", 0.0), ("with", 0.1), ("with", 0.3), ("with", 0.6), ("without", 0.0))  # twin, level when sampling
WEIGHTS = (1.0, 3.0, 8.0)
TITLES = {"renders": "real 64-px renders", "samples": "the base model's samples"}
INPUTS = tuple(TITLES)
BEST = ("with", 0.1), ("without", 0.0)  # each as it would be used: these are compared
WINDOW = 64  # pixels a side of what features are averaged over: sixteen windows a picture
SHOWN = 6  # the picture of which the figure shows a part
CURVES, PARTS = (weights.DATA / "readme" / f"augmentation-{name}.png" for name in ("curves", "parts"))


def twin_folder(name: str) -> Path:
    """Where a twin's weights lie, once they are trained."""
    return data.cache_folder() / "runs" / f"sr256-{name}" / "weights"


def train(max_minutes: float | None, steps: int) -> None:
    """Train both twins, one after the other, from nothing, on the same pictures and noise."""
    for name, level in TWINS.items():
        cpu, gpu = (
            dataclasses.replace(recipe, augmentation=level, train=dataclasses.replace(recipe.train, steps=steps))
            for recipe in (sr256.CPU, sr256.GPU)
        )
        out = twin_folder(name)
        super_resolution.run(cpu, gpu, max_minutes, out=out, run_folder=out.parent)


def window_features(images: Tensor) -> Tensor:
    """The reader's features of each window of pictures (B, 3, H, W): (B, windows, D)."""
    return torch.stack([windows(image[None], WINDOW) for image in images])


def inputs(base: Cascade, n: int, batch: int) -> Iterator[tuple[Tensor, dict[str, Tensor], list[str], list[int]]]:
    """Real 256-px pictures, the 64-px pictures to enlarge by where they come from, captions and seeds."""
    for real, low_res, captions, seeds in pairs(256, n, batch):
        drawn = base.sample(captions, seed=seeds, resolution=64).images.cpu()
        yield real, dict(zip(INPUTS, (low_res, drawn), strict=True)), captions, seeds


def run(n: int, batch: int = 6) -> tuple[dict[str, Any], Tensor]:
    """The table, and what all of `ROWS` at all `WEIGHTS` make of one sample: (rows * weights, 3, 256, 256)."""
    base = load_cascade()
    twins = {name: load_stage(twin_folder(name), base.device) for name in TWINS}
    ways: dict[tuple, Callable] = {}
    for name, level in ROWS:
        cascade = Cascade(base.text_encoder, {256: twins[name]}, base.dtype)
        ways |= {(name, level, w): drawer(cascade, 256, aug_level=level, weight=w) for w in WEIGHTS}
    found: dict[tuple, list[Tensor]] = {(given, *way): [] for given in INPUTS for way in (*ways, ("bicubic",))}
    truth, shown = [], []
    for real, low, captions, seeds in tqdm(inputs(base, n, batch), total=-(-n // batch), desc="pictures"):
        truth.append(window_features(real))
        for given in INPUTS:
            found[given, "bicubic"].append(window_features(bicubic(low[given], 256)))
            for way, draw in ways.items():
                images = draw(low[given], captions, seeds)
                found[given, *way].append(window_features(images))
                if given == "samples" and SHOWN in seeds:
                    shown.append(images[seeds.index(SHOWN)])
    features = {key: torch.cat(value).numpy() for key, value in found.items()}
    return judge(features, torch.cat(truth).numpy()), torch.stack(shown)


def judge(features: dict[tuple, np.ndarray], real: np.ndarray) -> dict[str, Any]:
    """Distances of all cells, and how much nearer samples come with augmentation than without, with its interval."""
    rows = [
        {"input": given, "trained": name, "level": level, "weight": w,
         "frechet": round(distance(features[given, name, level, w], real), 5)}
        for given in INPUTS for name, level in ROWS for w in WEIGHTS
    ]  # fmt: skip
    plain = {given: round(distance(features[given, "bicubic"], real), 5) for given in INPUTS}
    gains = []
    for w in WEIGHTS:
        cells = *(features["samples", *best, w] for best in BEST), real
        ends = interval(*cells, statistic=nearer, resamples=200)
        gains.append({"weight": w, "nearer": round(nearer(*cells), 5), "interval": ends})
    return {"n": len(real), "windows": real.shape[1], "rows": rows, "bicubic": plain, "gains": gains}


def curves(result: dict[str, Any]) -> Figure:
    """The distance to real pictures against the guidance weight, a line each of `ROWS`; a panel each input."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for panel, given in zip(panels, INPUTS, strict=True):
        for (name, level), shade in zip(ROWS, (0.85, 0.65, 0.45, 0.25, 0.0), strict=True):
            line = [r for r in result["rows"] if (r["input"], r["trained"], r["level"]) == (given, name, level)]
            style = {"color": pyplot.get_cmap("viridis")(shade), "marker": "o"} if name == "with" else {
                "color": "crimson", "marker": "s", "linestyle": "--"
            }  # fmt: skip
            panel.plot([r["weight"] for r in line], [r["frechet"] for r in line], **style,
                       label=f"trained {name}, level {level:g}")  # fmt: skip
        panel.axhline(result["bicubic"][given], color="gray", linewidth=1, label="bicubic")
        panel.set(title=f"from {TITLES[given]}", xlabel="guidance weight w", yscale="log")
    panels[0].set_ylabel("Fréchet distance to renders")
    panels[1].legend(fontsize=8)
    return figure


def parts(drawn: Tensor) -> Image.Image:
    """The middle of what all `ROWS` (down) at all `WEIGHTS` (across) make of one sample."""
    return viz.grid(drawn[:, :, 64:192, 64:192], columns=len(WEIGHTS), gap=4)


def as_text(result: dict[str, Any]) -> str:
    """The table as markdown, and what it says of samples."""
    rows = []
    for name, level in ROWS:
        cells = [r for given in INPUTS for r in result["rows"]
                 if (r["input"], r["trained"], r["level"]) == (given, name, level)]  # fmt: skip
        rows.append([name, f"{level:g}", *(f"{r['frechet']:.4f}" for r in cells)])
    head = ["augmentation in training", "level", *(f"{given}, w = {w:g}" for given in INPUTS for w in WEIGHTS)]
    gains = ", ".join(
        f"{g['nearer']:+.4f} [{g['interval'][0]:+.4f}, {g['interval'][1]:+.4f}] at w = {g['weight']:g}"
        for g in result["gains"]
    )
    seen = " and ".join(f"{count:,}" for count in result["seen"].values())
    return table(head, rows) + (
        f"\n\nFréchet distance to real renders, on the reader's features of windows; bicubic: "
        f"{result['bicubic']['renders']:.4f} from renders, {result['bicubic']['samples']:.4f} from samples. From the "
        f"base model's samples, trained with augmentation (level {BEST[0][1]:g}) is nearer than without by {gains}. "
        f"n = {result['n']} pictures of {result['windows']} windows, 95 % bootstrap intervals over pictures; the twins "
        f"have seen {seen} crops; {result['hardware']}."
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The sweep of augmentation level against guidance weight.")
    parser.add_argument("what", nargs="?", choices=("measure", "train"), default="measure")
    parser.add_argument("-n", type=int, default=60, help="pictures")
    parser.add_argument("--max-minutes", type=float, help="of training, for each twin")
    parser.add_argument("--steps", type=int, default=2000, help="of training, for each twin")
    options = parser.parse_args()
    if options.what == "train":
        return train(options.max_minutes, options.steps)
    result, drawn = run(options.n)
    seen = {name: weights.load_manifest(twin_folder(name))["pictures_seen"] for name in TWINS}
    viz.save(parts(drawn), PARTS)
    result = save_result("augmentation", result | {"seen": seen})
    curves(result).savefig(CURVES, dpi=110)
    print(as_text(result))


if __name__ == "__main__":
    main()
