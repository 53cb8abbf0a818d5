"""Small pictures for the explorers, drawn with Pillow: a frame has to be ready in milliseconds.

A frame reaches the browser as one piece of HTML with its pictures inside: a widget for each of them would weigh more
than they do.
"""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imagen_lite.weights import write_atomic
from imagen_lite.widgets.sweep import EDGES, Frame

INK, GREY, FAINT, OUT, LINE = "#1a1a1a", "#767676", "#dddddd", "#d55e00", "#0072b2"  # Okabe & Ito's, colour-blind safe
SIDE = 320  # of a picture on a screen
STYLE = f"<style>{Path(__file__).with_name('style.css').read_text()}</style>"
CUT = 0.12  # height of a histogram's bar that fills the plot; taller ones are cut


def png(picture: Image.Image) -> bytes:
    """The picture as PNG bytes; at most 8 colours, which is enough for lines and letters, unless it has alpha."""
    packed = io.BytesIO()
    (picture if picture.mode == "RGBA" else picture.quantize(8)).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def jpeg(pixels: np.ndarray, quality: int = 88) -> bytes:
    """A picture (H, W, 3) uint8 as JPEG bytes, colours in full resolution: about 3 kB at 64 pixels a side."""
    packed, small = io.BytesIO(), pixels.size < 2**15  # Pillow cannot optimise a large noisy picture
    Image.fromarray(pixels).save(packed, "JPEG", quality=quality, subsampling=0, optimize=small)
    return packed.getvalue()


def img(data: bytes, alt: str, kind: str = "") -> str:
    """An <img> that holds its picture, of the CSS class `kind`."""
    form = "png" if data.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{form};base64,{base64.b64encode(data).decode()}"
    return f'<img class="{kind}" alt="{html.escape(alt, quote=True)}" src="{source}">'


def screen(picture: str, over: Image.Image | None = None, kind: str = "il-zebra") -> str:
    """An enlarged `img`, under something of its own size if given: zebra stripes or a shade. Laid out by `STYLE`."""
    upper = img(png(over), "", f"il-over {kind}") if over else ""
    return f'<div class="il-screen">{picture}{upper}</div>'


def enlarge(pixels: np.ndarray, side: int) -> Image.Image:
    """A picture (H, W, 3) uint8 at `side` pixels a side; whole pixels stay visible."""
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def zebra(pixels: np.ndarray, side: int = 64, period: int = 4) -> Image.Image:
    """Stripes, on nothing, where a value is at an end of the range, as cameras show clipped light: (side, side) RGBA.

    Black stripes on what is full, white ones on what is empty.
    """
    out = np.zeros((side, side, 4), np.uint8)
    stripes = (np.add.outer(np.arange(side), np.arange(side)) // (period // 2)) % 2 == 0
    scale = side // len(pixels)
    for value, ink in ((255, 0), (0, 255)):
        clipped = (pixels == value).any(-1).repeat(scale, 0).repeat(scale, 1)
        out[clipped & stripes] = (ink, ink, ink, 255)
    return Image.fromarray(out)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that a frame looks the same everywhere."""
    return ImageFont.load_default(size)


def histogram_plot(
    shares: Sequence[float], width: int, height: int, title: str = "predicted x0, last step"
) -> Image.Image:
    """The histogram of predicted x0, with fences at ±1; what lies outside them is in vermilion."""
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    bottom, top = height - 18, 18
    across = (EDGES - EDGES[0]) / (EDGES[-1] - EDGES[0]) * (width - 1)
    for share, left, right, center in zip(shares, across, across[1:], (EDGES[1:] + EDGES[:-1]) / 2, strict=False):
        tall = min(share / CUT, 1.0) * (bottom - top)
        if share > 0:
            pen.rectangle((left, bottom - max(tall, 1), right - 1, bottom), fill=OUT if abs(center) > 1 else LINE)
    pen.line((0, bottom, width, bottom), fill=GREY)
    for value in (-1, 1):
        x = float(np.interp(value, EDGES, across))
        pen.line((x, top - 4, x, bottom), fill=INK)
        pen.text((x, bottom + 2), f"{value:+d}", fill=INK, font=font(12), anchor="ma")
    pen.text((0, 0), title, fill=GREY, font=font(12))
    return picture


def curve_plot(values: Sequence[float], width: int, height: int, *, title: str, low: float, high: float) -> Image.Image:
    """A number step by step, from noise (left) to picture (right), between `low` and `high`."""
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    bottom, top, left = height - 6, 20, 34
    pen.line((left, bottom, width, bottom), fill=GREY)
    pen.line((left, top, width, top), fill=FAINT)
    for value, y in ((low, bottom), (high, top)):
        pen.text((left - 4, y), f"{value:g}", fill=GREY, font=font(12), anchor="rm")
    finite = np.nan_to_num(np.array(values, float), nan=high, posinf=high)
    x = np.linspace(left, width - 4, len(finite))
    y = bottom - (np.clip(finite, low, high) - low) / (high - low) * (bottom - top)
    pen.line([*map(tuple, np.stack([x, y], 1).tolist())], fill=OUT, width=2, joint="curve")
    pen.text((left, 0), title, fill=GREY, font=font(12))
    return picture


def plots(frame: Frame, width: int = 230) -> Image.Image:
    """What the sampler saw on the way to one picture: the x0 histogram, the share outside, s."""
    share = curve_plot(frame.outside, width, 84, title="share of x0 outside [-1, 1]", low=0, high=0.5)
    scale = curve_plot(frame.scale, width, 84, title="s, by which it is divided", low=1, high=4)
    return stack_pictures([histogram_plot(frame.histogram, width, 120), share, scale], across=False)


def stack_pictures(parts: Sequence[Image.Image], *, across: bool, gap: int = 8) -> Image.Image:
    """Pictures beside or below one another, on white."""
    width = sum(p.width for p in parts) + gap * (len(parts) - 1) if across else max(p.width for p in parts)
    height = max(p.height for p in parts) if across else sum(p.height for p in parts) + gap * (len(parts) - 1)
    sheet, at = Image.new("RGB", (width, height), "white"), 0
    for part in parts:
        sheet.paste(part, (at, 0) if across else (0, at))
        at += (part.width if across else part.height) + gap
    return sheet


def save_animation(frames: Sequence[Image.Image], path: str | Path, seconds: float) -> Path:
    """Writes the pictures one after another, `seconds` each, as an endless GIF; returns the path."""
    packed = io.BytesIO()
    frames[0].save(packed, "GIF", save_all=True, append_images=frames[1:], duration=int(1000 * seconds), loop=0)
    write_atomic(Path(path), packed.getvalue())
    return Path(path)
