"""Exercises: what a student writes is a real piece of the pipeline, and is told what is wrong with it, not that it is.

    learn.check("guidance", my_guidance)     # "not attempted", "passed", or what fails and why it often does
    learn.solution("guidance")               # the library's own source
    learn.take("guidance", my_guidance)      # yours once it passes, the library's until then

An unsolved exercise, a stub that returns None, breaks nothing.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imagen_lite.guidance import classifier_free_guidance
from imagen_lite.schedule import CosineSchedule, Level
from imagen_lite.thresholding import dynamic_threshold, static_threshold

Answer = Callable[..., Any]
Property = tuple[Callable[[Answer], bool], str]  # does it hold, and what is likely wrong where it does not


@dataclass(frozen=True)
class Exercise:
    """One exercise: the properties that a right answer has, the telling ones first, and a right answer."""

    title: str
    properties: tuple[Property, ...]
    solution: Answer
    sample: tuple[Any, ...]  # arguments of one call, by which a stub is known


def _same(a: Any, b: Tensor | float) -> bool:
    return torch.allclose(torch.as_tensor(a, dtype=torch.float32), torch.as_tensor(b, dtype=torch.float32), atol=1e-5)


def _pictures(scale: float, seed: int = 0, count: int = 2) -> Tensor:
    return scale * torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def oscillating_weight(level: Level, high: float = 15.0, low: float = 1.0, steps: int = 16, first: int = 4) -> float:
    """`high` for the `first` of `steps` even steps from t = 1, then `low` and `high` in turn (Imagen Video §2.6.2).

    (Imagen Video writes w for our w - 1.)
    """
    index = round((1 - level.t) * steps)
    return high if index < first or (index - first) % 2 else low


def _at(index: int, steps: int = 16) -> Level:
    return CosineSchedule().at(1 - index / steps)


COND, UNCOND = _pictures(1.0, 1), _pictures(1.0, 2)
LOUD, CALM = _pictures(1.0, 3), _pictures(0.2, 4)

EXERCISES: dict[str, Exercise] = {
    "guidance": Exercise(
        "Classifier-free guidance",
        (
            (lambda f: f(COND, UNCOND, 3.0).shape == COND.shape, "the answer must have the shape of eps_cond"),
            (
                lambda f: not _same(f(COND, UNCOND, 1.0), 2 * COND - UNCOND),
                "w = 1 goes beyond eps_cond: this is Ho & Salimans' w, one less than the paper's, in which 1 is off",
            ),
            (
                lambda f: not _same(f(COND, UNCOND, 3.0), 3 * UNCOND - 2 * COND),
                "the two are swapped: it moves away from the text. Start at eps_uncond and go towards eps_cond",
            ),
            (lambda f: _same(f(COND, UNCOND, 1.0), COND), "w = 1 must give eps_cond itself: guidance off"),
            (lambda f: _same(f(COND, UNCOND, 0.0), UNCOND), "w = 0 must give eps_uncond itself: the text ignored"),
            (
                lambda f: _same(f(COND, UNCOND, 8.0), UNCOND + 8 * (COND - UNCOND)),
                "right at w = 0 and w = 1, but not a straight line between and beyond: nothing may be clipped here",
            ),
        ),
        classifier_free_guidance,
        (COND, UNCOND, 3.0),
    ),
    "oscillating guidance": Exercise(
        "Oscillating guidance",
        (
            (lambda f: all(f(_at(i)) == 15 for i in range(4)), "the first four steps, t = 1 to 0.81, need w = 15"),
            (
                lambda f: {f(_at(i)) for i in range(4, 16)} == {1, 15},
                "after the first four steps w must be 1 or 15, and each of them now and then",
            ),
            (
                lambda f: all(f(_at(i)) != f(_at(i + 1)) for i in range(4, 15)),
                "after the first four steps w must change at every step; t falls by 1/16 from step to step",
            ),
            (lambda f: f(_at(4)) == 1, "the first change is to w = 1, at step 4 (counted from 0)"),
        ),
        oscillating_weight,
        (_at(0),),
    ),
    "static threshold": Exercise(
        "Static thresholding",
        (
            (lambda f: _same(f(CALM), CALM), "a picture within [-1, 1] must stay as it is: clipping is not scaling"),
            (lambda f: float(f(LOUD).abs().max()) <= 1, "values beyond [-1, 1] are left"),
            (lambda f: float(f(LOUD).min()) < 0, "pictures live in [-1, 1], not in [0, 1]"),
            (lambda f: _same(f(LOUD), LOUD.clamp(-1, 1)), "what lies within [-1, 1] must not move"),
        ),
        static_threshold,
        (LOUD,),
    ),
    "dynamic threshold": Exercise(
        "Dynamic thresholding",
        (
            (
                lambda f: _same(f(CALM), CALM),
                "a picture within [-1, 1] was changed: s must never be below 1, or dim pictures are stretched",
            ),
            (
                lambda f: not _same(f(LOUD), LOUD.clamp(-1, 1)),
                "this is static clipping: s may be above 1 (and `sample_max_value=1` would undo it)",
            ),
            (
                lambda f: float(f(3 * LOUD).abs().max()) <= 1 + 1e-5,
                "values beyond [-1, 1] are left: after clipping to [-s, s], divide by s",
            ),
            (
                lambda f: _same(f(torch.cat([LOUD, 5 * LOUD]))[:2], f(LOUD)),
                "one picture changes another: the percentile is each picture's own, not the batch's",
            ),
            (
                lambda f: _same(f(2 * LOUD), dynamic_threshold(2 * LOUD)),
                "the shape is right, s is not: the 0.995 quantile of |x0|, over all channels and pixels of a picture",
            ),
        ),
        dynamic_threshold,
        (LOUD,),
    ),
}  # fmt: skip


def check(name: str, answer: Answer) -> str:
    """What is to be said of an answer: "not attempted", "passed: ...", or "not yet: ..." with the likely reason.

    Raises:
        KeyError: there is no exercise of this name.
    """
    exercise = EXERCISES[name]
    try:
        if answer(*exercise.sample) is None:
            return f"{exercise.title}: not attempted"
        for holds, why in exercise.properties:
            if not holds(answer):
                return f"{exercise.title}: not yet: {why}"
    except NotImplementedError:
        return f"{exercise.title}: not attempted"
    except Exception as error:
        return f"{exercise.title}: not yet: it stopped with {type(error).__name__}: {error}"
    return f"{exercise.title}: passed"


def take(name: str, answer: Answer) -> Answer:
    """The answer if it passes, else the library's own, so that the cells below an exercise always run."""
    return answer if check(name, answer).endswith(": passed") else EXERCISES[name].solution


def solution(name: str) -> str:
    """The source of a right answer: the library's own, so that it cannot drift."""
    return textwrap.dedent(inspect.getsource(EXERCISES[name].solution))
