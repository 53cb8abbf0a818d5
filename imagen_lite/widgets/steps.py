"""Two explorers of one picture being drawn: the denoising scrubber, and the saturation explorer."""

from pathlib import Path

import ipywidgets as W
import numpy as np
from PIL import Image, ImageDraw

from imagen_lite import viz
from imagen_lite.schedule import Level
from imagen_lite.widgets import panels
from imagen_lite.widgets.sweep import EDGES
from imagen_lite.widgets.trace import REACH, Trace, load_trace

SIDE = 256
STYLE = f"""<style>
.il-steps img {{ image-rendering: pixelated; max-width: none; }}
.il-steps .il-large img {{ width: {SIDE}px; height: {SIDE}px; }}
.il-steps .il-under {{ font-size: 14px; }}
</style>"""
INKS = (("R", "#d55e00", 3), ("G", "#009e73", 2), ("B", "#0072b2", 1))  # each with a width of its own


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Values nominally in [-1, 1] -> uint8, clipped."""
    return np.round((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)


def thresholded(raw_x0: np.ndarray, scale: float, name: str) -> np.ndarray:
    """What a thresholding made of a predicted x0, given the s that it found."""
    return raw_x0 if name == "none" else np.clip(raw_x0, -scale, scale) / scale


class DenoisingScrubber(W.VBox):
    """Step through one picture being drawn: what the network is given, and what it takes the picture to be."""

    def __init__(self, trace: Trace | str = "trace", threshold: str = "dynamic"):
        self.trace = trace = load_trace(trace) if isinstance(trace, str) else trace
        row, last = trace.thresholds.index(threshold), len(trace.times) - 1
        self.pictures = [
            (to_pixels(x_t), to_pixels(thresholded(raw, s, threshold)))
            for x_t, raw, s in zip(trace.x_t[row], trace.raw_x0[row], trace.scale[row], strict=True)
        ]
        self.step = W.IntSlider(last, 0, last, description="step", readout=False, layout={"width": "420px"})
        self.play = W.Play(value=0, min=0, max=last, interval=250, tooltip="draw it again")
        stacks = [_stack([panels.jpeg(pair[k]) for pair in self.pictures], last) for k in (0, 1)]
        told = W.Stack([W.HTML(_level(trace, i)) for i in range(last + 1)], selected_index=last)
        W.jslink((self.play, "value"), (self.step, "value"))
        for stack in (*stacks, told):
            W.jslink((self.step, "value"), (stack, "selected_index"))
        titles = ("x<sub>t</sub>, what the network is given", "x<sub>0</sub>, what it takes the picture to be")
        columns = [W.VBox([stack, W.HTML(title)]) for stack, title in zip(stacks, titles, strict=True)]
        super().__init__(
            [W.HTML(STYLE), W.HTML(f"<b>“{trace.prompt}”</b>"), W.HBox(columns), told, W.HBox([self.step, self.play])]
        )
        self.add_class("il-steps")

    def figure(self, columns: int = 8) -> Image.Image:
        """x_t above x0, at `columns` of the steps."""
        at = np.linspace(0, len(self.pictures) - 1, columns).round().astype(int)
        rows = [
            panels.stack_pictures([panels.enlarge(self.pictures[i][k], 112) for i in at], across=True) for k in (0, 1)
        ]
        return panels.stack_pictures(rows, across=False)

    def save_png(self, path: str | Path) -> Path:
        """Write `figure` to a file."""
        return viz.save(self.figure(), path)

    def save_gif(self, path: str | Path, seconds: float = 0.15) -> Path:
        """Write the steps as an animation, x_t beside x0."""
        frames = [panels.stack_pictures([panels.enlarge(p, 192) for p in pair], across=True) for pair in self.pictures]
        return panels.save_animation(frames, path, seconds)


class SaturationExplorer(W.VBox):
    """Where, when and by how much the predicted x0 leaves [-1, 1], with each thresholding; and one pixel followed."""

    def __init__(self, trace: Trace | str = "trace"):
        self.trace = trace = load_trace(trace) if isinstance(trace, str) else trace
        last, height, width = len(trace.times) - 1, *trace.raw_x0.shape[2:4]
        self.step = W.IntSlider(last // 4, 0, last, description="step", readout=False, layout={"width": "420px"})
        self.threshold = W.ToggleButtons(options=trace.thresholds, style={"button_width": "90px"})
        frames = [
            W.Stack([self._frame(row, i) for i in range(last + 1)], selected_index=last // 4)
            for row in range(len(trace.thresholds))
        ]
        for frame in frames:
            W.jslink((self.step, "value"), (frame, "selected_index"))
        stage = W.Stack(frames, selected_index=0)
        W.jslink((self.threshold, "index"), (stage, "selected_index"))
        wildest = np.abs(trace.raw_x0[0, -1]).max(-1).argmax()
        wide = {"description_width": "initial"}
        self.column = W.IntSlider(int(wildest % width), 0, width - 1, description="pixel: column", style=wide)
        self.row = W.IntSlider(int(wildest // width), 0, height - 1, description="row", style=wide)
        self.paths = [W.Image(format="png") for _ in trace.thresholds]
        for control in (self.column, self.row):
            control.observe(lambda _: self._follow(), "value")
        self._follow()
        told = [W.VBox([image, W.HTML(name)]) for image, name in zip(self.paths, trace.thresholds, strict=True)]
        title = W.HTML(f"<b>“{trace.prompt}”, w = {trace.weight:g}</b>: stripes where x<sub>0</sub> is beyond [-1, 1]")
        super().__init__(
            [W.HTML(STYLE), title, stage, self.step, self.threshold, W.HBox([self.column, self.row]), W.HBox(told)]
        )
        self.add_class("il-steps")

    def panel(self, row: int, step: int) -> Image.Image:
        """The predicted x0 of a step, striped where it is out of range, and its histogram."""
        raw = self.trace.raw_x0[row, step]
        picture = panels.enlarge(to_pixels(raw), SIDE)
        stripes = panels.zebra(np.where(np.abs(raw) > 1, to_pixels(raw), 128), side=SIDE, period=8)
        picture.paste(stripes, (0, 0), stripes)
        counts, _ = np.histogram(np.clip(raw, EDGES[0], EDGES[-1]), EDGES)
        title = f"predicted x0, step {step + 1} of {len(self.trace.times)}"
        plot = panels.histogram_plot(counts / counts.sum(), 260, SIDE - 60, title=title)
        told = Image.new("RGB", (260, 52), "white")
        outside = float((np.abs(raw) > 1).mean())
        text = f"{outside:.1%} outside [-1, 1]\ns = {self.trace.scale[row, step]:.2f}"
        ImageDraw.Draw(told).text((0, 4), text, fill=panels.INK, font=panels.font(16))
        return panels.stack_pictures([picture, panels.stack_pictures([plot, told], across=False)], across=True, gap=16)

    def _frame(self, row: int, step: int) -> W.Image:
        return W.Image(value=panels.jpeg(np.array(self.panel(row, step))), format="jpeg")

    def _follow(self) -> None:
        for row, image in enumerate(self.paths):
            image.value = panels.png(self.path(row, self.row.value, self.column.value))

    def path(self, row: int, y: int, x: int, width: int = 240, height: int = 130) -> Image.Image:
        """Red, green and blue of one pixel of the predicted x0, from the first step to the last; fences at ±1."""
        picture = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(picture)

        def at(value: float) -> float:
            return float(np.interp(value, (-REACH, REACH), (height - 4, 4)))

        for fence in (-1, 1):
            pen.line((24, at(fence), width, at(fence)), fill=panels.INK)
            pen.text((20, at(fence)), f"{fence:+d}", fill=panels.INK, font=panels.font(12), anchor="rm")
        steps = np.linspace(26, width - 14, len(self.trace.times))
        for channel, (name, ink, wide) in enumerate(INKS):
            values = self.trace.raw_x0[row, :, y, x, channel]
            pen.line([(s, at(v)) for s, v in zip(steps.tolist(), values, strict=True)], fill=ink, width=wide)
            pen.text((width - 10, at(values[-1])), name, fill=ink, font=panels.font(12), anchor="lm")
        return picture

    def figure(self, steps: int = 4) -> Image.Image:
        """The panels of a few steps, a row a thresholding."""
        at = np.linspace(0, len(self.trace.times) - 1, steps).round().astype(int)
        rows = [
            panels.stack_pictures([self.panel(row, i) for i in at], across=True, gap=24)
            for row in range(len(self.trace.thresholds))
        ]
        return panels.stack_pictures(rows, across=False, gap=16)

    def save_png(self, path: str | Path) -> Path:
        """Write `figure` to a file."""
        return viz.save(self.figure(), path)

    def save_gif(self, path: str | Path, seconds: float = 0.3) -> Path:
        """Write the steps of the thresholding that is looked at as an animation."""
        row = int(self.threshold.index or 0)
        return panels.save_animation([self.panel(row, i) for i in range(len(self.trace.times))], path, seconds)


def _stack(frames: list[bytes], index: int) -> W.Stack:
    stack = W.Stack([W.Image(value=frame, format="jpeg") for frame in frames], selected_index=index)
    stack.add_class("il-large")
    return stack


def _level(trace: Trace, step: int) -> str:
    level = Level(trace.times[step], trace.log_snr[step])
    return (
        f"step {step + 1} of {len(trace.times)}: t = {level.t:.2f}, λ = {level.log_snr:.1f}, "
        f"α = {level.alpha:.3f}, σ = {level.sigma:.3f}"
    )
