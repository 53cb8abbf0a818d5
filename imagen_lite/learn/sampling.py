"""The exercises of notebook 06: three ways from one noise level to the next, all of them by the predicted picture."""

import math

import torch
from torch import Tensor

from imagen_lite.learn.exercise import Answer, Exercise, pictures, same
from imagen_lite.sampler import Noise, ddim_step, ddpm_step, dpmpp_2m_step
from imagen_lite.schedule import CosineSchedule, Level

SCHEDULE = CosineSchedule(-10.0, 10.0)
BEFORE, T, S = SCHEDULE.at(0.7), SCHEDULE.at(0.6), SCHEDULE.at(0.5)
X0, EPS, LAST = pictures(0.5, 8), pictures(1.0, 9), pictures(0.5, 10)
X_T = T.alpha * X0 + T.sigma * EPS


def noisy(eps: Tensor = EPS) -> Noise:
    """A source of noise that always gives `eps`."""
    return lambda: eps


def _raw(f: Answer, x0: Tensor) -> Tensor:
    """One deterministic step."""
    return f(X_T, x0, T, S)


def _variance(f: Answer) -> float:
    """Of what a stochastic step adds to one and the same x_t."""
    zero, one = f(X_T, X0, T, S, noisy(torch.zeros_like(EPS))), f(X_T, X0, T, S, noisy(torch.ones_like(EPS)))
    return float((one - zero).square().mean())


def _second(f: Answer) -> Tensor:
    """The step of a second-order method, with a step before it."""
    return f(X_T, X0, T, S, None, (LAST, BEFORE))


def _posterior(t: Level, s: Level) -> float:
    """The variance of q(x_s | x_t, x0)."""
    return (1 - math.exp(t.log_snr - s.log_snr)) * s.sigma**2


EXERCISES: dict[str, Exercise] = {
    "DDIM step": Exercise(
        "A step of DDIM",
        (
            (lambda f: _raw(f, X0).shape == X0.shape, "the answer must have the shape of x_t"),
            (
                lambda f: not same(_raw(f, X0), S.alpha * X0 + T.sigma * EPS),
                "this mixes the picture of level s with the noise of level t: it gets no less noisy",
            ),
            (
                lambda f: not same(_raw(f, X0), T.alpha * X0 + T.sigma * EPS),
                "this is x_t again: alpha and sigma of the *next* level, s, make x_s",
            ),
            (
                lambda f: same(_raw(f, X0), S.alpha * X0 + S.sigma * EPS),
                "x_t was made of x0 and a known noise: the step must mix just these two again, at level s",
            ),
            (
                lambda f: same(_raw(f, 0.5 * X0), ddim_step(X_T, 0.5 * X0, T, S)),
                "with another x0 (a clipped one, say) the noise is another too: derive it again from x_t and x0",
            ),
        ),
        ddim_step,
        (X_T, X0, T, S),
    ),
    "DDPM step": Exercise(
        "A step of DDPM",
        (
            (lambda f: f(X_T, X0, T, S, noisy()).shape == X0.shape, "the answer must have the shape of x_t"),
            (lambda f: _variance(f) > 1e-6, "nothing random is added: call noise()"),
            (
                lambda f: abs(_variance(f) - _posterior(T, S) ** 2) > 1e-4,
                "the noise is multiplied by the variance; it has to be its square root",
            ),
            (
                lambda f: abs(_variance(f) - S.sigma**2) > 1e-4,
                "all of the noise of level s is new: some of what is in x_t must stay",
            ),
            (
                lambda f: abs(_variance(f) - _posterior(T, S) * (T.sigma / S.sigma) ** 2) > 1e-4,
                "this is the variance of going from s to t; coming back, x0 is known: sigma of level s",
            ),
            (
                lambda f: abs(_variance(f) - _posterior(T, S)) < 1e-4,
                "the variance is not (1 - SNR_t / SNR_s) sigma_s²",
            ),
            (
                lambda f: same(f(X_T, X0, T, S, noisy()), ddpm_step(X_T, X0, T, S, noisy())),
                "the noise is right, the mean is not: ρ alpha_s / alpha_t x_t + (1 - ρ) alpha_s x0, ρ = SNR_t / SNR_s",
            ),
        ),
        ddpm_step,
        (X_T, X0, T, S, noisy()),
    ),
    "2M step": Exercise(
        "A step of DPM-Solver++(2M)",
        (
            (lambda f: _second(f).shape == X0.shape, "the answer must have x_t's shape"),
            (
                lambda f: same(f(X_T, X0, T, S, None, None), ddim_step(X_T, X0, T, S)),
                "without a step before it (last is None) it must be DDIM",
            ),
            (
                lambda f: not same(_second(f), ddim_step(X_T, X0, T, S)),
                "the step before is not used: x0 goes on in the direction in which it was going",
            ),
            (
                lambda f: not same(_second(f), dpmpp_2m_step(X_T, LAST, T, S, None, (X0, BEFORE))),
                "the two are swapped: start from the newer x0",
            ),
            (
                lambda f: not same(_second(f), _full(X_T, X0, T, S, (LAST, BEFORE))),
                "this goes on for a whole step: the x0 of the middle of the step is wanted, half as far",
            ),
            (
                lambda f: same(_second(f), _second(dpmpp_2m_step)),
                "steps are measured in log-SNR, not in t: r is the ratio of the step before to this one",
            ),
        ),
        dpmpp_2m_step,
        (X_T, X0, T, S, None, (LAST, BEFORE)),
    ),
}  # fmt: skip


def _full(x_t: Tensor, x0: Tensor, t: Level, s: Level, last: tuple[Tensor, Level]) -> Tensor:
    """2M with x0 carried on for a whole step instead of half of one."""
    r = (t.log_snr - last[1].log_snr) / (s.log_snr - t.log_snr)
    return ddim_step(x_t, x0 + (x0 - last[0]) / r, t, s)
