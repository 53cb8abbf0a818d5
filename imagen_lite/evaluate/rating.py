"""Which of two models people prefer, as DrawBench asks (§3): two sets of pictures, two questions, three answers."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import from_numpy

from imagen_lite.data import to_images
from imagen_lite.evaluate.alignment import alignment
from imagen_lite.evaluate.alignment_report import interval

QUESTIONS = {"fidelity": "Which set is of higher quality?", "alignment": "Which set better shows what the prompt says?"}
ANSWERS = {"first": 1.0, "indifferent": 0.5, "second": 0.0}  # how much of a win for the first


@dataclass(frozen=True)
class Pair:
    """What two models drew of a prompt: uint8 pictures (N, H, W, 3) each; `means` is the prompt in plain words."""

    category: str
    prompt: str
    means: str
    first: np.ndarray
    second: np.ndarray


def in_random_order(pairs: Sequence[Pair], seed: int) -> list[tuple[Pair, bool]]:
    """The pairs as a rater is shown them: shuffled, and each with whether the second model stands on the left."""
    rng = random.Random(seed)
    return [(pair, rng.random() < 0.5) for pair in rng.sample(list(pairs), len(pairs))]


def reader_answers(pair: Pair) -> str:
    """The reader's answer to the second question: it prefers the set in which more pictures show what is meant."""
    right = [
        sum(v.aligned for v in alignment(to_images(from_numpy(side)), [pair.means] * len(side)))
        for side in (pair.first, pair.second)
    ]
    return "indifferent" if right[0] == right[1] else "first" if right[0] > right[1] else "second"


def win_rates(ratings: Sequence[Mapping[str, str]], question: str) -> list[dict]:
    """How often the first model is preferred, an indifferent answer counting half, by category and over all.

    Args:
        ratings: each with "category" and, by question, one of `ANSWERS`.
        question: a key of `QUESTIONS`.

    Returns:
        Rows of category, n, the share, and its 95 % bootstrap interval; the last is over all. None without ratings.
    """
    found: dict[str, list[float]] = {}
    for rating in ratings:
        for category in (rating["category"], "all"):
            found.setdefault(category, []).append(ANSWERS[rating[question]])
    return [
        {"category": c, "n": len(found[c]), "share": float(np.mean(found[c])), "interval": interval(np.array(found[c]))}
        for c in sorted(found, key=lambda category: category == "all")
    ]
