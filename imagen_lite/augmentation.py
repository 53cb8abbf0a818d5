"""Noise conditioning augmentation: a super-resolution stage is trained, and sampled, on a picture made worse (§2.4).

The low-res picture is mixed with noise once, before the loop and at its own resolution, and the network is told how
much: so it forgives what the stage before got wrong. The level is not the noise's sigma, which is sin(pi/2 level).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from imagen_lite.schedule import per_picture

POWER = 0.29  # mean square of this world's pictures
SMOOTHED = 0.43  # variance that is left of noise of variance 1 after bilinear upsampling, four times


def noise_conditioning_augmentation(
    low_res: Tensor, aug_level: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """alpha low_res + sigma eps, with alpha = cos(pi/2 a) and sigma = sin(pi/2 a): variance-preserving (§2.4).

    Args:
        low_res: (B, 3, h, w), at its own resolution, before upsampling.
        aug_level: a in [0, 1], one number or one for each picture (B,). It is not sigma: a = 0.25 is sigma = 0.38.
        generator: of the noise; on the CPU, whatever the pictures' device.

    Raises:
        ValueError: a level outside [0, 1].
    """
    check_aug_level(aug_level)
    eps = torch.randn(low_res.shape, generator=generator).to(low_res)
    return augment(low_res, aug_level, eps)


def augment(low_res: Tensor, aug_level: Tensor | float, eps: Tensor) -> Tensor:
    """`noise_conditioning_augmentation` with noise `eps` of your own, (B, 3, h, w)."""
    angle = torch.as_tensor(aug_level, dtype=low_res.dtype, device=low_res.device) * (math.pi / 2)
    return per_picture(angle.cos(), low_res) * low_res + per_picture(angle.sin(), low_res) * eps


def expected_picture(low_res: Tensor, aug_level: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """What an augmented low-res picture alone makes one expect, before any network looks at it.

    The best linear guess, if pictures have the mean square `POWER`: the noisier `low_res`, the nearer it is to grey.

    Args:
        low_res: (B, 3, H, W), augmented and upsampled. aug_level: (B,), how much it was augmented.
        error: root mean square of what it leaves open without any augmentation.

    Returns:
        The guess (B, 3, H, W), and its root mean square error (B, 1, 1, 1).
    """
    angle = (aug_level.float() * (math.pi / 2)).view(-1, 1, 1, 1)
    signal, noise = POWER * angle.cos().square(), SMOOTHED * angle.sin().square()
    gain = POWER * angle.cos() / (signal + noise)
    return gain * low_res.float(), (POWER * noise / (signal + noise) + error**2).sqrt()


def upsample(low_res: Tensor, size: int) -> Tensor:
    """The low-res picture at the stage's size, as the U-Net takes it: (B, 3, size, size)."""
    return F.interpolate(low_res, (size, size), mode="bilinear", align_corners=False)


def check_aug_level(aug_level: Tensor | float) -> None:
    """Raises ValueError for an augmentation level outside [0, 1]."""
    if not bool(((levels := torch.as_tensor(aug_level)) >= 0).all() and (levels <= 1).all()):
        raise ValueError(f"aug_level must be within [0, 1] (its sigma is sin(pi/2 aug_level)), not {aug_level}")
