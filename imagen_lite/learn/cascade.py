"""The exercises of notebook 09: noise conditioning augmentation, and how faithful super-resolution is."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from imagen_lite.augmentation import augment
from imagen_lite.evaluate.fidelity import consistency
from imagen_lite.learn.exercise import Answer, Exercise, pictures, same

LOW, EPS = pictures(0.5, 15), pictures(1.0, 16)
LARGE = pictures(0.5, 17).repeat(1, 1, 4, 4)  # with detail in each 4×4 pixels
NEAR = LOW + torch.tensor([0.01, 0.1]).view(2, 1, 1, 1)  # the second picture is ten times as far off


def _mixed(f: Answer, level: float, low: Tensor = LOW, eps: Tensor = EPS) -> Tensor:
    return f(low, level, eps)


def _mix(alpha: float, sigma: float) -> Tensor:
    return alpha * LOW + sigma * EPS


def _large(low: Tensor) -> Tensor:
    """A picture four times as large, whose 4×4 averages are `low`."""
    return F.interpolate(low, scale_factor=4, mode="nearest")


def _psnr(f: Answer) -> Tensor:
    return torch.as_tensor(f(_large(NEAR), LOW))


EXERCISES: dict[str, Exercise] = {
    "augmentation": Exercise(
        "Noise conditioning augmentation",
        (
            (lambda f: _mixed(f, 0.5).shape == LOW.shape, "the answer has the shape of low_res"),
            (
                lambda f: not same(_mixed(f, 0.5), EPS) and not same(_mixed(f, 0.0), EPS),
                "the picture is gone: it is mixed with noise, not replaced",
            ),
            (lambda f: same(_mixed(f, 0.0), LOW), "at level 0 nothing is added: the picture must stay as it is"),
            (
                lambda f: not same(_mixed(f, 0.5), _mix(math.sqrt(1 - 0.25), 0.5)),
                "the level was taken for sigma; it is an angle: sigma = sin(pi/2 level)",
            ),
            (
                lambda f: not same(_mixed(f, 0.5), _mix(1.0, math.sin(math.pi / 4))),
                "the picture is not made weaker: the more noise, the larger the variance",
            ),
            (
                lambda f: not same(_mixed(f, 0.5), _mix(0.5, 0.5)),
                "1 - level and level do not keep the variance: their squares must add up to 1",
            ),
            (
                lambda f: same(_mixed(f, 1.0), EPS),
                "at level 1 nothing of the picture is left: cos(pi/2) is 0; is the pi/2 there?",
            ),
            (
                lambda f: same(_mixed(f, 0.2, 4 * LOW), augment(4 * LOW, 0.2, EPS)),
                "right at the ends, not between, or something is clipped: cos(pi/2 level) and sin(pi/2 level)",
            ),
        ),
        augment,
        (LOW, 0.5, EPS),
    ),
    "consistency": Exercise(
        "Is it still the same picture?",
        (
            (lambda f: _psnr(f).shape == (2,), "one number for each picture: average over (1, 2, 3)"),
            (
                lambda f: bool((torch.as_tensor(f(LARGE, F.avg_pool2d(LARGE, 4) + 0.01)).abs() > 35).all()),
                "make the large picture small by averaging 4×4 pixels; taking each fourth one is not enough",
            ),
            (lambda f: bool((_psnr(f) > 0).all()), "the sign is turned round: nearer pictures have the larger PSNR"),
            (
                lambda f: not same(_psnr(f), 10 * torch.log10(1 / (NEAR - LOW).square().mean((1, 2, 3)))),
                "pictures in [-1, 1] span 2, so the peak's square is 4",
            ),
            (
                lambda f: not same(_psnr(f), 20 * torch.log10(4 / (NEAR - LOW).square().mean((1, 2, 3)))),
                "20 log10 goes with a ratio of values; a ratio of squares takes 10 log10",
            ),
            (
                lambda f: torch.allclose(_psnr(f), torch.tensor([46.0206, 26.0206]), atol=0.05),
                "10 log10(4 / mean square error), with the error of each picture",
            ),
        ),
        consistency,
        (_large(NEAR), LOW),
    ),
}  # fmt: skip
