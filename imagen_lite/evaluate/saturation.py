"""What too much guidance does to a picture, in numbers: values out of range, piled up at its ends, loud colours.

All take pictures (B, 3, H, W), nominally in [-1, 1], and give one number a picture, (B,). The scale s by which dynamic
thresholding divided is `thresholding.applied_scale`.
"""

import torch
from torch import Tensor

EDGE = 1 - 1 / 255  # within half a step of 8 bits of the range's end: what a file stores as 0 or 255


def outside_share(raw_x0: Tensor) -> Tensor:
    """The share of values of a predicted x0 beyond [-1, 1], before any threshold; infinite and NaN values count."""
    return (~(raw_x0.abs() <= 1)).float().flatten(1).mean(1)


def saturated_share(images: Tensor) -> Tensor:
    """The share of values at (or beyond) an end of the range: pixels in which no detail is left."""
    return (~(images.abs() < EDGE)).float().flatten(1).mean(1)


def colorfulness(images: Tensor) -> Tensor:
    """Hasler & Süsstrunk (2003): sqrt(std_rg² + std_yb²) + 0.3 sqrt(mean_rg² + mean_yb²), on the scale of 0 to 255.

    rg = R - G, yb = (R + G) / 2 - B. They call 15 "slightly", 33 "moderately", 59 "quite", 109 "extremely colourful".
    """
    red, green, blue = ((images.float().clamp(-1, 1) + 1) * 127.5).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], 1).flatten(2)  # (B, 2, HW)
    spread = opponents.std(2, correction=0).square().sum(1).sqrt()
    return spread + 0.3 * opponents.mean(2).square().sum(1).sqrt()


def contrast(images: Tensor) -> Tensor:
    """Root-mean-square contrast: the standard deviation of luma (Rec. 601), on the scale of 0 to 1."""
    luma = torch.einsum("bchw,c->bhw", (images.float().clamp(-1, 1) + 1) / 2, images.new_tensor([0.299, 0.587, 0.114]))
    return luma.flatten(1).std(1, correction=0)
