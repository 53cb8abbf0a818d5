"""The exercises of notebook 03: noise, its schedule, and what follows from a prediction of it."""

import torch
from torch import Tensor

from imagen_lite.learn.exercise import Exercise, pictures, same
from imagen_lite.toys import best_guess

X0, EPS, MORE = pictures(0.5, 5), pictures(1.0, 6), pictures(0.5, 7, count=5)
T = torch.tensor([0.1, 0.25, 0.5, 0.9], dtype=torch.float64)


def add_noise(x0: Tensor, eps: Tensor, alpha: float, sigma: float) -> Tensor:
    """x_t = alpha x_0 + sigma eps."""
    return alpha * x0 + sigma * eps


def cosine_log_snr(t: Tensor) -> Tensor:
    """lambda(t) = log(alpha²/sigma²) with alpha = cos(pi t / 2) and sigma = sin(pi t / 2)."""
    return -2 * torch.tan(torch.pi * t / 2).log()


def eps_to_x0(eps: Tensor, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """The picture to which `eps` must have been added."""
    return (x_t - sigma * eps) / alpha


EXERCISES: dict[str, Exercise] = {
    "add noise": Exercise(
        "Adding noise",
        (
            (lambda f: f(X0, EPS, 0.6, 0.8).shape == X0.shape, "the answer must have the shape of x0"),
            (lambda f: same(f(X0, EPS, 1.0, 0.0), X0), "with alpha = 1 and sigma = 0 the picture must stay as it is"),
            (
                lambda f: not same(f(X0, EPS, 0.6, 0.8), X0 + 0.8 * EPS),
                "the picture is not made weaker: without alpha the variance grows with the noise",
            ),
            (
                lambda f: not same(f(X0, EPS, 0.6, 0.8), 0.6**2 * X0 + 0.8**2 * EPS),
                "alpha and sigma are factors, not variances: leave out the squares",
            ),
            (
                lambda f: not same(f(X0, EPS, 0.6, 0.8), 0.8 * X0 + 0.6 * EPS),
                "the two are swapped: alpha goes with the picture",
            ),
            (lambda f: same(f(X0, EPS, 0.6, 0.8), 0.6 * X0 + 0.8 * EPS), "it is neither: alpha x0 + sigma eps"),
        ),
        add_noise,
        (X0, EPS, 0.6, 0.8),
    ),
    "log-SNR": Exercise(
        "The log signal-to-noise ratio",
        (
            (lambda f: f(T).shape == T.shape, "one number for each t: the answer must have the shape of t"),
            (
                lambda f: not same(f(T), -cosine_log_snr(T)),
                "the sign is turned round: there is most signal at t = 0, so lambda must fall",
            ),
            (
                lambda f: not same(f(T), cosine_log_snr(T) / 2),
                "this is half of it: the paper's lambda is the log of alpha²/sigma², of variances",
            ),
            (
                lambda f: not same(f(T), cosine_log_snr(T).exp()),
                "this is the ratio itself; its logarithm is asked for",
            ),
            (lambda f: same(f(T[2:3]), 0.0), "at t = 1/2 alpha and sigma are equal, so lambda must be 0"),
            (lambda f: same(f(T), cosine_log_snr(T)), "right at t = 1/2 alone: alpha is cos(pi t / 2)"),
        ),
        cosine_log_snr,
        (T,),
    ),
    "eps to x0": Exercise(
        "From the noise to the picture",
        (
            (lambda f: f(EPS, X0, 0.6, 0.8).shape == X0.shape, "the answer must have the shape of x_t"),
            (
                lambda f: not same(f(EPS, add_noise(X0, EPS, 0.6, 0.8), 0.6, 0.8), 0.6 * X0),
                "the noise is gone, but the picture is still alpha times as strong: divide",
            ),
            (
                lambda f: not same(f(EPS, add_noise(X0, EPS, 0.6, 0.8), 0.6, 0.8), add_noise(X0, EPS, 0.6, 0.8) - EPS),
                "only sigma times the noise was added, so only that may be taken away",
            ),
            (
                lambda f: same(f(EPS, add_noise(X0, EPS, 0.6, 0.8), 0.6, 0.8), X0),
                "what add_noise did is not undone: solve x_t = alpha x0 + sigma eps for x0",
            ),
            (
                lambda f: same(f(EPS, add_noise(3 * X0, EPS, 0.6, 0.8), 0.6, 0.8), 3 * X0),
                "a picture out of range must come out as it is: clipping is for notebook 08",
            ),
        ),
        eps_to_x0,
        (EPS, X0, 0.6, 0.8),
    ),
    "best guess": Exercise(
        "The best guess there is",
        (
            (
                lambda f: f(X0[:1], MORE, 0.6, 0.8).shape == X0[:1].shape,
                "the answer is one picture, the shape of x_t: an average of the pictures in data",
            ),
            (
                lambda f: not same(f(X0[:1], MORE, 0.6, 0.8), MORE.mean(0, keepdim=True)),
                "this is the plain average: pictures that explain x_t better must count more",
            ),
            (
                lambda f: same(f(0.99 * MORE[3:4], MORE, 0.99, 0.01), MORE[3:4]),
                "with hardly any noise the picture itself must come out: what is its distance to alpha times each?",
            ),
            (
                lambda f: same(f(X0[:1], MORE, 0.1, 3.0), best_guess(X0[:1], MORE, 0.1, 3.0)),
                "the weights are not the softmax of -distance²/(2 sigma²), with distances over all pixels and channels",
            ),
        ),
        best_guess,
        (X0[:1], MORE, 0.6, 0.8),
    ),
}  # fmt: skip
