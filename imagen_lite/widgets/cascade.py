"""The cascade explorer: the same small picture enlarged, with more or less of it to be trusted."""

from itertools import count
from pathlib import Path

import ipywidgets as W
import numpy as np
from PIL import Image, ImageDraw

from imagen_lite.widgets import panels
from imagen_lite.widgets.base import Explorer, frames_of_two
from imagen_lite.widgets.enlarged import Enlarged, load_enlarged

COUNT = count()
ZOOM = 4  # times that the detail is enlarged
SCREEN = panels.SIDE


class CascadeExplorer(Explorer):
    """Stage by stage, and at 256 px by augmentation level and guidance weight; whole, or the busiest detail."""

    def __init__(self, enlarged: Enlarged | str = "cascade-00"):
        self.enlarged = e = load_enlarged(enlarged) if isinstance(enlarged, str) else enlarged
        wide = {"description_width": "initial"}
        self.stage = W.ToggleButtons(options=["64", "256", str(len(e.final))], index=1, style={"button_width": "70px"})
        self.level = W.SelectionSlider(
            options=[f"{v:g}" for v in e.aug_levels], index=0, description="augmentation level", style=wide
        )
        self.weight = W.SelectionSlider(
            options=[f"{v:g}" + (" (off)" if v == 1 else "") for v in e.weights], index=1,
            description="guidance weight w", style=wide,
        )  # fmt: skip
        self.view = W.ToggleButtons(options=["whole", "detail"], style={"button_width": "80px"})
        levels, weights = range(len(e.aug_levels)), range(len(e.weights))
        middle = frames_of_two(
            (self.level, "index"), (self.weight, "index"), [[self._frame(i, k) for k in weights] for i in levels]
        )
        first = W.HTML(_columns((_screen(e.given[0], "the 64-px picture", "il-pixels"), "64×64, drawn from the text")))
        last = W.HTML(_columns((_screen(e.final, "the last picture"), f"{len(e.final)}×{len(e.final)}, as it leaves")))
        stack = W.Stack([first, middle, last], selected_index=1)
        W.jslink((self.stage, "index"), (stack, "selected_index"))
        own, (x, y) = f"il-cascade-{next(COUNT)}", self.busiest()
        near = f"transform: scale({ZOOM}); transform-origin: {100 * x:.1f}% {100 * y:.1f}%"
        style = W.Stack([W.HTML(), W.HTML(f"<style>.{own} .il-screen img {{ {near} }}</style>")], selected_index=0)
        W.jslink((self.view, "index"), (style, "selected_index"))
        title = W.HTML(f"<b>“{e.prompt}”</b>")
        knobs = W.VBox([W.HBox([self.stage, self.view]), W.HBox([self.level, self.weight])])
        clip = W.HTML(f"<style>.{own} .il-screen {{ overflow: hidden }}</style>")
        super().__init__([W.HTML(panels.STYLE), clip, title, stack, knobs, style])
        self.add_class("il-cascade").add_class(own)

    def busiest(self) -> tuple[float, float]:
        """Where a detail view looks, as shares of width and height."""
        return busiest(self.enlarged)

    def _frame(self, level: int, weight: int) -> str:
        e = self.enlarged
        given = _screen(e.given[level], "what the 256-px stage is given", "il-pixels")
        told = f"given: 64×64, augmented at {e.aug_levels[level]:g} (σ = {np.sin(np.pi / 2 * e.aug_levels[level]):.2f})"
        verdict = "aligned" if e.aligned[level][weight] else "not aligned"
        drawn = _screen(e.pictures[level, weight], "the 256-px picture")
        return _columns((given, told), (drawn, f"drawn: 256×256, {verdict}"))

    def figure(self, side: int = 150) -> Image.Image:
        """The detail of each 256-px picture: a row an augmentation level, a column a guidance weight."""
        return detail_sheet(self.enlarged, side)

    def stages(self, side: int = 300) -> Image.Image:
        """What each stage made of it, and below the same detail of each, at `side` pixels."""
        e, gap, top = self.enlarged, 8, 28
        level, weight = int(self.level.index or 0), int(self.weight.index or 0)
        shown = {64: e.given[0], 256: e.pictures[level, weight]} | (
            {len(e.final): e.final} if len(e.final) > 256 else {}
        )
        sheet = Image.new("RGB", (len(shown) * (side + gap) - gap, top + 2 * (side + gap) - gap), "white")
        pen = ImageDraw.Draw(sheet)
        for column, (size, picture) in enumerate(shown.items()):
            x, way = column * (side + gap), Image.Resampling.NEAREST if size == 64 else Image.Resampling.LANCZOS
            pen.text((x + side / 2, top - 6), f"{size} px", fill=panels.INK, font=panels.font(15), anchor="ms")
            sheet.paste(Image.fromarray(picture).resize((side, side), way), (x, top))
            sheet.paste(_detail(e, picture, side), (x, top + side + gap))
        return sheet

    def save_gif(self, path: str | Path, seconds: float = 0.7) -> Path:
        """Write the 256-px pictures of the weight that is chosen, the augmentation level rising, as an animation."""
        column = int(self.weight.index or 0)
        return panels.save_animation([Image.fromarray(row[column]) for row in self.enlarged.pictures], path, seconds)


def detail_sheet(e: Enlarged, side: int = 150) -> Image.Image:
    """The detail of each 256-px picture at `side` pixels: a row an augmentation level, a column a guidance weight."""
    left, top = 84, 44
    sheet = Image.new("RGB", (left + len(e.weights) * (side + 8), top + len(e.aug_levels) * (side + 8)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, weight in enumerate(e.weights):
        at = (left + column * (side + 8) + side / 2, top - 8)
        pen.text(at, f"w = {weight:g}", fill=panels.INK, font=panels.font(15), anchor="ms")
    for row, level in enumerate(e.aug_levels):
        y = top + row * (side + 8)
        pen.text((left - 10, y + side / 2), f"{level:g}", fill=panels.INK, font=panels.font(15), anchor="rm")
        for column in range(len(e.weights)):
            sheet.paste(_detail(e, e.pictures[row, column], side), (left + column * (side + 8), y))
    return sheet


def busiest(e: Enlarged) -> tuple[float, float]:
    """Where the last picture varies most, as shares of width and height."""
    grey = e.final.astype(float).mean(-1)
    cells = grey.reshape(8, len(grey) // 8, 8, len(grey) // 8).std((1, 3))
    cells[[0, -1]] = cells[:, [0, -1]] = 0  # not at the edge
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    return (float(column) + 0.5) / 8, (float(row) + 0.5) / 8


def _detail(e: Enlarged, picture: np.ndarray, side: int) -> Image.Image:
    """The quarter of a picture (H, W, 3) around the busiest place, at `side` pixels."""
    size, (x, y) = len(picture) // 2, busiest(e)
    left, top = (int(np.clip(v * 2 * size - size / 2, 0, size)) for v in (x, y))
    crop = Image.fromarray(picture).crop((left, top, left + size, top + size))
    return crop.resize((side, side), Image.Resampling.NEAREST if size <= 32 else Image.Resampling.LANCZOS)


def _screen(pixels: np.ndarray, alt: str, kind: str = "il-smooth") -> str:
    picture = Image.fromarray(pixels)
    if picture.width > 2 * SCREEN:
        picture = picture.resize((2 * SCREEN, 2 * SCREEN), Image.Resampling.LANCZOS)  # as many as a fine screen shows
    return panels.screen(panels.img(panels.jpeg(np.array(picture), quality=58), alt, kind))


def _columns(*parts: tuple[str, str]) -> str:
    return '<div class="il-frame">' + "".join(f"<div>{picture}{told}</div>" for picture, told in parts) + "</div>"
