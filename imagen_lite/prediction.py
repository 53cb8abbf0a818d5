"""What a network predicts, the noise eps, the picture x0, or v between them, and how each gives the others.

    x_t = alpha x0 + sigma eps          v = alpha eps - sigma x0          (alpha² + sigma² = 1)

Imagen predicts eps in all three models (App. A); v is Salimans & Ho's (2202.00512). `alpha` and `sigma` are one number
or one per picture, (B,); pictures are (B, ...).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from imagen_lite.schedule import per_picture

Kind = Literal["eps", "x0", "v"]
Weighting = Literal["plain", "min-snr", "snr+1"]
Scale = Tensor | float


def check_kind(kind: str) -> None:
    """Raises ValueError for a kind of prediction that there is not."""
    if kind not in get_args(Kind):
        raise ValueError(f"prediction kind must be 'eps', 'x0' or 'v', not {kind!r}")


def to_x0(output: Tensor, x_t: Tensor, alpha: Scale, sigma: Scale, kind: Kind) -> Tensor:
    """The picture that the network's output stands for. For eps, alpha must not be 0 (App. A)."""
    check_kind(kind)
    alpha, sigma = per_picture(alpha, x_t), per_picture(sigma, x_t)
    if kind == "eps":
        return (x_t - sigma * output) / alpha
    return alpha * x_t - sigma * output if kind == "v" else output


def to_eps(output: Tensor, x_t: Tensor, alpha: Scale, sigma: Scale, kind: Kind) -> Tensor:
    """The noise that the network's output stands for. For x0, sigma must not be 0."""
    check_kind(kind)
    alpha, sigma = per_picture(alpha, x_t), per_picture(sigma, x_t)
    if kind == "x0":
        return (x_t - alpha * output) / sigma
    return sigma * x_t + alpha * output if kind == "v" else output


def target(x0: Tensor, eps: Tensor, alpha: Scale, sigma: Scale, kind: Kind) -> Tensor:
    """What the network should have said, for the loss ||output - target||²."""
    check_kind(kind)
    if kind == "v":
        return per_picture(alpha, x0) * eps - per_picture(sigma, x0) * x0
    return eps if kind == "eps" else x0


def loss_weight(log_snr: Tensor, kind: Kind, weighting: Weighting = "plain", gamma: float = 5.0) -> Tensor:
    """The factor, (B,), of each picture's ||output - target||².

    "plain" is 1, Imagen's choice: for eps this counts errors of x0 by the SNR, since ||eps error||² is
    SNR ||x0 error||². "min-snr" (Hang et al. 2303.09556) counts errors of x0 by min(SNR, gamma), "snr+1" (Salimans & Ho
    2202.00512, the plain loss on v) by SNR + 1, in every kind; the factors below are that, divided by what the kind
    itself already multiplies with: 1, SNR, SNR + 1.

    Raises:
        ValueError: unknown kind or weighting.
    """
    check_kind(kind)
    if weighting == "plain":
        return torch.ones_like(log_snr)
    if weighting not in get_args(Weighting):
        raise ValueError(f"loss weighting must be 'plain', 'min-snr' or 'snr+1', not {weighting!r}")
    if weighting == "snr+1":
        if kind == "v":
            return torch.ones_like(log_snr)
        return torch.sigmoid(log_snr if kind == "eps" else -log_snr).reciprocal()
    if kind == "v":  # SNR / (SNR + 1) = sigmoid(lambda), 1 / (SNR + 1) = sigmoid(-lambda)
        return torch.minimum(torch.sigmoid(log_snr), gamma * torch.sigmoid(-log_snr))
    clipped = log_snr.clamp(max=math.log(gamma))
    return torch.exp(clipped if kind == "x0" else clipped - log_snr)
