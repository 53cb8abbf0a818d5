"""The exercises of notebook 01: plausible wrong answers to them, for test_learn; other right ones pass."""

import math
import re

import numpy as np
import pytest

from imagen_lite.learn import world
from imagen_lite.learn.exercise import judge


def means(hits, draw=None, replace=True, sets=2000):
    rng = np.random.default_rng(1)
    return np.array([rng.choice(hits, draw or len(hits), replace=replace).mean() for _ in range(sets)])


def bootstrap(hits):
    return np.percentile(means(hits), (2.5, 97.5))


def by_formula(hits, z=1.96):
    error = z * hits.std() / math.sqrt(len(hits))
    return hits.mean() - error, hits.mean() + error


def wilson(hits, z=1.96):
    n, p = len(hits), hits.mean()
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n * n))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def side_by_side(caption):
    """Swapped one after the other."""
    return caption.replace("left", "right").replace("right", "left")


def in_three_steps(caption):
    return caption.replace("left", "#").replace("right", "left").replace("#", "right")


def word_by_word(caption):
    other = {"left": "right", "right": "left"}
    return " ".join(other.get(word, word) for word in caption.split())


def words_alone(caption):
    other = {"left": "right", "right": "left"}
    return " ".join(other.get(word, word) for word in re.findall(r"\w+", caption))


def near_and_far(caption):
    other = {"left": "right", "right": "left", "in front of": "behind", "behind": "in front of"}
    return re.sub(r"\b(left|right|in front of|behind)\b", lambda found: other[found[0]], caption)


def lowered(caption):
    other = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda found: other[found[0]], caption.lower())


WRONG = {
    "interval": [
        (lambda hits: hits.mean(), "two numbers"),
        (lambda hits: means(hits), "two numbers"),
        (lambda hits: np.percentile(means(hits, replace=False), (2.5, 97.5)), "with replacement"),
        (lambda hits: np.percentile(hits, (2.5, 97.5)), "single pictures scatter"),
        (lambda hits: (hits.mean() - 1.96 * hits.std(), hits.mean() + 1.96 * hits.std()), "single pictures scatter"),
        (lambda hits: np.percentile(means(hits), (97.5, 2.5)), "both ends"),
        (lambda hits: np.percentile(means(1 - hits), (2.5, 97.5)), "between low and high"),
        (lambda hits: np.percentile(means(hits, draw=30), (2.5, 97.5)), "halve the interval"),
        (lambda hits: by_formula(hits, z=1), "68 %"),
        (lambda hits: np.percentile(means(hits), (5, 95)), "90 %"),
        (lambda hits: np.percentile(means(hits, draw=len(hits) // 2), (2.5, 97.5)), "too narrow or too wide"),
        (by_formula, "beyond 1"),
        (wilson, "formulas differ"),
    ],
    "mirrored caption": [
        (lambda caption: [caption], "a string"),
        (lambda caption: caption, "still left"),
        (side_by_side, "one side now"),
        (lambda caption: caption.replace("left", "right"), "one side now"),
        (in_three_steps, "bleft"),
        (near_and_far, "front and behind stay"),
        (word_by_word, "full stop"),
        (words_alone, "full stop"),
        (lowered, "twice"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_another_generator_passes_too(seed):
    """What is drawn is chance; what is asked for is not."""
    rng = np.random.default_rng(100 + seed)

    def answer(hits):
        drawn = hits[rng.integers(0, len(hits), (2000, len(hits)))].mean(1)
        return tuple(np.percentile(drawn, (2.5, 97.5)))

    assert all(judge(world.EXERCISES["interval"], answer) == "passed" for _ in range(3))


def test_a_split_by_a_pattern_passes_too():
    def answer(caption):
        other = {"left": "right", "right": "left"}
        return "".join(other.get(part, part) for part in re.split(r"(\W+)", caption))

    assert judge(world.EXERCISES["mirrored caption"], answer) == "passed"


def test_each_message_is_told_to_somebody():
    """No property is there for nothing, but those that another always meets first."""
    for name, rows in WRONG.items():
        told = {judge(world.EXERCISES[name], wrong) for wrong, _ in rows}
        messages = {f"not yet: {why}" for _, why in world.EXERCISES[name].properties}
        assert len(messages - told) <= 1, messages - told
