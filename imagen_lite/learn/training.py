"""The exercises of notebook 05: the loss, and the average of the weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from imagen_lite.learn.exercise import Answer, Exercise, pictures, same
from imagen_lite.schedule import CosineSchedule

SCHEDULE = CosineSchedule(-10.0, 10.0)
X0, EPS, T = pictures(0.5, 11), pictures(1.0, 12), torch.tensor([0.2, 0.7])
OLD, NEW = pictures(1.0, 13), pictures(1.0, 14)


def eps_loss(predict: Callable[[Tensor, Tensor], Tensor], x0: Tensor, t: Tensor, eps: Tensor, schedule) -> Tensor:
    """The mean of ‖eps − eps_theta(x_t, t)‖² / alpha²: how wrong the prediction of the noise is."""
    x_t = schedule.add_noise(x0, t, eps)
    error = (predict(x_t, t) - eps).square().mean((1, 2, 3))  # of each picture
    return (error / schedule.alpha(t) ** 2).mean()


def ema(average: Tensor, weights: Tensor, decay: float) -> Tensor:
    """The average after one more step: most of what it was, and a little of the weights as they are now."""
    return decay * average + (1 - decay) * weights


def _loss(f: Answer, error: Tensor | float, **more: Tensor) -> Tensor:
    """The loss of a network that is off by `error` everywhere."""
    eps = more.get("eps", EPS)
    return f(lambda x_t, t: eps + error, more.get("x0", X0), more.get("t", T), eps, SCHEDULE)


def _asked(f: Answer) -> tuple[Tensor, Tensor]:
    """What the network is asked: x_t and t."""
    seen: list[tuple[Tensor, Tensor]] = []

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    f(predict, X0, T, EPS, SCHEDULE)
    return seen[0]


_WEIGHT = float((1 / SCHEDULE.alpha(T) ** 2).mean())  # of an error of one at both times
_APART = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)  # the second picture's prediction is twice as far off

EXERCISES: dict[str, Exercise] = {
    "loss": Exercise(
        "The loss",
        (
            (lambda f: torch.as_tensor(_loss(f, 0.5)).ndim == 0, "the answer is one number: average over the batch"),
            (
                lambda f: not same(_asked(f)[0], X0),
                "the network was shown the clean picture: add the noise first, schedule.add_noise(x0, t, eps)",
            ),
            (
                lambda f: same(_asked(f)[0], SCHEDULE.add_noise(X0, T, EPS)),
                "the network was shown something else than x_t: schedule.add_noise(x0, t, eps)",
            ),
            (lambda f: same(_asked(f)[1], T), "the network must be told the t at which the noise was added"),
            (
                lambda f: same(_loss(f, 0.0), 0.0),
                "a perfect prediction of the noise has a loss: it is eps that is predicted, not the picture",
            ),
            (
                lambda f: not same(_loss(f, 0.5), 0.25),
                "right but for the weight: divide each picture's error by its alpha(t)²",
            ),
            (
                lambda f: not same(_loss(f, 0.5), 0.5 * _WEIGHT),
                "this is the absolute error; it has to be squared",
            ),
            (
                lambda f: not same(_loss(f, _APART), float(_APART.square().mean()) * _WEIGHT),
                "the errors and the weights are averaged apart: each picture's error has its own weight",
            ),
            (lambda f: same(_loss(f, 0.5), 0.25 * _WEIGHT), "the mean square error of each picture, over its alpha²"),
            (
                lambda f: same(_loss(f, _APART), _loss(eps_loss, _APART)),
                "the weight belongs to the other picture: alpha(t) has the shape (B,)",
            ),
        ),
        eps_loss,
        (lambda x_t, t: x_t, X0, T, EPS, SCHEDULE),
    ),
    "EMA": Exercise(
        "The average of the weights",
        (
            (lambda f: f(OLD, NEW, 0.9).shape == OLD.shape, "the answer has the shape of the weights"),
            (
                lambda f: not same(f(OLD, NEW, 0.9), 0.1 * OLD + 0.9 * NEW),
                "turned round: with a decay of 0.9 the average keeps nine tenths of itself",
            ),
            (
                lambda f: not same(f(OLD, NEW, 0.9), (OLD + NEW) / 2),
                "this forgets half of the past at every step: use the decay",
            ),
            (
                lambda f: not same(f(OLD, NEW, 0.9), 0.9 * OLD + NEW),
                "it grows without end: what is added has to be (1 - decay) of the weights",
            ),
            (lambda f: same(f(OLD, OLD, 0.9), OLD), "where average and weights agree nothing may change"),
            (lambda f: same(f(OLD, NEW, 0.9), 0.9 * OLD + 0.1 * NEW), "decay · average + (1 − decay) · weights"),
        ),
        ema,
        (OLD, NEW, 0.9),
    ),
}  # fmt: skip
