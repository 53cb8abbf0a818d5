"""Two dimensions, where nothing has to be learned: mixtures of Gaussians whose score is known at every noise level.

If x0 comes from a mixture of N(mean_k, std_k²), then x_t = alpha x0 + sigma eps comes from one of
N(alpha mean_k, alpha² std_k² + sigma²), so the best possible prediction of eps is a formula. `eps` has the shape that
`sampler.sample` asks for; two mixtures, one for all and one for a class, make classifier-free guidance exact.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagen_lite.schedule import Level


@dataclass(frozen=True)
class Mixture:
    """A mixture of K round Gaussians.

    Attributes:
        means: (K, D). stds: (K,), above 0. weights: (K,), above 0; they need not sum to 1.
    """

    means: Tensor
    stds: Tensor
    weights: Tensor

    def __post_init__(self):
        k = len(self.means)
        if self.means.dim() != 2 or self.stds.shape != (k,) or self.weights.shape != (k,):
            shapes = [tuple(v.shape) for v in (self.means, self.stds, self.weights)]
            raise ValueError(f"means, stds and weights must be (K, D), (K,) and (K,), not {shapes}")
        if not bool((self.stds > 0).all() and (self.weights > 0).all()):
            raise ValueError("stds and weights must be above 0")

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """`n` points, (n, D)."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[which] + self.stds[which, None] * noise

    def log_density(self, x: Tensor, level: Level | None = None) -> Tensor:
        """log p(x), or log p_t(x) of points noised to a level, for x (..., D) -> (...)."""
        return torch.logsumexp(self._parts(x, level)[0], -1)

    def eps(self, x_t: Tensor, level: Level) -> Tensor:
        """The best prediction of the noise in x_t (..., D): -sigma times the gradient of log p_t."""
        log_parts, offsets, variances = self._parts(x_t, level)
        share = log_parts.softmax(-1)  # (..., K): whose point it may be
        return level.sigma * (share[..., None] * offsets / variances[:, None]).sum(-2)

    def _parts(self, x: Tensor, level: Level | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of each Gaussian: the log of its part of the density (..., K), x - mean (..., K, D), its variance (K,)."""
        alpha, sigma = (1.0, 0.0) if level is None else (level.alpha, level.sigma)
        variances = alpha**2 * self.stds**2 + sigma**2
        offsets = x[..., None, :] - alpha * self.means
        dim = self.means.shape[1]
        log_parts = (self.weights / self.weights.sum()).log() - offsets.square().sum(-1) / (2 * variances)
        return log_parts - dim / 2 * (2 * math.pi * variances).log(), offsets, variances


def two_arms(count: int = 24) -> tuple[Mixture, Mixture]:
    """Two arms of a spiral, float64: one of them, which is a class, and both, which is everything.

    They meet in the middle, where a point does not tell its class, and end far apart, where it does.
    """
    radius = torch.linspace(0.25, 1.6, count, dtype=torch.float64)
    stds, even = 0.06 + 0.07 * radius, torch.ones(count, dtype=torch.float64)

    def along(phase: float) -> Tensor:
        angle = phase + 2.2 * radius
        return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)

    one, other = along(0.0), along(math.pi)
    return Mixture(one, stds, even), Mixture(torch.cat([one, other]), stds.repeat(2), even.repeat(2))


def best_guess(x_t: Tensor, data: Tensor, alpha: float, sigma: float) -> Tensor:
    """E[x0 | x_t] if x0 is one of the pictures in `data`, all as likely: what a perfect network would say.

    x_t (1, ...), data (N, ...) -> (1, ...), the average of `data` weighted by exp(-‖x_t - alpha x0‖² / (2 sigma²)).
    """
    distance = (x_t - alpha * data).square().flatten(1).sum(1)  # (N,)
    weights = (-distance / (2 * sigma**2)).softmax(0)
    return (weights.view(-1, *[1] * (data.dim() - 1)) * data).sum(0, keepdim=True)


class PointModel(nn.Module):
    """A small network that predicts the noise in points of the plane: four layers, and t as sines and cosines."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 16, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (B, 2), t (B,) in [0, 1] -> eps (B, 2)"""
        angles = t[:, None] * torch.pi * torch.arange(1, 9)
        return self.layers(torch.cat([x_t, angles.sin(), angles.cos()], 1))
