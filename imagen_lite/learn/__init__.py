"""Exercises: what a student writes is a real piece of the pipeline, and is told what is wrong with it, not that it is.

    learn.check("guidance", my_guidance)     # "not attempted", "passed", or what fails and why it often does
    learn.solution("guidance")               # the library's own source
    learn.take("guidance", my_guidance)      # yours once it passes, the library's until then
    learn.progress()                         # what is solved so far
    learn.my_imagen()                        # every piece: yours where there is one, the library's where not
    learn.assemble(cascade, pieces)          # the trained weights, computed by those pieces

An unsolved exercise, a stub that returns None, breaks nothing. What passes in a notebook is put into `my_imagen.py`.
"""

import inspect
import os
import textwrap
from pathlib import Path
from types import SimpleNamespace

from imagen_lite.learn import cascade, diffusion, guidance, network, sampling, text, thresholding, training, world
from imagen_lite.learn.assembled import assemble
from imagen_lite.learn.collected import FILE, collect, collected, load, own_file
from imagen_lite.learn.exercise import Answer, Exercise, judge

__all__ = ["EXERCISES", "FILE", "SERIES", "assemble", "check", "my_imagen", "own_file", "progress", "solution", "take"]

SERIES: dict[str, dict[str, Exercise]] = {
    "01": world.EXERCISES,
    "02": text.EXERCISES,
    "03": diffusion.EXERCISES,
    "04": network.EXERCISES,
    "05": training.EXERCISES,
    "06": sampling.EXERCISES,
    "07": guidance.EXERCISES,
    "08": thresholding.EXERCISES,
    "09": cascade.EXERCISES,
}
EXERCISES: dict[str, Exercise] = {name: one for group in SERIES.values() for name, one in group.items()}
HIDDEN = "IMAGEN_LITE_HIDE_SOLUTIONS"  # set by an instructor, to anything


def check(name: str, answer: Answer) -> str:
    """What is to be said of an answer: "not attempted", "passed", or "not yet: ..." with the likely reason.

    What passes in a notebook is put into my_imagen.py.

    Raises:
        KeyError: there is no exercise of this name.
    """
    exercise, told = EXERCISES[name], judge(EXERCISES[name], answer)
    if told == "passed" and getattr(answer, "__module__", None) == "__main__":
        told += "; " + collect(name, answer, EXERCISES, own_file())
    return f"{exercise.title}: {told}"


def take(name: str, answer: Answer) -> Answer:
    """The answer if it passes, else the library's own, so that the cells below an exercise always run."""
    return answer if judge(EXERCISES[name], answer) == "passed" else EXERCISES[name].solution


def solution(name: str) -> str:
    """The source of a right answer: the library's own, so that it cannot drift. Instructors may hide it."""
    if os.environ.get(HIDDEN):
        return f"The solutions are hidden here: your instructor has set {HIDDEN}."
    return textwrap.dedent(inspect.getsource(EXERCISES[name].solution))


def progress(path: Path | None = None) -> str:
    """A line for each notebook: which exercises are solved, by what my_imagen.py holds."""
    solved = collected(path or own_file())
    lines = []
    for number, group in SERIES.items():
        bar = "".join("■" if name in solved else "□" for name in group)
        left = [name for name in group if name not in solved]
        lines.append(f"{number}  {bar:6}  " + (f"to do: {', '.join(left)}" if left else "done"))
    done = sum(name in solved for name in EXERCISES)
    return "\n".join([*lines, f"{done} of {len(EXERCISES)} exercises are solved"])


def my_imagen(path: Path | None = None) -> SimpleNamespace:
    """Every piece of the pipeline by its name in the library; `own` and `borrowed` name those that are which.

    Yours are those of my_imagen.py that pass, the others are the library's.
    """
    written, pieces = load(path or own_file()), SimpleNamespace(own=[], borrowed=[])
    for exercise in EXERCISES.values():
        called = exercise.solution.__name__
        yours = called in written and judge(exercise, written[called]) == "passed"
        setattr(pieces, called, written[called] if yours else exercise.solution)
        (pieces.own if yours else pieces.borrowed).append(called)
    return pieces
