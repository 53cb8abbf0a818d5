"""Classifier-free guidance: making the picture heed its text more than the model would by itself (Imagen §2.2)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from imagen_lite.prediction import Kind, to_eps, to_x0
from imagen_lite.schedule import Level, per_picture

Guidance = Callable[[Tensor, Tensor, Tensor | float], Tensor]
Weight = Tensor | float | Callable[[Level], float]
PredictEps = Callable[[Tensor, Level], Tensor]


def classifier_free_guidance(eps_cond: Tensor, eps_uncond: Tensor, weight: Tensor | float) -> Tensor:
    """w eps(x_t, text) + (1 - w) eps(x_t) (§2.2), the same as eps_u + w (eps_c - eps_u).

    w = 1 is exactly `eps_cond`, guidance off; w = 0 ignores the text; above 1 it goes beyond what the text asked for.
    (Ho & Salimans write w for our w - 1.)

    Args:
        eps_cond, eps_uncond: (B, 3, H, W), the noise predicted with the text and with the null condition.
        weight: one number, or one per picture (B,).
    """
    w = per_picture(weight, eps_cond)
    return w * eps_cond + (1 - w) * eps_uncond


def check_weight(weight: Weight) -> None:
    """Raises ValueError for a guidance weight that is negative, infinite or NaN; functions are checked when called."""
    if callable(weight):
        return
    values = torch.as_tensor(weight)
    if not bool((values.isfinite() & (values >= 0)).all()):
        raise ValueError(f"guidance weight must be a finite number, 1 (off) or more as a rule, not {weight}")


# Since Imagen ----------------------------------------------------------------------------------------------------


def interval_weight(weight: float, low: float, high: float) -> Callable[[Level], float]:
    """w where low < sigma / alpha <= high, and 1, which costs half, elsewhere (Kynkäänniemi et al. 2404.07724, Eq. 6).

    Guidance does harm where there is most noise, and nothing where there is least. `sigma / alpha` is the noise level
    of their (variance exploding) notation.

    Raises:
        ValueError: a weight that is none, or an empty interval.
    """
    check_weight(weight)
    if not 0 <= low < high:
        raise ValueError(f"the interval needs 0 <= low < high, not {low} and {high}")
    return lambda level: weight if low < level.sigma / level.alpha <= high else 1.0


def rescaled_guidance(eps_cond: Tensor, eps_uncond: Tensor, weight: Tensor | float, phi: float = 0.7) -> Tensor:
    """phi x_cfg std(x_c) / std(x_cfg) + (1 - phi) x_cfg (Lin et al. 2305.08891, Eqs. 15 and 16).

    A large w makes the guided prediction larger, not only different; this gives it the size that it has with w = 1.

    Args:
        phi: 0 is plain guidance, 1 the whole rescaling.
    """
    guided_eps = classifier_free_guidance(eps_cond, eps_uncond, weight)
    over = tuple(range(1, eps_cond.dim()))
    rescaled = guided_eps * (eps_cond.std(over, keepdim=True) / guided_eps.std(over, keepdim=True))
    return phi * rescaled + (1 - phi) * guided_eps


@dataclass(frozen=True)
class OnX0:
    """A guidance whose two predictions are pictures, (x0_cond, x0_uncond, weight) -> x0; `guided` converts."""

    guidance: Guidance


def projected_guidance(
    x0_cond: Tensor, x0_uncond: Tensor, weight: Tensor | float, eta: float = 0.0, radius: float = math.inf,
    difference: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """x0_c + (w - 1) (d_orthogonal + eta d_parallel), d = x0_c - x0_u (Sadat et al. 2410.02416, Eqs. 9 to 11).

    What of d points along x0_c itself makes the picture louder, which saturates; what is orthogonal makes it different.

    Args:
        x0_cond, x0_uncond: (B, 3, H, W), the pictures predicted with the text and with the null condition.
        eta: how much of the parallel part is kept; 1 (with no radius) is `classifier_free_guidance`.
        radius: d is shortened to this Euclidean length, each picture by itself.
        difference: a d of your own, such as one with momentum.
    """
    d = x0_cond - x0_uncond if difference is None else difference
    over = tuple(range(1, d.dim()))
    d = d * (radius / torch.linalg.vector_norm(d, dim=over, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)
    along = x0_cond / torch.linalg.vector_norm(x0_cond, dim=over, keepdim=True).clamp_min(1e-12)
    parallel = (d * along).sum(over, keepdim=True) * along
    return x0_cond + (per_picture(weight, d) - 1) * (d - parallel + eta * parallel)


def adaptive_projected_guidance(eta: float = 0.0, radius: float = math.inf, momentum: float = -0.5) -> OnX0:
    """`projected_guidance` whose d is a running sum, d <- x0_c - x0_u + momentum d; a negative one drives away from
    the steps before (APG, Sadat et al. 2410.02416, §4). It remembers: make a new one for each call of `sample`.
    """
    past: list[Tensor] = []

    def guidance(x0_cond: Tensor, x0_uncond: Tensor, weight: Tensor | float) -> Tensor:
        d = x0_cond - x0_uncond + (momentum * past.pop() if past else 0.0)
        past.append(d)
        return projected_guidance(x0_cond, x0_uncond, weight, eta, radius, difference=d)

    return OnX0(guidance)


# What the network is asked ---------------------------------------------------------------------------------------


class Text(Protocol):
    """The part of `text.TextEmbedding` that guidance needs."""

    def null(self) -> Any:
        """The null condition for the same batch."""
        ...

    @staticmethod
    def cat(parts: Sequence[Any]) -> Any:
        """Several batches as one."""
        ...


def guided(
    model: Callable[..., Tensor],
    text: Text,
    weight: Weight = 1.0,
    *,
    kind: Kind = "eps",
    guidance: Guidance | OnX0 = classifier_free_guidance,
    low_res: Tensor | None = None,
    aug_level: Tensor | None = None,
) -> PredictEps:
    """The guided noise as a function of (x_t, level), which is all that a sampler has to know of the model.

    Both halves, with text and with the null condition, go through the network as one batch and see the same
    `low_res`. At w = 1 the null half would be multiplied by 0, so it is not computed (a `guidance` of your own always
    gets both).

    Args:
        model: called as model(x_t, t, text, low_res, aug_level), with t (B,).
        text: the condition of B pictures; `kind`: what the model predicts.
        weight: one number, or (B,), or a function of the level that gives one.
        low_res, aug_level: (B, 3, H, W) and (B,), for super-resolution.

    Raises:
        ValueError: a weight that is negative, infinite or NaN.
    """
    check_weight(weight)
    conditions = (text, text.cat([text, text.null()]))

    def ask(x_t: Tensor, level: Level, halves: int) -> Tensor:
        """The network's output, (B, ...) with the text, or (2 B, ...) with and without."""
        x = torch.cat([x_t] * halves)
        t = torch.full((len(x),), level.t, dtype=torch.float32, device=x.device)
        extra = (None if value is None else torch.cat([value] * halves) for value in (low_res, aug_level))
        return model(x, t, conditions[halves - 1], *extra).to(x.dtype)

    def predict_eps(x_t: Tensor, level: Level) -> Tensor:
        w = weight(level) if callable(weight) else weight
        check_weight(w)
        scales = (level.alpha, level.sigma)
        if guidance is classifier_free_guidance and bool((torch.as_tensor(w) == 1).all()):
            return to_eps(ask(x_t, level, 1), x_t, *scales, kind)
        cond, uncond = ask(x_t, level, 2).chunk(2)
        if isinstance(guidance, OnX0):
            x0 = guidance.guidance(to_x0(cond, x_t, *scales, kind), to_x0(uncond, x_t, *scales, kind), w)
            return to_eps(x0, x_t, *scales, "x0")
        return guidance(to_eps(cond, x_t, *scales, kind), to_eps(uncond, x_t, *scales, kind), w)

    return predict_eps
