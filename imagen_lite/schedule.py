"""Noise schedules: how much picture and how much noise is left at time t (Imagen §2.2, App. A).

    q(x_t | x_0) = N(alpha x_0, sigma² I)        alpha² = sigmoid(lambda),  sigma² = sigmoid(-lambda)

Everything follows from the log signal-to-noise ratio lambda(t) = log(alpha²/sigma²), which falls as t goes from
0 (clean) to 1 (noise). It is the *full* one; other texts write lambda for half of it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def per_picture(value: Tensor | float, like: Tensor) -> Tensor | float:
    """`value`, one number or one for each picture (B,), so that it multiplies `like` (B, ...): (B, 1, ..., 1)."""
    if isinstance(value, Tensor) and value.dim() == 1:
        return value.to(like.device).view(-1, *[1] * (like.dim() - 1))
    return value


@dataclass(frozen=True)
class Level:
    """The noise level of one time, in plain numbers of double precision: what a sampler's step is written in."""

    t: float
    log_snr: float

    @property
    def alpha(self) -> float:
        """What is left of the picture, sqrt(sigmoid(lambda))."""
        return 1 / math.sqrt(1 + math.exp(-self.log_snr))

    @property
    def sigma(self) -> float:
        """The noise's standard deviation, sqrt(sigmoid(-lambda))."""
        return 1 / math.sqrt(1 + math.exp(self.log_snr))


class Schedule(ABC):
    """A noise schedule is its `log_snr(t)` and the inverse `t(log_snr)`; the rest follows.

    Times are numbers in [0, 1] or tensors of any shape, most often (B,).
    """

    @abstractmethod
    def log_snr(self, t: Tensor | float) -> Tensor:
        """lambda(t) = log(alpha²/sigma²), finite for all t in [0, 1]."""

    @abstractmethod
    def t(self, log_snr: Tensor | float) -> Tensor:
        """The time at which `log_snr` is reached; beyond the schedule's range, the nearest end."""

    def angle(self, t: Tensor) -> Tensor:
        """2/pi arctan(sigma/alpha), in [0, 1]: the time that a U-Net is told, so that it knows how much noise there is.

        For the cosine schedule that is t itself; a model of another schedule has its noise at other times.
        """
        return (-self.log_snr(t) / 2).exp().atan() * (2 / math.pi)

    def alpha(self, t: Tensor | float) -> Tensor:
        """What is left of the picture at t."""
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Tensor | float) -> Tensor:
        """The noise's standard deviation at t."""
        return torch.sigmoid(-self.log_snr(t)).sqrt()

    def add_noise(self, x0: Tensor, t: Tensor | float, eps: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma eps, for pictures (B, ...) and a time for all or for each (B,)."""
        alpha, sigma = per_picture(self.alpha(t), x0), per_picture(self.sigma(t), x0)
        return alpha * x0 + sigma * eps

    def at(self, t: float) -> Level:
        """The level of one time in [0, 1].

        Raises:
            ValueError: t outside [0, 1].
        """
        if not 0 <= t <= 1:
            raise ValueError(f"time t must be between 0 (clean) and 1 (noise), not {t}")
        return Level(t, float(self.log_snr(torch.tensor(t, dtype=torch.float64))))


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """alpha = cos(u), sigma = sin(u), the angle u growing evenly with t: Imagen's base and 64→256 models.

    The angle keeps off 0 and π/2, where lambda is infinite (Ho & Salimans 2022): lambda(0) is `lambda_max` and
    lambda(1) is `lambda_min`. `shift` moves the curve between these ends; 2 log(64/d) gives pictures of d pixels
    the noise that 64-pixel ones see (simple diffusion, 2301.11093).

    Raises:
        ValueError: a range that is empty or not within [-20, 20], a shift that is not within [-20, 20].
    """

    lambda_min: float = -20.0
    lambda_max: float = 20.0
    shift: float = 0.0

    def __post_init__(self):
        if not -20 <= self.lambda_min < self.lambda_max <= 20:
            got = f"{self.lambda_min} and {self.lambda_max}"
            raise ValueError(f"lambda_min must be below lambda_max, both within [-20, 20], not {got}")
        if not -20 <= self.shift <= 20:
            raise ValueError(f"shift is added to the log-SNR and must be within [-20, 20], not {self.shift}")

    def angle(self, t: Tensor) -> Tensor:
        """t: what the angle keeps off 0 and π/2 is left out."""
        return t

    @property
    def _gaps(self) -> tuple[float, float]:
        """How far the angle keeps from 0 at t = 0, and from π/2 at t = 1."""
        low = math.atan(math.exp((self.shift - self.lambda_max) / 2))
        high = math.atan(math.exp((self.lambda_min - self.shift) / 2))
        return low, high

    def log_snr(self, t: Tensor | float) -> Tensor:
        """lambda(t) = -2 log tan(u) + shift.

        tan(u) is written as sin(u) / sin(π/2 - u): near π/2 float32 cannot hold u, but it can hold the rest.
        """
        t = torch.as_tensor(t)
        low, high = self._gaps
        span = math.pi / 2 - low - high
        return 2 * (torch.sin(high + span * (1 - t)).log() - torch.sin(low + span * t).log()) + self.shift

    def t(self, log_snr: Tensor | float) -> Tensor:
        """The inverse: u = arctan exp(-(lambda - shift)/2)."""
        low, high = self._gaps
        u = torch.atan(torch.exp((self.shift - torch.as_tensor(log_snr)) / 2))
        return ((u - low) / (math.pi / 2 - low - high)).clamp(0, 1)


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """Noise is added in small steps whose variance beta grows linearly: Imagen's 256→1024 model.

    t = 0 is the first of the steps and t = 1 the last. Between them, with alpha² the product of all (1 - beta),

        -log alpha(t)² = a + b t + c t²

    since linear betas add up to a quadratic. a and c are chosen so that both ends are exact; for the paper's 1000
    steps from 1e-4 to 0.02, lambda differs from the discrete schedule's by at most 0.0101 (it runs from 9.21 to
    -10.12).

    Raises:
        ValueError: betas that do not grow within (0, 0.5), fewer than 2 steps.
    """

    beta_min: float = 1e-4
    beta_max: float = 0.02
    steps: int = 1000

    def __post_init__(self):
        if not 0 < self.beta_min < self.beta_max < 0.5:
            raise ValueError(f"betas must grow within (0, 0.5), not go from {self.beta_min} to {self.beta_max}")
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, not {self.steps}")

    @cached_property
    def _quadratic(self) -> tuple[float, float, float]:
        """a, b and c of -log alpha²."""
        last, rise = self.steps - 1, self.beta_max - self.beta_min
        total = math.fsum(-math.log1p(-self.beta_min - rise * i / last) for i in range(self.steps))
        a, b = -math.log1p(-self.beta_min), last * self.beta_min + rise / 2
        return a, b, total - a - b

    def log_snr(self, t: Tensor | float) -> Tensor:
        """lambda(t) = -log(1/alpha² - 1)."""
        t = torch.as_tensor(t)
        a, b, c = self._quadratic
        return -torch.expm1(a + b * t + c * t**2).log()

    def t(self, log_snr: Tensor | float) -> Tensor:
        """The inverse: -log alpha² = log(1 + exp(-lambda)), then the quadratic's root (the form that never cancels)."""
        a, b, c = self._quadratic
        rest = (torch.nn.functional.softplus(-torch.as_tensor(log_snr)) - a).clamp(min=0)
        return (2 * rest / (b + (b**2 + 4 * c * rest).sqrt())).clamp(0, 1)
