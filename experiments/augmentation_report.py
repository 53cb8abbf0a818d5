"""What `experiments.augmentation` measured, as a table, as words and as figures."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from experiments.results import table
from experiments.twins import TITLES, WEIGHTS, Twins
from imagen_lite import viz


def curves(twins: Twins, result: dict[str, Any]) -> Figure:
    """The distance to real pictures against the guidance weight, a line each of the ways; a panel each input."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(twins.inputs), figsize=(3.6 * len(twins.inputs), 3.4), sharey=True, layout="constrained"
    )
    for panel, given in zip(panels, twins.inputs, strict=True):
        for (name, level), shade in zip(twins.ways, (0.85, 0.65, 0.45, 0.25, 0.0), strict=True):
            line = [r for r in result["rows"] if (r["input"], r["trained"], r["level"]) == (given, name, level)]
            style = {"color": pyplot.get_cmap("viridis")(shade), "marker": "o"} if name == "with" else {
                "color": "crimson", "marker": "s", "linestyle": "--"
            }  # fmt: skip
            panel.plot([r["weight"] for r in line], [r["frechet"] for r in line], **style,
                       label=f"trained {name}, level {level:g}")  # fmt: skip
        panel.axhline(result["bicubic"][given], color="gray", linewidth=1, label="bicubic")
        panel.set(title=f"from {TITLES[given]}", xlabel="guidance weight w", yscale="log")
    panels[0].set_ylabel("Fréchet distance to renders")
    panels[-1].legend(fontsize=8)
    return figure


def sheet(given: str, twins: Twins) -> tuple[str, list[list[tuple]]]:
    """The name of the figure of parts of pictures, and what it shows of each, line by line."""
    if given == "samples":
        return "parts.jpg", [[(*way, w) for way in twins.ways] for w in WEIGHTS]
    drawn = (("without", 0.0), ("with", 0.0), ("with", 0.1), ("with", 0.3))
    return "jpegs.jpg", [[("bicubic",), *((*way, 1.0) for way in drawn), ("real",)]]


def parts(drawn: Tensor, columns: int) -> Image.Image:
    """The middles of pictures (B, 3, 256, 256), `columns` a row."""
    return viz.grid(drawn[:, :, 64:192, 64:192], columns=columns, gap=4)


def as_text(twins: Twins, result: dict[str, Any]) -> str:
    """The table as markdown, and what it says of the twins."""
    rows = []
    for name, level in twins.ways:
        cells = [r for given in twins.inputs for r in result["rows"]
                 if (r["input"], r["trained"], r["level"]) == (given, name, level)]  # fmt: skip
        rows.append([name, f"{level:g}", *(f"{r['frechet']:.4f}" for r in cells)])
    head = ["augmentation in training", "level", *(f"{given}, w = {w:g}" for given in twins.inputs for w in WEIGHTS)]
    bicubic = ", ".join(f"{value:.4f} from {given}" for given, value in result["bicubic"].items())
    seen = " and ".join(f"{count:,}" for count in result["seen"].values())
    found = [(f"From {TITLES[given]}, {told}", *rest) for given, told, *rest in nearer_by(twins, result)]
    return table(head, rows) + (
        f"\n\nFréchet distance to real renders, on the reader's features of windows; bicubic: {bicubic}. "
        f"n = {result['n']} pictures of {result['windows']} windows, 95 % bootstrap intervals over pictures; the twins "
        f"have seen {seen} crops; {result['hardware']}."
        + "".join(f"\n\n{told} {gain:+.4f} [{low:+.4f}, {high:+.4f}]." for told, gain, (low, high) in found)
        + "".join(f"\n\n{told} {gain:+.4f} [{low:+.4f}, {high:+.4f}]." for told, gain, (low, high) in heeded(result))
    )


def nearer_by(twins: Twins, result: dict[str, Any]) -> list[tuple[str, str, float, Sequence[float]]]:
    """Input, at which weight, and by how much it comes nearer with augmentation, with the interval.

    On the pictures that are not in the table, where there are such.
    """
    found = []
    for given, level in twins.levels.items():
        judged = result.get("others", {}).get(given) or {"n": result["n"], "gains": result["gains"][given]}
        at = f"level {level:g} (n = {judged['n']}): nearer"
        found += [(given, f"{at} at w = {g['weight']:g} by", g["nearer"], g["interval"]) for g in judged["gains"]]
        if best := judged.get("at_best"):
            found.append((given, f"{at}, each twin at its best w, by", best["nearer"], best["interval"]))
    return found


def heeded(result: dict[str, Any]) -> list[tuple[str, float, Sequence[float]]]:
    """What captions were heeded of, in words, and how much more with augmentation, with the interval."""
    found = []
    for detail, row in result.get("asked", {}).items():
        own = next(r for r in row["rows"] if r["trained"] == "with")
        best = max((r for r in row["rows"] if r["trained"] == "without"), key=lambda r: r["right"])
        told = (
            f"{detail}s as told (n = {row['n']}): {own['right']:.2f} (w = {own['weight']:g}, level "
            f"{own['level']:g}), without at most {best['right']:.2f} (w = {best['weight']:g}): more by"
        )
        found.append((told, row["gain"], row["interval"]))
    return found
