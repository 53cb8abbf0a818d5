"""The exercises of notebook 01: how sure a share of pictures is, and the caption of a picture in the mirror."""

import math

import numpy as np

from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.learn.exercise import Answer, Exercise
from imagen_lite.scenes.captions import captions, mirror
from imagen_lite.scenes.world import sample_scene


def hits(right: int, of: int) -> np.ndarray:
    """A one for each picture that is right, a zero for each that is not; mixed, but always in the same order."""
    return np.random.default_rng(0).permutation((np.arange(of) < right).astype(float))


FEW, MANY = hits(80, 100), tuple(hits(right, 400) for right in (80, 160, 240, 320))
TELLING = [text for seed in range(40) for text in captions(sample_scene(seed))]


def _width(answer: Answer, sample: np.ndarray) -> float:
    low, high = answer(sample)
    return float(high) - float(low)


def _relative_width(answer: Answer) -> float:
    """The widths of the answer's intervals over those of 1.96 standard errors to each side; 1 is right."""
    widths = [_width(answer, sample) / (2 * 1.96 * sample.std() / math.sqrt(len(sample))) for sample in MANY]
    return sum(widths) / len(widths)


def _ends(answer: Answer, sample: np.ndarray, ends: tuple[float, float], within: float) -> bool:
    return bool(np.allclose(np.array(answer(sample), dtype=float), ends, rtol=0, atol=within))


EXERCISES: dict[str, Exercise] = {
    "interval": Exercise(
        "The interval of a share",
        (
            (lambda f: np.shape(f(FEW)) == (2,), "the answer is two numbers, the low end and the high end"),
            (
                lambda f: _width(f, FEW) > 1e-6,
                "both ends are the same: every set of pictures has one and the same share. Draw with replacement",
            ),
            (
                lambda f: _width(f, FEW) < 0.5,
                "this is how far single pictures scatter, 0 to 1; the share of all of them scatters far less: take the "
                "mean of each drawn set, and the percentiles of those means",
            ),
            (lambda f: f(FEW)[0] < 0.8 < f(FEW)[1], "80 of 100 were right: 0.8 must lie between low and high"),
            (
                lambda f: 0.4 < _width(f, MANY[-1]) / _width(f, FEW) < 0.6,
                "four times as many pictures must halve the interval: draw as many as there are, len(hits)",
            ),
            (
                lambda f: not 0.45 < _relative_width(f) < 0.6,
                "about half as wide as it should be: one standard error to each side holds 68 %, not 95 %",
            ),
            (
                lambda f: not 0.77 < _relative_width(f) < 0.91,
                "this holds 90 %: 2.5 % go at *each* end, so that 95 % are left",
            ),
            (
                lambda f: 0.91 <= _relative_width(f) < 1.09,
                "too narrow or too wide: as many pictures as there are, 2,000 times, percentiles 2.5 and 97.5",
            ),
            (
                lambda f: f(hits(19, 20))[1] <= 1,
                "19 of 20 right, and the high end is beyond 1: a formula with standard errors does that near the ends. "
                "Draw sets instead; no set's share can leave [0, 1]",
            ),
            (
                lambda f: _ends(f, hits(19, 20), interval(hits(19, 20)), 0.03),
                "with 20 pictures the ends are not those of the drawn sets' means (formulas differ where n is small)",
            ),
        ),
        interval,
        (FEW,),
    ),
    "mirrored caption": Exercise(
        "The caption in the mirror",
        (
            (lambda f: isinstance(f("a red cone left of a duck"), str), "the answer is a caption, a string"),
            (
                lambda f: len({"left", "right"} & set(f("a cone on the left and a duck on the right").split())) == 2,
                "both are on one side now: what was swapped first is swapped back, or only one of the words is. The "
                "two must change places at once",
            ),
            (
                lambda f: f("a red cone left of a duck") != "a red cone left of a duck",
                "left is still left: in the mirror it is right",
            ),
            (
                lambda f: "bleft" not in f("a duck in bright sunlight"),
                '"bright sunlight" has become "bleft sunlight": swap whole words only',
            ),
            (
                lambda f: f("a duck in front of a tree and behind a cone") == "a duck in front of a tree and behind a "
                "cone",
                "a mirror swaps the sides, but not near and far: front and behind stay",
            ),
            (
                lambda f: f("a cone with a duck to its left. there is also a tree")
                == "a cone with a duck to its right. there is also a tree",
                "before a full stop or a comma a side is missed, or the stop is lost: words do not end at spaces only",
            ),
            (
                lambda f: all(f(f(text)) == text for text in TELLING),
                "mirrored twice, a caption must be what it was; something else changes too",
            ),
            (
                lambda f: all(f(text) == mirror(text) for text in TELLING),
                "some captions of this world come out otherwise: try yours on captions(sample_scene(77), 60)",
            ),
        ),
        mirror,
        ("a red cone left of a duck",),
    ),
}  # fmt: skip
