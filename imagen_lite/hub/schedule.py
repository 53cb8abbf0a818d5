"""The noise schedule of a model that was trained on T steps of noise, as those of `diffusers` are."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from imagen_lite.schedule import Schedule


@dataclass(frozen=True)
class DiscreteSchedule(Schedule):
    """The noise of a model that was trained on T steps of it, by its table of alpha², the product of all (1 - beta).

    Step i of 0, ..., T - 1 lies at t = (i + 1) / T; between steps lambda is interpolated, and below 1/T it is step 0's.
    So n sampling steps, where n divides T, fall on steps that the model knows: T - 1, T - 1 - T/n, ...

    Raises:
        ValueError: fewer than 2 steps, or alpha² that does not fall from step to step, within (0, 1).
    """

    alphas_cumprod: tuple[float, ...] = field(repr=False)

    def __post_init__(self):
        table = self.alphas_cumprod
        if len(table) < 2 or not table[0] < 1 or not table[-1] > 0 or any(b >= a for a, b in pairwise(table)):
            ends = f"not {len(table)} values from {table[0]} to {table[-1]}" if table else "but it is empty"
            raise ValueError(f"alphas_cumprod must fall at every step within (0, 1), {ends}")

    @cached_property
    def _table(self) -> Tensor:
        alpha2 = torch.tensor(self.alphas_cumprod, dtype=torch.float64)
        return (alpha2 / (1 - alpha2)).log()

    def log_snr(self, t: Tensor | float) -> Tensor:
        """lambda(t), interpolated between the steps' own."""
        t, last = torch.as_tensor(t), len(self.alphas_cumprod) - 1
        table, place = self._table.to(t), (t * (last + 1) - 1).clamp(0, last)
        before = place.long().clamp(max=last - 1)
        return torch.lerp(table[before], table[before + 1], place - before)

    def t(self, log_snr: Tensor | float) -> Tensor:
        """The inverse: the two steps that `log_snr` lies between, and where."""
        log_snr, steps = torch.as_tensor(log_snr), len(self.alphas_cumprod)
        table = self._table.to(log_snr)
        after = torch.searchsorted(-table, -log_snr).clamp(1, steps - 1)
        share = (table[after - 1] - log_snr) / (table[after - 1] - table[after])
        return (after + share.clamp(0, 1)) / steps

    def step(self, angle: Tensor) -> Tensor:
        """The step, int64, whose noise is nearest to that of an `angle` in [0, 1] (alpha = cos(pi/2 angle))."""
        quarter = math.pi / 2  # sines, since float32 cannot hold the angle near 1, but it can hold the rest
        log_snr = 2 * (torch.sin(quarter * (1 - angle)).log() - torch.sin(quarter * angle).log())
        return (self.t(log_snr) * len(self.alphas_cumprod)).round().long() - 1

    def time(self, step: Tensor) -> Tensor:
        """The t of a step."""
        return (step + 1) / len(self.alphas_cumprod)
