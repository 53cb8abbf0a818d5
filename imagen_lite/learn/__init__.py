"""Exercises: what a student writes is a real piece of the pipeline, and is told what is wrong with it, not that it is.

    learn.check("guidance", my_guidance)     # "not attempted", "passed", or what fails and why it often does
    learn.solution("guidance")               # the library's own source
    learn.take("guidance", my_guidance)      # yours once it passes, the library's until then

An unsolved exercise, a stub that returns None, breaks nothing.
"""

import inspect
import textwrap

from imagen_lite.learn import diffusion, guidance, sampling
from imagen_lite.learn.exercise import Answer, Exercise

__all__ = ["EXERCISES", "check", "solution", "take"]

EXERCISES: dict[str, Exercise] = {**diffusion.EXERCISES, **sampling.EXERCISES, **guidance.EXERCISES}


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
