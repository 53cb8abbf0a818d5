"""Samplers: from noise to a picture, one step at a time (Imagen §2.2, App. A; DPM-Solver++ 2211.01095).

Each `*_step` moves x_t from level t to a less noisy level s. All of them look at the thresholded x0 alone: where
an equation needs eps, it is derived again as (x_t - alpha x0) / sigma. Keeping the network's own eps beside a
clipped x0 describes no picture at all. `sample` is the loop around any of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from imagen_lite.guidance import PredictEps
from imagen_lite.prediction import to_x0
from imagen_lite.schedule import Level, Schedule
from imagen_lite.thresholding import Threshold, applied_scale, dynamic_threshold

Noise = Callable[[], Tensor]
Last = tuple[Tensor, Level]
Step = Callable[[Tensor, Tensor, Level, Level, Noise, Last | None], Tensor]


def ddim_step(
    x_t: Tensor, x0: Tensor, t: Level, s: Level, noise: Noise | None = None, last: Last | None = None
) -> Tensor:
    """x_s = alpha_s x0 + sigma_s eps (Imagen Eq. 5). Deterministic: `noise` and `last` are for other samplers."""
    eps = (x_t - t.alpha * x0) / t.sigma
    return s.alpha * x0 + s.sigma * eps


def ddpm_step(
    x_t: Tensor, x0: Tensor, t: Level, s: Level, noise: Noise, last: Last | None = None, gamma: float = 0.0
) -> Tensor:
    """A draw of x_s given x_t and x0, the ancestral sampler (Imagen Eq. 6).

    The variance lies between that of q(x_s | x_t, x0), gamma = 0, and that of q(x_t | x_s), gamma = 1,
    interpolated in log space. `last` is for other samplers.
    """
    ratio = math.exp(t.log_snr - s.log_snr)  # SNR_t / SNR_s
    mean = ratio * s.alpha / t.alpha * x_t + (1 - ratio) * s.alpha * x0
    posterior, forward = (1 - ratio) * s.sigma**2, (1 - ratio) * t.sigma**2
    return mean + math.sqrt(posterior ** (1 - gamma) * forward**gamma) * noise()


def dpmpp_2m_step(
    x_t: Tensor, x0: Tensor, t: Level, s: Level, noise: Noise | None = None, last: Last | None = None
) -> Tensor:
    """One step of DPM-Solver++(2M) (Lu et al. 2211.01095), in half log-SNR. Deterministic: no use for `noise`.

    x0 is carried on along the line through `last`, the x0 and level of the step before, to the middle of this
    step. Without it this is `ddim_step`, written differently.
    """
    h = (s.log_snr - t.log_snr) / 2
    if last is not None:
        last_x0, last_level = last
        r = (t.log_snr - last_level.log_snr) / 2 / h
        x0 = x0 + (x0 - last_x0) / (2 * r)
    return s.sigma / t.sigma * x_t - s.alpha * math.expm1(-h) * x0


STEPS: dict[str, Step] = {"ddpm": ddpm_step, "ddim": ddim_step, "dpmpp_2m": dpmpp_2m_step}


def time_grid(
    steps: int,
    schedule: Schedule,
    *,
    spacing: Literal["time", "log_snr"] = "time",
    lambda_start: float | None = None,
) -> list[Level]:
    """The steps + 1 levels that a sampler visits, from noise to t = 0.

    Args:
        steps: evaluations of the (guided) model.
        spacing: even in "time", as in Imagen, or in "log_snr", which suits `dpmpp_2m_step` with few steps.
        lambda_start: the log-SNR of pure noise; by default the schedule's own least, at t = 1.

    Raises:
        ValueError: steps below 1, unknown spacing, a start outside the schedule's range.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1, not {steps}")
    noisiest, clean = schedule.at(1.0), schedule.at(0.0)
    start = noisiest.log_snr if lambda_start is None else lambda_start
    if not noisiest.log_snr <= start < clean.log_snr:
        between = f"{noisiest.log_snr:.2f} and {clean.log_snr:.2f}"
        raise ValueError(f"lambda_start must lie between the schedule's {between}, not {start}")
    if spacing == "time":
        t_start = 1.0 if lambda_start is None else float(schedule.t(torch.tensor(start, dtype=torch.float64)))
        return [schedule.at(t_start * (1 - i / steps)) for i in range(steps + 1)]
    if spacing != "log_snr":
        raise ValueError(f"spacing must be 'time' or 'log_snr', not {spacing!r}")
    log_snr = torch.linspace(start, clean.log_snr, steps + 1, dtype=torch.float64)
    return [Level(t, value) for t, value in zip(schedule.t(log_snr).tolist(), log_snr.tolist(), strict=True)]


def keyed_noise(
    seed: int | Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu", stream: int = 0
) -> Noise:
    """A source of standard normal noise, (B, ...) at each call, in which every picture has its own seed.

    Picture i uses seed + i, or seeds[i], and always draws on the CPU: the same seed gives the same picture,
    whatever the batch and the device. Another `stream` is another noise for the same seed (one per cascade stage).

    Raises:
        ValueError: seeds that are not as many as the pictures.
    """
    seeds = range(seed, seed + shape[0]) if isinstance(seed, int) else seed
    if len(seeds) != shape[0]:
        raise ValueError(f"there must be one seed for each of the {shape[0]} pictures, not {len(seeds)}")
    # torch's CPU generator reads 32 bits; an odd multiplier keeps streams far apart.
    generators = [torch.Generator().manual_seed((s + stream * 0x9E3779B9) % 2**32) for s in seeds]
    return lambda: torch.stack([torch.randn(*shape[1:], generator=g) for g in generators]).to(device)


@dataclass(frozen=True)
class State:
    """What one step of a sampler saw: everything that notebooks, widgets and progress bars show.

    Attributes:
        index, steps: this step, from 0, and how many there are.
        t: the level of x_t, with `t.t`, `t.log_snr`, `t.alpha`, `t.sigma`.
        x_t, raw_x0, x0: (B, ...): the noisy picture, the predicted clean one, the same thresholded.
    """

    index: int
    steps: int
    t: Level
    x_t: Tensor
    raw_x0: Tensor
    x0: Tensor

    @property
    def s(self) -> Tensor:
        """By how much the threshold divided each picture, (B,): above 1 only if dynamic."""
        return applied_scale(self.raw_x0, self.x0)


@torch.no_grad()
def sample(
    predict_eps: PredictEps,
    noise: Noise,
    levels: Sequence[Level],
    *,
    threshold: Threshold = dynamic_threshold,
    step: Step = ddim_step,
    start: Tensor | None = None,
) -> Iterator[State]:
    """Draws pictures: yields the `State` of each step, and the last one's x0 is the result (Imagen Fig. A.31).

    No step is taken after the last prediction, so no noise is added to it.

    Args:
        predict_eps: the noise in x_t at a level; `guidance.guided` makes one from a model and its text.
        noise: gives the first x_t, and what a stochastic step adds; see `keyed_noise`.
        levels: from `time_grid`; one evaluation at each but the last.
        threshold: x0 -> x0, see `thresholding`.
        step: (x_t, x0, t, s, noise, last) -> x_s, see `STEPS`; `last` is the step before's (x0, level), or None.
        start: the first x_t, where something is known of the picture; None is noise alone.
    """
    steps = len(levels) - 1
    x_t, last = noise() if start is None else start, None
    for index, (t, s) in enumerate(zip(levels, levels[1:], strict=False)):
        eps = predict_eps(x_t, t)
        raw_x0 = to_x0(eps, x_t, t.alpha, t.sigma, "eps")
        x0 = threshold(raw_x0)
        yield State(index, steps, t, x_t, raw_x0, x0)
        if index + 1 < steps:
            x_t = step(x_t, x0, t, s, noise, last)
            last = (x0, t)


def final(states: Iterable[State]) -> Tensor:
    """Runs a sampler to its end and gives the picture, (B, 3, H, W), keeping none of the states on the way."""
    x0 = None
    for state in states:
        x0 = state.x0
    if x0 is None:
        raise ValueError("the sampler yielded no state: its levels must hold at least two")
    return x0
