"""How pictures look, in numbers that no model has learned: random features, colour, the power of fine detail."""

import torch
import torch.nn.functional as F
from torch import Tensor

RANDOM = (32, 64, 128)  # channels of the random convolutions, at full, half and a quarter of the size


@torch.no_grad()
def random_features(images: Tensor, seed: int = 0) -> Tensor:
    """Deviations of what random convolutions at three scales respond to in pictures (B, 3, H, W): (B, 224).

    The first kernels sum to nothing, so that they answer to edges and grain, not to flat colour.
    """
    generator, x, found = torch.Generator().manual_seed(seed), images.float().clamp(-1, 1), []
    for channels in RANDOM:
        weight = torch.randn(channels, x.shape[1], 3, 3, generator=generator).to(x) / (3 * x.shape[1] ** 0.5)
        if not found:
            weight = weight - weight.mean((2, 3), keepdim=True)
        x = F.leaky_relu(F.conv2d(x, weight, stride=2 if found else 1, padding=1), 0.2)
        found.append(x.std((2, 3)))
    return torch.cat(found, 1)


def color_shift(images: Tensor, others: Tensor) -> Tensor:
    """By how much each channel's mean differs from that of other pictures, of any size: (B, 3)."""
    return images.float().mean((2, 3)) - others.float().mean((2, 3))


def spectrum(images: Tensor, bins: int = 32) -> Tensor:
    """Mean power of luma in `bins` rings of frequency, from 0 to half a cycle a pixel, over square pictures: (bins,).

    A blurred picture has too little power in the last rings, a noisy one too much.
    """
    luma = torch.einsum("bchw,c->bhw", images.float(), images.new_tensor([0.299, 0.587, 0.114]).float())
    size = luma.shape[-1]
    window = torch.hann_window(size, periodic=False).to(luma)
    power = torch.fft.fft2((luma - luma.mean((1, 2), keepdim=True)) * window * window[:, None]).abs().square().mean(0)
    along = torch.fft.fftfreq(size).to(luma)
    ring = ((along[:, None].square() + along.square()).sqrt() * 2 * bins).long()
    inside = ring < bins
    total = power.new_zeros(bins).index_add_(0, ring[inside], power[inside])
    return total / torch.bincount(ring[inside], minlength=bins).clamp(min=1)
