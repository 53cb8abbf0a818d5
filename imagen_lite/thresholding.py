"""Thresholding: keeping the predicted picture within [-1, 1] (Imagen §2.3, App. D.2, Fig. A.31).

Guidance with a large weight pushes x0 = (x_t - sigma eps) / alpha out of the range that training ever showed, and the
sampler feeds on its own output. Each function takes pictures (B, ...) and gives them back in the same shape and dtype.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Threshold = Callable[[Tensor], Tensor]


def no_threshold(x0: Tensor) -> Tensor:
    """x0 as it is."""
    return x0


def static_threshold(x0: Tensor) -> Tensor:
    """clip(x0, -1, 1): prevents blank pictures, but piles pixels up at the ends of the range."""
    return x0.clamp(-1, 1)


def dynamic_threshold(x0: Tensor, percentile: float = 0.995, cap: float | None = None) -> Tensor:
    """clip(x0, -s, s) / s, with s from `dynamic_scale`: pulls saturated pixels inward instead of piling them up.

    Where s = 1, because (nearly) all of the picture is in range already, this is `static_threshold`.

    Raises:
        ValueError: percentile not in (0, 1], cap below 1.
    """
    full = x0.float() if x0.dtype in (torch.float16, torch.bfloat16) else x0
    s = dynamic_scale(full, percentile, cap)
    return (full.clamp(-s, s) / s).to(x0.dtype)


def dynamic_scale(x0: Tensor, percentile: float = 0.995, cap: float | None = None) -> Tensor:
    """s = max(the p-th percentile of |x0|, 1), for each picture over all its pixels and channels: (B, 1, ..., 1).

    Args:
        percentile: p as a fraction; the paper's 99.5 is 0.995.
        cap: the largest s allowed (DeepFloyd IF: 1.5). The paper has none; a cap of 1 is static thresholding.

    Raises:
        ValueError: percentile not in (0, 1], cap below 1.
    """
    if not 0 < percentile <= 1:
        raise ValueError(f"percentile is a fraction in (0, 1], 99.5 percent is 0.995, not {percentile}")
    if cap is not None and not cap >= 1:
        raise ValueError(f"cap is the largest scale s allowed and must be at least 1, not {cap}")
    s = _quantile(x0.float() if x0.dtype in (torch.float16, torch.bfloat16) else x0, percentile).clamp(1, cap)
    return s.view(-1, *[1] * (x0.dim() - 1))


def _quantile(x0: Tensor, p: float) -> Tensor:
    """torch.quantile(|x0|, p) of each picture, (B,), from its largest values: sorting all is slow at 1024²."""
    values = x0.abs().flatten(1)  # (B, N)
    rank = p * (values.shape[1] - 1)
    below = int(rank)
    largest = values.topk(values.shape[1] - below).values  # (B, N - below), falling
    return torch.lerp(largest[:, -1], largest[:, -2:][:, 0], rank - below)


def named_threshold(threshold: str | Threshold, percentile: float = 0.995) -> Threshold:
    """ "none", "static" or "dynamic" as a function of x0; a function is returned as it is.

    Raises:
        ValueError: any other name, percentile not in (0, 1].
    """
    if callable(threshold):
        return threshold
    dynamic_scale(torch.zeros(1, 1), percentile)
    functions = {"none": no_threshold, "static": static_threshold}
    functions["dynamic"] = partial(dynamic_threshold, percentile=percentile)
    if threshold not in functions:
        raise ValueError(f"threshold must be 'none', 'static', 'dynamic' or a function of x0, not {threshold!r}")
    return functions[threshold]


def applied_scale(raw_x0: Tensor, x0: Tensor) -> Tensor:
    """The s by which some threshold divided, (B,), read off its result: 1 for none and static.

    The pixel nearest to 0 tells: if even that one was clipped, to ±1, then all were, and nothing was divided.
    """
    raw, x0 = raw_x0.flatten(1), x0.flatten(1)
    nearest = raw.abs().masked_fill(raw == 0, torch.inf).argmin(1, keepdim=True)
    raw, x0 = raw.gather(1, nearest)[:, 0], x0.gather(1, nearest)[:, 0]
    return torch.where((x0.abs() < 1) & (x0 != 0), raw / x0, 1.0)
