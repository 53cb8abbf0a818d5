"""my_imagen.py: the exercises that passed, collected in a module that is the student's own.

It lies beside the notebooks, is read by people, and is all the progress that is kept. What is edited in it stays.
"""

import inspect
import os
import re
import textwrap
from pathlib import Path
from typing import Any

from imagen_lite.learn.exercise import Answer, Exercise, judge
from imagen_lite.weights import write_atomic

FILE = "my_imagen.py"
HEAD = '''"""My Imagen: what I wrote in the notebooks, in the order in which a picture needs it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
'''
MARK = "# --- {name}: {title} ---"
_MARKS = re.compile(r"^# --- (.+?): .*---$", re.MULTILINE)


def own_file() -> Path:
    """Where this student's my_imagen.py is or will be: in $IMAGEN_LITE_LEARN, else in the current folder."""
    return Path(os.environ.get("IMAGEN_LITE_LEARN", ".")) / FILE


def collected(path: Path) -> dict[str, str]:
    """The sources in a my_imagen.py by the exercise's name, its head under ""; the head alone if there is no file."""
    head, *parts = _MARKS.split(path.read_text() if path.exists() else HEAD)
    return {"": head.strip()} | {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def load(path: Path) -> dict[str, Any]:
    """What a my_imagen.py defines, by name; empty where there is no such file."""
    return _run(path.read_text()) if path.exists() else {}


def collect(name: str, answer: Answer, exercises: dict[str, Exercise], path: Path) -> str:
    """Puts an answer that passed into my_imagen.py, as it was written; returns a word on that.

    `exercises` are those of the series, in the order in which they stand in the file. There the function must pass
    again, without the notebook's cells to lean on.
    """
    called = exercises[name].solution.__name__
    try:
        text = _composed(collected(path) | {name: _source(answer, called)}, exercises)
        told = judge(exercises[name], _run(text)[called])
    except Exception as error:  # whatever is wrong with what they wrote there
        return f"not put into {FILE}: {type(error).__name__}: {error}"
    if told != "passed":
        return f"not put into {FILE}, where it has no other cells to lean on: {told}"
    write_atomic(path, text)
    return f"it is in {FILE} now"


def _composed(parts: dict[str, str], exercises: dict[str, Exercise]) -> str:
    order = [name for name in exercises if name in parts]
    marked = [f"{MARK.format(name=name, title=exercises[name].title)}\n\n{parts[name]}\n" for name in order]
    return "\n\n".join([parts[""] + "\n", *marked])


def _run(text: str) -> dict[str, Any]:
    """The names of a module, as importing it would make them: it is the student's own code."""
    names: dict[str, Any] = {"__name__": Path(FILE).stem}
    exec(compile(text, FILE, "exec"), names)
    return names


def _source(answer: Answer, called: str) -> str:
    """A function's source, and a line that gives it the library's name; raises ValueError for what is none."""
    source = textwrap.dedent(inspect.getsource(answer)).strip()
    if not (own := re.match(r"def (\w+)\(", source)):
        raise ValueError("write it as a function, with def")
    return source if own[1] == called else f"{source}\n\n\n{called} = {own[1]}  # the library's name for it"
