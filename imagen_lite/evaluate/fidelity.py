"""How real pictures look, and how faithful super-resolution is to what it was given; all of pictures in [-1, 1].

The Fréchet distance is the paper's (FID, §4.1), on features of a small world: of the reader, which has learned its
things and surfaces, and of random convolutions, which have learned nothing, as a check that no judge is the trainee's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from imagen_lite.scenes.reader import Reader, load_reader

RANDOM = (32, 64, 128)  # channels of the random convolutions, at full, half and a quarter of the size


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of the normal distributions fitted to features (N, D) and (M, D).

    0 if they are alike; grows as n falls, so compare only what has the same n (Heusel et al. 1706.08500).

    Raises:
        ValueError: features that are not two tables of one width, or hardly more rows than columns.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), not {tuple(a.shape)} and {tuple(b.shape)}")
    if min(len(a), len(b)) < 2 * a.shape[1]:
        raise ValueError(f"{min(len(a), len(b))} pictures are too few for {a.shape[1]} features; take twice as many")
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # of the first covariance
    middle = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * middle)


@torch.no_grad()
def reader_features(images: Tensor, model: Reader | None = None) -> Tensor:
    """What the reader's three scales respond to, averaged over pictures (B, 3, H, W) at their own size: (B, 192).

    They tell scenes apart, too: compare pictures of the same scenes.
    """
    model = model or load_reader(device=str(images.device))
    fine = model.fine(F.pixel_unshuffle(images.float().clamp(-1, 1), 2))
    middle = model.middle(fine)
    return torch.cat([maps.mean((2, 3)) for maps in (fine, middle, model.coarse(middle))], 1)


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


def consistency(images: Tensor, low_res: Tensor) -> Tensor:
    """PSNR in dB, peak to peak 2, of pictures (B, 3, H, W) made as small as what they were made from: (B,)."""
    small = F.interpolate(images.float(), low_res.shape[2:], mode="area")
    return 10 * torch.log10(4 / (small - low_res).square().mean((1, 2, 3)).clamp(min=1e-10))


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
