"""How well the reader reads: its scores on fresh renders, printed wherever it judges."""

import math

import numpy as np
import torch

from imagen_lite.scenes.reader import (
    ATTRIBUTES,
    SETTING,
    Reader,
    Seen,
    box_of,
    depth_of,
    read,
    read_setting,
    visible_shares,
)
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import SPLITS, Scene, sample_scene


def reader_scores(model: Reader | None = None, count: int = 1000, device: torch.device | str = "cpu") -> dict:
    """The reader's scores on fresh renders, scenes of the test split that no training picture shows.

    Returns shares in [0, 1]: `found` (things at least half visible that are seen with right colour and kind), and
    `seen`, the accuracy of each attribute, `on` among what is seen; `surface`, `light`; false positives a picture.
    """
    first, where = SPLITS["test"].start, "cuda" if torch.device(device).type == "cuda" else None
    tally: dict[str, list[float]] = {}
    for start in range(0, count, 100):
        scenes = [sample_scene(first + i, combinations="all") for i in range(start, min(start + 100, count))]
        images = render(scenes, 64, device=where).to(device)
        shares = visible_shares(scenes)
        for row in zip(scenes, shares, read(images, model), read_setting(images, model), strict=True):
            _score_picture(*row, tally)
    return {"pictures": count, "things": len(tally["found"])} | {
        k: round(float(np.mean(v)), 4) for k, v in tally.items()
    }


def _score_picture(
    scene: Scene, shares: np.ndarray, seen: list[Seen], setting: tuple[str, str], tally: dict[str, list[float]]
) -> None:
    """Add one picture's hits and misses to the tally."""

    def note(name: str, value: float) -> None:
        tally.setdefault(name, []).append(float(value))

    owner = match_boxes([box_of(scene, i)[:2] for i in range(len(scene.things))], seen)
    for i, thing in enumerate(scene.things):
        if shares[i] < 0.5:
            continue
        found = seen[owner[i]] if i in owner else None
        note("found", found is not None and (found.color, found.kind) == (thing.color, thing.kind))
        note("seen", found is not None)
        if found is not None:
            for name in ATTRIBUTES:
                note(name, getattr(found, name) == getattr(thing, name))
            note("on", found.on == (None if thing.on is None else owner.get(thing.on, -1)))
            note("depth_error", abs(found.depth - depth_of(scene, i)))
    note("false_positives", len(seen) - len(owner))
    for name, value in zip(SETTING, setting, strict=True):
        note(name, value == getattr(scene, name))


def match_boxes(centers: list[tuple[float, float]], seen: list[Seen], reach: float = 0.12) -> dict[int, int]:
    """Which seen thing is which true one: nearest pairs of centres first, at most `reach` picture widths apart."""
    pairs = sorted((math.hypot(s.x - x, s.y - y), i, k) for i, (x, y) in enumerate(centers) for k, s in enumerate(seen))
    owner: dict[int, int] = {}
    for distance, i, k in pairs:
        if distance <= reach and i not in owner and k not in owner.values():
            owner[i] = k
    return owner


def format_scores(scores: dict) -> str:
    """One line for people."""
    parts = [f"{k} {v:.3f}" if isinstance(v, float) else f"{v} {k}" for k, v in scores.items()]
    return ", ".join(parts)
