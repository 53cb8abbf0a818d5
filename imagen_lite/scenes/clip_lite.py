"""CLIP-lite: how well a picture and a caption go together, as a contrastive model learned it (CLIP, 2103.00020).

Two towers map pictures and captions to unit vectors, trained so that a picture's own caption is nearer to it than those
of other pictures. The paper measures alignment by CLIP and warns that it is poor at counting (§3); this one, trained on
our world, lets us see what such a score knows and what it does not.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite.layers import group_norm
from imagen_lite.t5 import T5Config, T5Encoder
from imagen_lite.text.tokenizer import CaptionTokenizer, check_captions, check_tokenizer
from imagen_lite.weights import DATA, load_config, load_into

TOKENIZER = DATA / "weights" / "t5-lite-base"  # whose tokens it reads; the rest of that encoder it does not use
SIDE = 64  # pixels a side of what it looks at
LENGTH = 48  # tokens of a caption that are read
HOTTEST = 100.0  # the largest factor on cosines, as in CLIP
BANDWIDTH = 0.5  # of the kernel between unit vectors, whose distances are about 1


@dataclass(frozen=True)
class ClipConfig:
    """`widths` of the picture tower at 32, 16 and 8 cells a side; width `dim` and `layers` of the text tower, which is
    also the width of what both give."""

    widths: tuple[int, int, int] = (48, 96, 128)
    dim: int = 128
    layers: int = 3
    vocabulary: int = 1024

    def __post_init__(self):
        if len(self.widths) != 3 or any(w < 16 or w % 16 for w in self.widths):
            raise ValueError(f"widths must be three multiples of 16, not {self.widths}")
        if self.dim < 32 or self.dim % 32 or self.layers < 1:
            raise ValueError(f"dim must be a multiple of 32 and layers at least 1, not {self.dim} and {self.layers}")


class PictureTower(nn.Module):
    """Convolutions from 32 to 8 cells a side, then attention pooling: the mean asks each cell, as in CLIP's ResNets."""

    def __init__(self, config: ClipConfig):
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for k, (narrow, wide) in enumerate(zip((12, *config.widths), config.widths, strict=False)):
            for a, b, stride in ((narrow, wide, 2 if k else 1), (wide, wide, 1)):
                layers += [nn.Conv2d(a, b, 3, stride, 1, bias=False), group_norm(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.place = nn.Parameter(torch.randn((SIDE // 8) ** 2 + 1, config.widths[-1]) * 0.1)
        self.attend = nn.MultiheadAttention(config.widths[-1], config.widths[-1] // 16, batch_first=True)
        self.out = nn.Linear(config.widths[-1], config.dim)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 64, 64) -> (B, D)."""
        cells = self.body(images).flatten(2).transpose(1, 2)  # (B, 64, C)
        cells = torch.cat([cells.mean(1, keepdim=True), cells], 1) + self.place
        return self.out(self.attend(cells[:, :1], cells, cells, need_weights=False)[0][:, 0])


class ClipLite(nn.Module):
    """Both towers, and the factor on their cosines."""

    def __init__(self, config: ClipConfig = ClipConfig()):
        super().__init__()
        self.config = config
        self.picture = PictureTower(config)
        self.text = T5Encoder(
            T5Config(
                vocab_size=config.vocabulary, d_model=config.dim, d_kv=32, num_heads=config.dim // 32,
                num_layers=config.layers, d_ff=2 * config.dim,
            )
        )  # fmt: skip
        nn.init.normal_(self.text.embedding.weight, std=0.1)
        self.out = nn.Linear(config.dim, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(14.0).log())  # as CLIP starts: 1 / 0.07

    def of_pictures(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], of any size -> unit vectors (B, D)."""
        if images.shape[-1] != SIDE or images.shape[-2] != SIDE:
            images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        return F.normalize(self.picture(images), dim=1)

    def tokens(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What the text tower knows of each token, for whoever conditions on it: ids, mask (B, L) -> (B, L, D)."""
        return self.text(ids, mask)

    def of_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors (B, D) from the token that ends each caption: ids, mask (B, L)."""
        last = mask.sum(1) - 1
        return F.normalize(self.out(self.tokens(ids, mask)[torch.arange(len(ids), device=ids.device), last]), dim=1)

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Scaled cosines (B, B') of unit vectors (B, D) and (B', D)."""
        return self.log_scale.exp().clamp(max=HOTTEST) * pictures @ texts.T


def contrastive_loss(logits: Tensor) -> Tensor:
    """Each picture should find its caption among those of the batch, and each caption its picture; logits (B, B)."""
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@lru_cache(maxsize=1)
def tokenizer() -> CaptionTokenizer:
    """The tokenizer of the shipped text encoder. Raises WeightsError."""
    check_tokenizer(TOKENIZER)
    return CaptionTokenizer(TOKENIZER / "tokenizer.json", LENGTH)


@lru_cache(maxsize=2)
def load_clip_lite(folder: Path | None = None, device: str = "cpu") -> ClipLite:
    """The shipped model (data/weights/clip-lite), or one in another folder; loaded once. Raises WeightsError."""
    folder = folder or DATA / "weights" / "clip-lite"
    config = load_config(folder)
    model = ClipLite(ClipConfig(tuple(config.pop("widths")), **config))
    load_into(model, folder)
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def clip_scores(images: Tensor, captions: list[str], model: ClipLite | None = None) -> Tensor:
    """The cosine of every picture with every caption.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        captions: any number of them.
        model: a CLIP-lite; None takes the shipped one.

    Returns:
        (B, number of captions), on the images' device; in [-1, 1].

    Raises:
        TypeError, ValueError: captions that are not a list of strings, or none. WeightsError: no weights.
    """
    check_captions(captions)
    model = model or load_clip_lite(device=str(images.device))
    ids, mask = (part.to(images.device) for part in tokenizer()(captions))
    return model.of_pictures(images.float()) @ model.of_text(ids, mask).T


@torch.no_grad()
def kernel_distance(images: Tensor, real: Tensor, model: ClipLite | None = None) -> float:
    """1000 MMD² of two sets of pictures, by a Gaussian kernel on CLIP-lite's unit vectors (CMMD, 2401.09603).

    Unlike the Fréchet distance it supposes nothing of how features are spread, and is right on average for few
    pictures, too: of two sets alike it is 0, and then as often below as above.

    Args:
        images, real: (N, 3, H, W) and (M, 3, H, W) in [-1, 1], at least two each.

    Raises:
        ValueError: fewer than two pictures on a side.
    """
    if min(len(images), len(real)) < 2:
        raise ValueError(f"a kernel distance needs two pictures a side at least, not {len(images)} and {len(real)}")
    model = model or load_clip_lite(device=str(images.device))
    x, y = (
        torch.cat([model.of_pictures(part.float()) for part in side.split(256)]).double() for side in (images, real)
    )

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / (2 * BANDWIDTH**2))

    within = sum((kernel(z, z).sum() - len(z)) / (len(z) * (len(z) - 1)) for z in (x, y))
    return float(1000 * (within - 2 * kernel(x, y).mean()))
