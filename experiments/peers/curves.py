"""Curves of a loss over the seconds of training: how they are read from a log, compared and told."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.claims import lab
from experiments.peers.speed import told
from experiments.results import table, with_interval

LOSSES = {"held": "eps", "held_v": "v"}  # on pictures of the validation split: the paper's plain loss, and ours


def curve_of(log: Path) -> list[dict[str, float]]:
    """Seconds of training ("trained") and validation losses at the milestones, from a run's log."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    some = [row | {"trained": row["seconds"]} for row in rows if "held" in row]
    return [{k: row[k] for k in ("trained", "pictures", "held", "held_v")} for row in some]


def seconds_to(curve: Sequence[dict[str, float]], loss: float, key: str) -> float | None:
    """When a curve first reached a loss, in seconds: between two points, on a line in logarithms; None if never."""
    for last, row in zip((None, *curve), curve, strict=False):
        if row[key] <= loss:
            if last is None or row[key] == last[key]:
                return row["trained"]
            part = math.log(last[key] / loss) / math.log(last[key] / row[key])
            return last["trained"] * (row["trained"] / last["trained"]) ** part
    return None


def whole_curve(one: dict[str, Any]) -> list[dict[str, float]]:
    """A run's curve with the points at which it was judged."""
    return sorted([*one["curve"], *one["points"]], key=lambda row: row["trained"])


def as_text(result: dict[str, Any]) -> str:
    """A row for each network and share of the minutes."""
    head = ["network", "parameters, M", "minutes", "pictures", "loss on eps", "loss on v", "right", "Fréchet", "kernel",
            *(f"minutes to {goal:.4f} on {LOSSES[key]}" for key, goal in result["goals"].items())]  # fmt: skip
    lines = []
    for row in result["rows"]:
        one = row["runs"][0]
        for i, point in enumerate(one["points"]):
            best, last = point["best"], i == len(one["points"]) - 1
            frechet = "" if best["frechet"] is None else f"{best['frechet']:.3f}"
            lines.append([
                f"{told(row)}, rate {row['rate']:g}", f"{row['parameters']:.2f}", f"{point['minutes']:.3g}",
                f"{point['pictures']:,}", f"{point['held']:.4f}", f"{point['held_v']:.4f}",
                with_interval(best["right"], best["interval"]), frechet, f"{best['kernel']:.2f}",
                *(_minutes(seconds[0]) if last else "" for seconds in row["seconds_to"].values()),
            ])  # fmt: skip
    tried = "; ".join(
        f"{row['library']} " + ", ".join(f"{r['rate']:g}: {r['held']:.4f} and {r['right']:.2f}" for r in row["rates"])
        for row in result["rows"]
    )
    about = (
        f"{lab.SIDE} px, pictures of one thing; {result['n']} pictures drawn, at the guidance weight with most right; "
        f"seeds {result['seeds']}, of which the first is shown. Of the rates that were tried the one with the least "
        f"loss on eps is shown; at the end they had, in loss on eps and share right: {tried}."
    )
    return table(head, lines) + f"\n\n{about}"


def _minutes(seconds: float | None) -> str:
    """Minutes, or "never"."""
    return "never" if seconds is None else f"{seconds / 60:.2f}"
