"""What an exercise is, and how numbers are compared in its properties."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Answer = Callable[..., Any]
Property = tuple[Callable[[Answer], bool], str]  # does it hold, and what is likely wrong where it does not


@dataclass(frozen=True)
class Exercise:
    """One exercise: the properties that a right answer has, the telling ones first, and a right answer."""

    title: str
    properties: tuple[Property, ...]
    solution: Answer
    sample: tuple[Any, ...]  # arguments of one call, by which a stub is known


def same(a: Any, b: Tensor | float) -> bool:
    """Whether two tensors or numbers are equal but for float32's rounding."""
    return torch.allclose(torch.as_tensor(a, dtype=torch.float32), torch.as_tensor(b, dtype=torch.float32), atol=1e-5)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers, the same for the same seed; torch's own generator is left alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(scale: float, seed: int = 0, count: int = 2) -> Tensor:
    """Small pictures of noise to try an answer on: (count, 3, 8, 8), of standard deviation `scale`."""
    return scale * normal(count, 3, 8, 8, seed=seed)


def judge(exercise: Exercise, answer: Answer) -> str:
    """What is to be said of an answer: "not attempted", "passed", or "not yet: ..." with the likely reason."""
    try:
        if answer(*exercise.sample) is None:
            return "not attempted"
        for holds, why in exercise.properties:
            if not holds(answer):
                return f"not yet: {why}"
    except NotImplementedError:
        return "not attempted"
    except Exception as error:
        return f"not yet: it stopped with {type(error).__name__}: {error}"
    return "passed"
