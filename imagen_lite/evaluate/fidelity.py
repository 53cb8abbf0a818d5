"""How real pictures look, and how faithful super-resolution is to what it was given; all of pictures in [-1, 1].

The Fréchet distance is the paper's (FID, §4.1), on features of a small world: of the reader, which has learned its
things and surfaces.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from imagen_lite.scenes.reader import Reader, load_reader


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
    cov_a, cov_b = (torch.atleast_2d(torch.cov(x.T)) for x in (a, b))
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


def consistency(images: Tensor, low_res: Tensor) -> Tensor:
    """PSNR in dB, peak to peak 2, of pictures (B, 3, H, W) made as small as what they were made from: (B,)."""
    small = F.interpolate(images.float(), low_res.shape[2:], mode="area")
    return 10 * torch.log10(4 / (small - low_res).square().mean((1, 2, 3)).clamp(min=1e-10))
