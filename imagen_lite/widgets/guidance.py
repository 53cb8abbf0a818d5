"""The guidance explorer: one prompt, one noise; drag w, flip the thresholding, see what the sampler saw."""

import html
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

import ipywidgets as W
from PIL import Image

from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.inputs import check_prompts
from imagen_lite.sampler import State
from imagen_lite.scenes.captions import surprise
from imagen_lite.scenes.words import suggest, unknown_words
from imagen_lite.widgets import panels
from imagen_lite.widgets.base import Explorer, frames_of_two
from imagen_lite.widgets.figures import sweep_sheet
from imagen_lite.widgets.live import Job, Worker
from imagen_lite.widgets.sweep import THRESHOLDS, WEIGHTS, Drawn, Frame, Sweep, load_sweep, prepared, sample_sweep

COUNT = count()


class GuidanceExplorer(Explorer):
    """Drag w and flip the thresholding for one prompt and one noise.

    Prepared prompts answer in the browser, without the kernel; any other prompt, seed or percentile is sampled when
    its frame is asked for, and kept.

    Args:
        name: of the prepared sweep to start with.
        cascade: called for the cascade when something has to be sampled; None loads the shipped one.
    """

    def __init__(self, name: str | None = None, cascade: Callable[[], Cascade] | None = None):
        self._cascade, self._worker = cascade or cache(load_cascade), Worker()
        self._kept: OrderedDict[tuple[str, int, float], dict[tuple[int, int], Drawn]] = OrderedDict()
        self._controls()
        empty = [[""] * len(WEIGHTS)] * len(THRESHOLDS)
        stage = frames_of_two((self.threshold, "index"), (self.weight, "index"), empty)
        self._screens = [row.children for row in stage.children]
        own = f"il-explorer-{next(COUNT)}"
        hidden = W.HTML(f"<style>.{own} .il-zebra {{ display: none; }}</style>")
        zebra = W.Stack([hidden, W.HTML()], selected_index=0)  # a Stack holds only what it shows, this style too
        W.jslink((self.overlay, "index"), (zebra, "selected_index"))
        choose = W.HBox([self.prepared, self.surprise])
        write = W.HBox([self.prompt, self.seed, self.percentile, self.draw, self.cancel])
        knobs = W.VBox([self.weight, W.HBox([self.threshold, self.overlay])])
        super().__init__([W.HTML(panels.STYLE), choose, write, self.message, stage, knobs, self.progress, zebra])
        self.add_class("il-explorer").add_class(own)
        self.show(load_sweep(name or next(iter(prepared().values()))))
        for control in (self.weight, self.threshold):
            control.observe(lambda _: self._ask(), "index")

    def _controls(self) -> None:
        wide = {"description_width": "initial"}
        self.prepared = W.Dropdown(
            options=[("prepared prompts", ""), *prepared().items()], tooltip="answers at once, without sampling"
        )
        self.surprise = W.Button(description="Surprise me", tooltip="make up a prompt and draw it")
        self.prompt = W.Text(placeholder="or write your own", tooltip="what to draw", continuous_update=False)
        self.seed = W.BoundedIntText(0, 0, 2**31, description="seed", layout={"width": "130px"}, style=wide)
        self.percentile = W.BoundedFloatText(
            0.995, min=0.5, max=1.0, step=0.005, description="percentile", layout={"width": "150px"}, style=wide,
            tooltip="of dynamic thresholding",
        )  # fmt: skip
        self.draw = W.Button(description="Draw", button_style="primary", tooltip="sample this prompt (Enter)")
        self.cancel = W.Button(description="Cancel", disabled=True, tooltip="stop sampling")
        self.message = W.HTML()
        self.message.add_class("il-message")
        self.weight = W.SelectionSlider(
            options=[f"{w:g}" + (" (off)" if w == 1 else "") for w in WEIGHTS], index=3,
            description="guidance weight w", style=wide, layout={"width": "460px"},
        )  # fmt: skip
        self.threshold = W.ToggleButtons(
            options=THRESHOLDS, index=2, style={"button_width": "90px"}, layout={"margin": "0 32px 0 0"},
            tooltips=["x0 as it is", "x0 clipped to [-1, 1]", "x0 clipped to [-s, s] and divided by s"],
        )  # fmt: skip
        self.overlay = W.ToggleButtons(
            options=["plain", "zebra"], style={"button_width": "70px"},
            tooltips=["the picture", "stripes where values are at an end of the range"],
        )  # fmt: skip
        self.progress = W.IntProgress(0, 0, 1, layout={"width": "320px", "visibility": "hidden"})
        self.prepared.observe(lambda change: change.new and self.show(load_sweep(change.new)), "value")
        self.surprise.on_click(lambda _: self.prompt.set_trait("value", surprise()))  # which begins
        self.draw.on_click(lambda _: self._begin())
        self.cancel.on_click(lambda _: self._worker.cancel())
        self.prompt.observe(self._written, "value")

    # What is shown ----------------------------------------------------------------------------------------------

    def show(self, sweep: Sweep) -> None:
        """Show a whole sweep."""
        self._worker.cancel()
        self.prompt.unobserve(self._written, "value")
        self.prompt.value, self.seed.value = sweep.prompt, sweep.seed
        self.prompt.observe(self._written, "value")
        frames = sweep.drawn()
        self._key = (sweep.prompt, sweep.seed, self.percentile.value)
        self._kept[self._key] = frames
        self._fill(frames)

    def _fill(self, frames: dict[tuple[int, int], Drawn]) -> None:
        for t, row in enumerate(self._screens):
            for w, screen in enumerate(row):
                screen.value = _frame(frames.get((t, w)))

    def _say(self, text: str) -> None:
        self.message.value = html.escape(text)

    # Sampling ---------------------------------------------------------------------------------------------------

    def _written(self, _: object) -> None:
        self._begin()

    def _begin(self) -> None:
        """A prompt was written: check it, say what lies outside this world, and draw the frame that is looked at."""
        try:
            prompt = check_prompts(self.prompt.value)[0]
        except ValueError as error:
            return self._say(str(error))
        unknown = [f"“{word}”" + _instead(word) for word in unknown_words(prompt)]
        self._say(f"outside this world: {', '.join(unknown)}" if unknown else "")
        self._key = (prompt, self.seed.value, self.percentile.value)
        self._fill(self._kept.setdefault(self._key, {}))
        while len(self._kept) > 32:
            self._kept.popitem(last=False)
        self._ask()

    def _at(self) -> tuple[int, int]:
        """The thresholding and the weight that are looked at, as indices."""
        return int(self.threshold.index or 0), int(self.weight.index or 0)

    def _ask(self) -> None:
        """Sample the frame that is looked at, if it is not there yet."""
        at, (prompt, seed, percentile) = self._at(), self._key
        frames = self._kept[self._key]
        if at in frames:
            return

        def show_progress() -> None:
            self.progress.value, self.progress.layout.visibility, self.cancel.disabled = 0, "visible", False

        def work(job: Job) -> None:
            show_progress()  # again: the job before may just have hidden it

            def step(_: str, state: State) -> None:
                job.check()
                self.progress.max, self.progress.value = state.steps, state.index + 1

            try:
                with warnings.catch_warnings(record=True) as told:  # a long prompt is cut: said here, not in the log
                    warnings.simplefilter("always")
                    drawn = sample_sweep(
                        self._cascade(), prompt, seed, [WEIGHTS[at[1]]], [THRESHOLDS[at[0]]], percentile=percentile,
                        callback=step,
                    )  # fmt: skip
                if told:
                    self._say(str(told[0].message))
                frames[at] = (drawn.pictures[0, 0], drawn.frames[0][0])
                if self._kept.get(self._key) is frames:
                    self._screens[at[0]][at[1]].value = _frame(frames[at])
            finally:
                self.progress.layout.visibility, self.cancel.disabled = "hidden", True

        show_progress()
        self._worker.request(work, lambda error: self._say(f"{type(error).__name__}: {error}"))

    # Keeping ----------------------------------------------------------------------------------------------------

    def figure(self) -> Image.Image:
        """The same story without controls: what has been drawn so far, a row a thresholding, a column a weight."""
        return sweep_sheet(self._key[0], self._kept[self._key], side=104)

    def save_gif(self, path: str | Path, seconds: float = 0.7) -> Path:
        """Write the pictures of the thresholding that is looked at, w rising, as an animation."""
        row, frames = self._at()[0], self._kept[self._key]
        pictures = [panels.enlarge(frames[row, w][0], 256) for w in range(len(WEIGHTS)) if (row, w) in frames]
        return panels.save_animation(pictures, path, seconds)


def _frame(drawn: Drawn | None) -> str:
    """A picture, what the sampler saw on the way to it, and the verdict, as HTML."""
    if drawn is None:
        return '<div class="il-frame"><div class="il-screen"></div>not drawn yet</div>'
    pixels, frame = drawn
    verdict = _verdict(frame)
    picture = panels.screen(panels.img(panels.jpeg(pixels), "the picture drawn"), panels.zebra(pixels))
    plots = panels.img(panels.png(panels.plots(frame)), "x0's histogram, its share outside [-1, 1], and s")
    return f'<div class="il-frame">{picture}<div>{plots}{verdict}</div></div>'


def _verdict(frame: Frame) -> str:
    """The reader's verdict in words, right and wrong told by sign and not by colour alone."""
    lines = [f"<b>{'aligned' if frame.aligned else 'not aligned'}</b>", *map(html.escape, frame.reasons)]
    return "<br>".join([*lines, f"{frame.saturated:.1%} of values at an end of the range"])


def _instead(word: str) -> str:
    known = suggest(word)
    return f" (this world knows {', '.join(known)})" if known else ""
