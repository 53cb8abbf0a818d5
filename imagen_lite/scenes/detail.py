"""The detail reader: which pattern, or which letter, a thing bears, seen close; it judges super-resolution.

The reader of `scenes.reader` looks at 64 px, where patterns and letters blur into one another. This one looks at a
single thing in a picture of 256 px or more, and is told where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite.layers import group_norm
from imagen_lite.scenes.world import LETTERS, PATTERNS
from imagen_lite.weights import DATA, load_config, load_into

DETAILS = {"pattern": PATTERNS, "letter": ("", *LETTERS)}
CROP = 64  # pixels a side of what it sees of a thing
MARGIN = 1.15  # the crop's side, in longer sides of the thing's box

Box = tuple[float, float, float, float]  # centre x, y, width, height in [0, 1], as of `reader.box_of`


@dataclass(frozen=True)
class DetailConfig:
    """Widths of the network at 32, 16, 8 and 4 cells a side."""

    widths: tuple[int, int, int, int] = (32, 48, 64, 96)

    def __post_init__(self):
        if len(self.widths) != 4 or any(w < 16 or w % 16 for w in self.widths):
            raise ValueError(f"widths must be four multiples of 16, not {self.widths}")


class DetailReader(nn.Module):
    """Four convolutions at half the size each, twice; then a head for each of `DETAILS`."""

    def __init__(self, config: DetailConfig = DetailConfig()):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for narrow, wide in zip((3, *config.widths), config.widths, strict=False):
            for a, b, stride in ((narrow, wide, 2), (wide, wide, 1)):
                layers += [nn.Conv2d(a, b, 3, stride, 1, bias=False), group_norm(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(config.widths[-1], len(v)) for name, v in DETAILS.items()})

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """Crops (B, 3, 64, 64) -> logits {name of DETAILS: (B, number of words)}."""
        pooled = self.body(crops).amax((2, 3))
        return {name: head(pooled) for name, head in self.heads.items()}


def crops_of(images: Tensor, boxes: Sequence[Box]) -> Tensor:
    """The square around one thing in each of the images (B, 3, H, W), at 64 px: (B, 3, 64, 64)."""
    x, y, width, height = torch.tensor(boxes, dtype=torch.float32, device=images.device).T  # (B,) each
    side = MARGIN * torch.maximum(width, height)
    theta = torch.zeros(len(boxes), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, 0, 2], theta[:, 1, 2] = side, side, 2 * x - 1, 2 * y - 1
    grid = F.affine_grid(theta, [len(boxes), 3, 2 * CROP, 2 * CROP], align_corners=False)
    fine = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(fine, 2)  # four samples a pixel: the crop may be smaller than the picture


@lru_cache(maxsize=2)
def load_detail_reader(folder: Path | None = None, device: str = "cpu") -> DetailReader:
    """The shipped detail reader (data/weights/detail), or one in another folder; loaded once. Raises WeightsError."""
    folder = folder or DATA / "weights" / "detail"
    model = DetailReader(DetailConfig(tuple(load_config(folder)["widths"])))
    load_into(model, folder)
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def read_details(images: Tensor, boxes: Sequence[Box], model: DetailReader | None = None) -> list[dict[str, str]]:
    """What one thing in each picture bears.

    Args:
        images: (B, 3, H, W) in [-1, 1], sides of 256 or more for letters to be legible.
        boxes: of the thing in each, centre x, y, width, height in [0, 1].
        model: a detail reader; None takes the shipped one.

    Returns:
        For each picture {"pattern": ..., "letter": ...}, words of `DETAILS`.

    Raises:
        ValueError: not one box a picture. WeightsError: no weights.
    """
    if len(images) != len(boxes):
        raise ValueError(f"{len(images)} images but {len(boxes)} boxes; give one box for each image")
    model = model or load_detail_reader(device=str(images.device))
    logits = model(crops_of(images, boxes).clamp(-1, 1))
    best = {name: values.argmax(1).tolist() for name, values in logits.items()}
    return [{name: DETAILS[name][best[name][i]] for name in DETAILS} for i in range(len(images))]
