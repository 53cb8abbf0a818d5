"""The Fréchet distance of sets of features, and how two sets compare by it."""

import numpy as np
import torch
from torch import Tensor

from imagen_lite.evaluate.fidelity import frechet_distance


def distance(features: np.ndarray | Tensor, real: np.ndarray | Tensor) -> float:
    """The Fréchet distance of two sets of features, (B, D), or (B, windows, D) of which each window counts alike."""
    return frechet_distance(*(torch.as_tensor(f).flatten(0, -2) for f in (features, real)))


def nearer(a: np.ndarray, b: np.ndarray, real: np.ndarray) -> float:
    """By how much `a` is nearer to the real pictures than `b`."""
    return distance(b, real) - distance(a, real)


def numbers(features: Tensor) -> list[list[float]]:
    """A table of features to be kept in a file."""
    return [[round(value, 4) for value in row] for row in features.tolist()]
