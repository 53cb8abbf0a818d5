"""A figure for each claim that has one: docs/claims.md shows them, and so does notebook 11."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from experiments.claims import direct, guidance, results, text
from experiments.claims.lab import WEIGHTS
from experiments.twins import TWINS
from imagen_lite import weights

FOLDER = weights.DATA / "readme"
INKS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe & Ito's
SHOWN = ("one thing", "text-only word")
MEASURED = ("share drawn right", "kernel distance to renders", "share at the range's ends")
BOARD = FOLDER / "claims.png"
SHADES = {"reproduced": INKS[2], "partly": INKS[4], "not at this scale": INKS[1], "not tried yet": "#dddddd"}


def trade_off(result: dict[str, Any]) -> Figure:
    """Alignment against the distance to renders, a dot a weight; the mean of all seeds, and each seed faintly."""
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    right = [guidance.pooled(result["rows"], weight=w).mean() for w in guidance.WEIGHTS]
    kernel = [guidance.mean_of(result["rows"], "kernel", weight=w) for w in guidance.WEIGHTS]
    frechet = [row["frechet"] for row in result["pooled"]]
    lines = {"Fréchet distance": frechet, "kernel distance": [float(np.mean(k)) for k in kernel]}
    for panel, (name, far) in zip(panels, lines.items(), strict=True):
        panel.plot(far, right, "o-", color=INKS[0])
        for w, x, y in zip(guidance.WEIGHTS, far, right, strict=True):
            panel.annotate(f"{w:g}", (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
        panel.set(xlabel=f"{name} to renders", ylabel="share drawn right")
    return figure


def thresholds(result: dict[str, Any]) -> Figure:
    """What is right, how far off, and how much sits at the range's ends, over the weight; a line a threshold."""
    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3), layout="constrained")
    threshold_lines(panels, result["rows"])
    for panel, title in zip(panels, MEASURED, strict=True):
        panel.set(title=title, xlabel="guidance weight w")
    panels[0].legend()
    return figure


def threshold_lines(panels: Any, rows: list[dict[str, Any]]) -> None:
    """The three panels of `thresholds`."""
    for name, ink in zip(guidance.THRESHOLDS, INKS, strict=False):
        where = [{"weight": w, "threshold": name} for w in guidance.HIGH]
        lines = (
            [guidance.pooled(rows, **at).mean() for at in where],
            *([np.mean(guidance.mean_of(rows, key, **at)) for at in where] for key in ("kernel", "at_the_end")),
        )
        for panel, line in zip(panels, lines, strict=True):
            panel.plot(guidance.HIGH, line, "o-", color=ink, label=name)


def networks(result: dict[str, Any]) -> Figure:
    """The same for two networks: above that which answers with ε itself, below its preconditioned twin."""
    figure, panels = pyplot.subplots(2, 3, figsize=(10, 5.4), sharex=True, sharey="col", layout="constrained")
    for row, name in zip(panels, direct.NETWORKS, strict=True):
        threshold_lines(row, direct.of(result, name)["rows"])
        row[0].set_ylabel(name)
    for panel, title in zip(panels[0], MEASURED, strict=True):
        panel.set_title(title)
    for panel in panels[1]:
        panel.set_xlabel("guidance weight w")
    panels[0, 0].legend()
    return figure


def trials(result: dict[str, Any]) -> Figure:
    """The share drawn right over the weight, a line a variant; words of captions, and words that were only read."""
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
    variants = dict.fromkeys(row["variant"] for row in result["rows"])
    for panel, category in zip(panels, SHOWN, strict=True):
        for variant, ink in zip(variants, INKS, strict=False):
            line = [text.share(result, variant, category, w).mean() for w in WEIGHTS]
            panel.plot(WEIGHTS, line, "o--" if "U-Net" in variant else "o-", color=ink, label=variant)
        panel.set(title=category, xlabel="guidance weight w", xscale="log", xticks=WEIGHTS)
        panel.set_xticklabels([f"{w:g}" for w in WEIGHTS])
        panel.minorticks_off()
    panels[0].set_ylabel("share drawn right")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def designs(result: dict[str, Any]) -> Figure:
    """The validation loss over seconds and over pictures, a line a seed."""
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    inks = dict(zip(dict.fromkeys(row["variant"] for row in result["rows"]), INKS, strict=False))
    for panel, key in zip(panels, ("seconds", "pictures"), strict=True):
        for row in result["rows"]:
            label = row["variant"] if row["seed"] == result["seeds"][0] else None
            line = [(point[key], point["loss"]) for point in row["curve"]]
            panel.plot(*zip(*line, strict=True), "o-", markersize=3, color=inks[row["variant"]], label=label)
        panel.set(xlabel=key, xscale="log", yscale="log")
    panels[0].set_ylabel("validation loss")
    panels[1].legend()
    return figure


def board(verdicts: dict[str, str]) -> Figure:
    """All claims, one below the other, each behind a square in the colour of its verdict."""
    figure, panel = pyplot.subplots(figsize=(9, 0.32 * len(verdicts) + 0.2), layout="constrained")
    for row, (says, verdict) in enumerate(verdicts.items()):
        shade = next(shade for word, shade in SHADES.items() if verdict.startswith(word))
        panel.plot(0, -row, "s", markersize=12, color=shade)
        panel.text(0.02, -row, says, va="center", fontsize=10)
        panel.text(0.69, -row, verdict, va="center", fontsize=9, color="#555555")
    panel.set(xlim=(-0.015, 1), ylim=(0.6 - len(verdicts), 0.6))
    panel.axis("off")
    return figure


FIGURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "trade-off": trade_off, "thresholds": thresholds, "direct": networks, "efficient": designs,
    **dict.fromkeys(("pre-training", "sizes", "rivals", "sequence", "skips"), trials),
}  # fmt: skip


def path_of(name: str) -> Path:
    """Where a claim's figure lies; that of augmentation is drawn by its own experiment."""
    return TWINS["shipped"].figure("curves.png") if name == "augmentation" else FOLDER / f"claim-{name}.png"


def draw(name: str) -> None:
    """Draws a claim's figure from its result, if it has one."""
    if name in FIGURES:
        figure = FIGURES[name](results.load(name))
        figure.savefig(path_of(name), dpi=100)
        pyplot.close(figure)
