"""Classifier-free guidance: making the picture heed its text more than the model would by itself (Imagen §2.2)."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from imagen_lite.prediction import Kind, to_eps
from imagen_lite.schedule import Level, per_picture

Guidance = Callable[[Tensor, Tensor, Tensor | float], Tensor]
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


def check_weight(weight: Tensor | float) -> None:
    """Raises ValueError for a guidance weight that is negative, infinite or NaN."""
    values = torch.as_tensor(weight)
    if not bool((values.isfinite() & (values >= 0)).all()):
        raise ValueError(f"guidance weight must be a finite number, 1 (off) or more as a rule, not {weight}")


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
    weight: Tensor | float = 1.0,
    *,
    kind: Kind = "eps",
    guidance: Guidance = classifier_free_guidance,
    low_res: Tensor | None = None,
    aug_level: Tensor | None = None,
) -> PredictEps:
    """The guided noise as a function of (x_t, level), which is all that a sampler has to know of the model.

    Both halves, with text and with the null condition, go through the network as one batch and see the same
    `low_res`. At w = 1 the null half would be multiplied by 0, so it is not computed (a `guidance` of your own always
    gets both).

    Args:
        model: called as model(x_t, t, text, low_res, aug_level), with t (B,).
        text: the condition of B pictures; `weight`: one number or (B,); `kind`: what the model predicts.
        low_res, aug_level: (B, 3, H, W) and (B,), for super-resolution.

    Raises:
        ValueError: a weight that is negative, infinite or NaN.
    """
    check_weight(weight)
    off = guidance is classifier_free_guidance and bool((torch.as_tensor(weight) == 1).all())
    halves = 1 if off else 2
    condition = text if off else text.cat([text, text.null()])
    low_res, aug_level = (None if x is None else torch.cat([x] * halves) for x in (low_res, aug_level))

    def predict_eps(x_t: Tensor, level: Level) -> Tensor:
        x = torch.cat([x_t] * halves)
        t = torch.full((len(x),), level.t, dtype=torch.float32, device=x.device)
        output = model(x, t, condition, low_res, aug_level).to(x.dtype)
        eps = to_eps(output, x, level.alpha, level.sigma, kind)
        if off:
            return eps
        eps_cond, eps_uncond = eps.chunk(2)
        return guidance(eps_cond, eps_uncond, weight)

    return predict_eps
