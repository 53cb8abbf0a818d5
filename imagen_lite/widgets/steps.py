"""Two explorers of one picture being drawn: the denoising scrubber, and the saturation explorer."""

import html
from pathlib import Path

import ipywidgets as W
import numpy as np
from PIL import Image, ImageDraw

from imagen_lite.schedule import Level
from imagen_lite.widgets import panels
from imagen_lite.widgets.base import Explorer, frames_of, frames_of_two
from imagen_lite.widgets.sweep import EDGES
from imagen_lite.widgets.trace import Trace, load_trace

SIDE = 256
SHOWN = 12  # steps that the saturation explorer has frames of: a notebook must stay small
# A click on a picture writes the pixel's place into the two boxes of its explorer, as typing there would.
PICK = """const box = this.getBoundingClientRect(), root = this.closest('.il-saturation');
for (const [name, share] of [['column', (event.clientX - box.left) / box.width],
                             ['row', (event.clientY - box.top) / box.height]]) {
  const input = root.querySelector('.il-' + name + ' input');
  input.value = Math.floor(share * (Number(input.max) + 1));
  input.dispatchEvent(new Event('change', {bubbles: true}));
}"""
INKS = (("R", "#d55e00", 3), ("G", "#009e73", 2), ("B", "#0072b2", 1))  # each with a width of its own


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Values nominally in [-1, 1] -> uint8, clipped."""
    return np.round((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)


def thresholded(raw_x0: np.ndarray, scale: float, name: str) -> np.ndarray:
    """What a thresholding made of a predicted x0, given the s that it found."""
    return raw_x0 if name == "none" else np.clip(raw_x0, -scale, scale) / scale


class DenoisingScrubber(Explorer):
    """Step through one picture being drawn: what the network is given, and what it takes the picture to be."""

    def __init__(self, trace: Trace | str = "trace", threshold: str = "dynamic"):
        self.trace = trace = load_trace(trace) if isinstance(trace, str) else trace
        row, last = trace.thresholds.index(threshold), len(trace.times) - 1
        self.pictures = [
            (to_pixels(x_t), to_pixels(thresholded(raw, s, threshold)))
            for x_t, raw, s in zip(trace.x_t[row], trace.raw_x0[row], trace.scale[row], strict=True)
        ]
        self.step = W.IntSlider(last, 0, last, description="step", readout=False, layout={"width": "420px"})
        self.play = W.Play(value=last, min=0, max=last, interval=250, tooltip="draw it again")
        stage = frames_of((self.step, "value"), [self._frame(i) for i in range(last + 1)])
        W.jslink((self.play, "value"), (self.step, "value"))
        title = W.HTML(f"<b>“{trace.prompt}”</b>")
        super().__init__([W.HTML(panels.STYLE), title, stage, W.HBox([self.step, self.play])])
        self.add_class("il-scrubber")

    def _frame(self, step: int) -> str:
        noisy, predicted = self.pictures[step]
        left = panels.screen(panels.img(panels.jpeg(noisy, quality=75), "the noisy picture"))
        right = panels.screen(panels.img(panels.jpeg(predicted), "the predicted picture"))
        told = ("x<sub>t</sub>, what the network is given", "x<sub>0</sub>, what it takes the picture to be")
        columns = "".join(f"<div>{part}{title}</div>" for part, title in zip((left, right), told, strict=True))
        return f'<div class="il-frame">{columns}</div>{_level(self.trace, step)}'

    def figure(self, columns: int = 8) -> Image.Image:
        """x_t above x0, at `columns` of the steps."""
        at = np.linspace(0, len(self.pictures) - 1, columns).round().astype(int)
        rows = [
            panels.stack_pictures([panels.enlarge(self.pictures[i][k], 112) for i in at], across=True) for k in (0, 1)
        ]
        return panels.stack_pictures(rows, across=False)

    def save_gif(self, path: str | Path, seconds: float = 0.15) -> Path:
        """Write the steps as an animation, x_t beside x0."""
        frames = [panels.stack_pictures([panels.enlarge(p, 192) for p in pair], across=True) for pair in self.pictures]
        return panels.save_animation(frames, path, seconds)


class SaturationExplorer(Explorer):
    """Where, when and by how much the predicted x0 leaves [-1, 1], with each thresholding.

    A click on the picture, or its column and row, says which pixel is followed from step to step.
    """

    def __init__(self, trace: Trace | str = "trace"):
        self.trace = trace = load_trace(trace) if isinstance(trace, str) else trace
        height, width = trace.raw_x0.shape[2:4]
        at = np.linspace(0, len(trace.times) - 1, SHOWN).round().astype(int).tolist()
        self.step = W.IntSlider(SHOWN // 4, 0, SHOWN - 1, description="step", readout=False, layout={"width": "420px"})
        self.threshold = W.ToggleButtons(options=trace.thresholds, style={"button_width": "90px"})
        rows = [[self._frame(row, i) for i in at] for row in range(len(trace.thresholds))]
        stage = frames_of_two((self.threshold, "index"), (self.step, "value"), rows)
        wildest = np.abs(trace.raw_x0[0, -1]).max(-1).argmax()
        self.column = _box(int(wildest % width), width, "column")
        self.row = _box(int(wildest // width), height, "row")
        self.paths = [W.Image(format="png") for _ in trace.thresholds]
        self.pick = W.HTML().add_class("il-over")
        for control in (self.column, self.row):
            control.observe(lambda _: self._follow(), "value")
        self._follow()
        told = [W.VBox([image, W.HTML(name)]) for image, name in zip(self.paths, trace.thresholds, strict=True)]
        title = W.HTML(f"<b>“{trace.prompt}”, w = {trace.weight:g}</b>: stripes where x<sub>0</sub> is beyond [-1, 1]")
        picked = W.VBox([stage, self.pick]).add_class("il-picked")
        pixel = W.HBox([W.HTML("follow a pixel (click on it):"), self.column, self.row])
        super().__init__([W.HTML(panels.STYLE), title, picked, self.step, self.threshold, pixel, W.HBox(told)])
        self.add_class("il-saturation")

    def _parts(self, row: int, step: int) -> tuple[np.ndarray, Image.Image, Image.Image, list[str]]:
        """A step's predicted x0 in 8 bits, its stripes where it is out of range, its histogram, and what to say."""
        raw = self.trace.raw_x0[row, step]
        pixels, outside = to_pixels(raw), np.abs(raw) > 1
        stripes = panels.zebra(np.where(outside, pixels, 128))
        title = f"predicted x0, step {step + 1} of {len(self.trace.times)}"
        counts, _ = np.histogram(np.clip(raw, EDGES[0], EDGES[-1]), EDGES)
        plot = panels.histogram_plot(counts / counts.sum(), 260, 196, title=title)
        told = [f"{outside.mean():.1%} outside [-1, 1]", f"s = {self.trace.scale[row, step]:.2f}"]
        return pixels, stripes, plot, told

    def _frame(self, row: int, step: int) -> str:
        pixels, stripes, plot, told = self._parts(row, step)
        alt = "the predicted x0"
        picture = panels.screen(panels.img(panels.jpeg(pixels, quality=70), alt), stripes)
        histogram = panels.img(panels.png(plot), "histogram of the predicted x0")
        return f'<div class="il-frame">{picture}<div>{histogram}{"<br>".join(told)}</div></div>'

    def panel(self, row: int, step: int) -> Image.Image:
        """One frame as a picture: the predicted x0 under its stripes, the histogram, and what is said of it."""
        pixels, stripes, plot, told = self._parts(row, step)
        picture = panels.enlarge(pixels, SIDE)
        over = stripes.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        picture.paste(over, (0, 0), over)
        words = Image.new("RGB", (260, 52), "white")
        ImageDraw.Draw(words).text((0, 4), "\n".join(told), fill=panels.INK, font=panels.font(16))
        return panels.stack_pictures([picture, panels.stack_pictures([plot, words], across=False)], across=True, gap=16)

    def _follow(self) -> None:
        height, width = self.trace.raw_x0.shape[2:4]
        at = f"left: {100 * (self.column.value + 0.5) / width}%; top: {100 * (self.row.value + 0.5) / height}%"
        self.pick.value = f'<div class="il-pick" onclick="{html.escape(PICK)}"><i style="{at}"></i></div>'
        for row, image in enumerate(self.paths):
            image.value = panels.png(self.path(row, self.row.value, self.column.value))

    def path(self, row: int, y: int, x: int, width: int = 240, height: int = 130) -> Image.Image:
        """Red, green and blue of one pixel of the predicted x0, from the first step to the last; fences at ±1."""
        picture = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(picture)

        def at(value: float) -> float:
            return float(np.interp(value, (-2.5, 2.5), (height - 4, 4)))  # wilder values stick to the edge

        for fence in (-1, 1):
            pen.line((24, at(fence), width, at(fence)), fill=panels.INK)
            pen.text((20, at(fence)), f"{fence:+d}", fill=panels.INK, font=panels.font(12), anchor="rm")
        steps = np.linspace(26, width - 14, len(self.trace.times))
        for channel, (name, ink, wide) in enumerate(INKS):
            values = self.trace.raw_x0[row, :, y, x, channel]
            pen.line([(s, at(v)) for s, v in zip(steps.tolist(), values, strict=True)], fill=ink, width=wide)
            pen.text((width - 10, at(values[-1])), name, fill=ink, font=panels.font(12), anchor="lm")
        return picture

    def figure(self, steps: int = 5, side: int = 128) -> Image.Image:
        """The predicted x0 of a few steps, striped where it is out of range; a row a thresholding."""
        at = np.linspace(0, len(self.trace.times) - 1, steps).round().astype(int).tolist()
        left, line = 80, 40
        sheet = Image.new("RGB", (left + steps * (side + 8), len(self.trace.thresholds) * (side + line)), "white")
        pen = ImageDraw.Draw(sheet)
        for row, name in enumerate(self.trace.thresholds):
            top = row * (side + line)
            pen.text((left - 10, top + side / 2), name, fill=panels.INK, font=panels.font(15), anchor="rm")
            for column, step in enumerate(at):
                pixels, stripes, _, told = self._parts(row, step)
                x, over = left + column * (side + 8), stripes.resize((side, side), Image.Resampling.NEAREST)
                sheet.paste(panels.enlarge(pixels, side), (x, top))
                sheet.paste(over, (x, top), over)
                words = f"step {step + 1}, {told[1]}\n{told[0].removesuffix(' [-1, 1]')}"
                pen.text((x, top + side + 2), words, fill=panels.GREY, font=panels.font(13))
        return sheet

    def save_gif(self, path: str | Path, seconds: float = 0.3) -> Path:
        """Write the steps of the thresholding that is looked at as an animation."""
        row = int(self.threshold.index or 0)
        return panels.save_animation([self.panel(row, i) for i in range(len(self.trace.times))], path, seconds)


def _box(value: int, size: int, name: str) -> W.BoundedIntText:
    """A number box for one coordinate of a pixel."""
    box = W.BoundedIntText(value, 0, size - 1, description=name, layout={"width": "150px"})
    return box.add_class(f"il-{name}")


def _level(trace: Trace, step: int) -> str:
    level = Level(trace.times[step], trace.log_snr[step])
    return (
        f"step {step + 1} of {len(trace.times)}: t = {level.t:.2f}, λ = {level.log_snr:.1f}, "
        f"α = {level.alpha:.3f}, σ = {level.sigma:.3f}"
    )
