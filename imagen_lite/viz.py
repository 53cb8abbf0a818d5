"""Figures and picture grids."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from imagen_lite.cascade import to_pil
from imagen_lite.weights import write_atomic

if TYPE_CHECKING:
    from IPython.display import Image as Shown
    from matplotlib.figure import Figure

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def grid(images: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """One picture of many: row by row, white between them.

    Args:
        images: (B, 3, H, W) in [-1, 1]; what lies outside is clipped.
        columns: pictures in a row; None makes the grid about square.
        gap: pixels between neighbours.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"images must be (B, 3, H, W) with B at least 1, not {tuple(images.shape)}")
    count, _, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    rows = math.ceil(count / columns)
    sheet = torch.ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for i, image in enumerate(images.detach().float().cpu()):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return to_pil(sheet[None])[0]


def picture_path(path: str | Path) -> Path:
    """`path` if a picture can be saved there, judged before any work is done; raises ValueError otherwise."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{str(path)!r} does not name a picture; end it in {', '.join(FORMATS)}")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; name a file in it, such as {str(path / 'out.png')!r}")
    return path


def save(picture: Image.Image, path: str | Path) -> Path:
    """Writes the whole picture or nothing, in the format that the name's ending says; returns the path."""
    path = picture_path(path)
    buffer = io.BytesIO()
    picture.save(buffer, FORMATS[path.suffix.lower()], quality=90)
    write_atomic(path, buffer.getvalue())
    return path


def _small(picture: Image.Image) -> tuple[str, bytes]:
    """The picture as JPEG; or as PNG of 128 colours where that is much smaller, as it is with stripes and letters."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    picture.save(jpeg, "JPEG", quality=74, optimize=True)
    picture.quantize(128).save(png, "PNG", optimize=True)
    return ("png", png.getvalue()) if png.tell() < 0.7 * jpeg.tell() else ("jpeg", jpeg.getvalue())


def show(picture: "Tensor | Image.Image | Figure", alt: str, columns: int | None = None, scale: int = 2) -> "Shown":
    """A picture as a notebook's output: small enough to commit, and with words for those who do not see it.

    Args:
        picture: pictures (B, 3, H, W), shown as a `grid`; or a PIL image; or a matplotlib figure, which is closed.
        alt: what there is to see.
        columns: of the grid. scale: how many screen pixels the browser spreads a pixel of the pictures over.
    """
    from IPython.display import Image as Shown

    packed = io.BytesIO()
    if isinstance(picture, Tensor):
        sheet = grid(picture, columns, gap=1)
        sheet.save(packed, "JPEG", quality=84, optimize=True)
        return Shown(packed.getvalue(), format="jpeg", alt=alt, width=sheet.width * scale)
    if isinstance(picture, Image.Image):
        form, data = _small(picture.convert("RGB"))
        return Shown(data, format=form, alt=alt, width=picture.width)
    from matplotlib import pyplot

    picture.savefig(packed, format="png", dpi=140, bbox_inches="tight")
    pyplot.close(picture)
    drawn, packed = Image.open(packed).convert("RGB").quantize(48), io.BytesIO()
    drawn.save(packed, "PNG", optimize=True)
    # More pixels than it is wide: sharp on a fine screen.
    return Shown(packed.getvalue(), format="png", alt=alt, width=int(drawn.width / 1.75))
