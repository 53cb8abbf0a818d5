"""The explorers' stories as pictures without controls."""

from collections.abc import Mapping

from PIL import Image, ImageDraw

from imagen_lite.widgets.panels import GREY, INK, enlarge, font
from imagen_lite.widgets.sweep import THRESHOLDS, WEIGHTS, Drawn


def sweep_sheet(prompt: str, frames: Mapping[tuple[int, int], Drawn], side: int = 160) -> Image.Image:
    """A contact sheet: a row a thresholding, a column a guidance weight; under each the share of values at the ends of
    the range, and the reader's verdict, right or wrong.

    Args:
        prompt: its title.
        frames: (thresholding, weight), as indices -> the picture and what is known of it; others stay empty.
        side: pixels a side of each picture.
    """
    left, top, step, line = 84, 64, side + 8, 22
    sheet = Image.new("RGB", (left + len(WEIGHTS) * step, top + len(THRESHOLDS) * (step + line)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((left, 8), f"“{prompt}”", fill=INK, font=font(19))
    for column, weight in enumerate(WEIGHTS):
        label = f"w = {weight:g}" + (" (off)" if weight == 1 else "")
        pen.text((left + column * step + side / 2, top - 8), label, fill=INK, font=font(15), anchor="ms")
    for row, name in enumerate(THRESHOLDS):
        y = top + row * (step + line)
        pen.text((left - 10, y + side / 2), name, fill=INK, font=font(15), anchor="rm")
        for column in range(len(WEIGHTS)):
            if (row, column) not in frames:
                continue
            pixels, frame = frames[row, column]
            x = left + column * step
            sheet.paste(enlarge(pixels, side), (x, y))
            told = f"{frame.saturated:.1%}, {'right' if frame.aligned else 'wrong'}"
            pen.text((x + side / 2, y + side + 3), told, fill=GREY, font=font(13), anchor="ma")
    return sheet
