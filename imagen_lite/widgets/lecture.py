"""The lecture page: a talk in six steps about guidance, thresholding and the cascade, on prepared pictures or live.

Each step asks the room to predict, takes a show of hands, and reveals. All of it is linked in the browser: nothing
has to be computed on stage until somebody writes a prompt of their own. What is said stands in lecture.json.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ipywidgets as W
from PIL import Image

from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.widgets import panels
from imagen_lite.widgets.base import Explorer
from imagen_lite.widgets.cascade import CascadeExplorer
from imagen_lite.widgets.guidance import GuidanceExplorer
from imagen_lite.widgets.steps import SaturationExplorer
from imagen_lite.widgets.sweep import THRESHOLDS, WEIGHTS, Sweep, load_sweep, prepared


@dataclass(frozen=True)
class Step:
    """One step of the talk: what is asked, what may be answered, what is so, and what the speaker may say."""

    title: str
    question: str
    options: list[str]
    told: str
    notes: str


STEPS = tuple(Step(**row) for row in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")))


class Lecture(Explorer):
    """The talk: choose a step, let the room predict and vote, reveal.

    Args:
        cascade: called for the cascade when somebody asks for a picture that is not prepared; None: the shipped one.
    """

    def __init__(self, cascade: Callable[[], Cascade] | None = None):
        load = cascade or cache(load_cascade)
        self.explorer, self.raised = GuidanceExplorer(cascade=load), GuidanceExplorer(cascade=load)
        self.saturation, self.clipped = SaturationExplorer("trace-08"), SaturationExplorer("trace-08")
        self.saturation.step.value = 0
        self.clipped.threshold.index = THRESHOLDS.index("static")
        self.raised.threshold.index, self.raised.weight.index = THRESHOLDS.index("none"), 0
        self.explorer.weight.index = len(WEIGHTS) - 1
        self.cascade = CascadeExplorer()
        shown = (_first_column(), self.raised, self.saturation, self.clipped, self.explorer, self.cascade)
        self.step = W.ToggleButtons(
            options=[f"{i}. {step.title}" for i, step in enumerate(STEPS, 1)], style={"button_width": "auto"}
        )
        self.reveals = [W.ToggleButtons(options=["predict", "reveal"]) for _ in STEPS]
        pages = [_page(step, reveal, what) for step, reveal, what in zip(STEPS, self.reveals, shown, strict=True)]
        stage = W.Stack(pages, selected_index=0)
        W.jslink((self.step, "index"), (stage, "selected_index"))
        super().__init__([W.HTML(panels.STYLE), self.step, stage])
        self.add_class("il-lecture")

    def figure(self) -> Image.Image:
        """The talk in one picture: the contact sheet it starts from."""
        return self.explorer.figure()


def _page(step: Step, reveal: W.ToggleButtons, shown: W.Widget) -> W.VBox:
    votes = [
        W.BoundedIntText(
            0, 0, 999, description=option, style={"description_width": "initial"}, layout={"width": "auto"}
        )
        for option in step.options
    ]
    told = W.HTML(step.told)
    told.add_class("il-told")
    answer = W.Stack([W.HTML(), W.VBox([told, shown])], selected_index=0)
    W.jslink((reveal, "index"), (answer, "selected_index"))
    question = W.HTML(f"<h2>{step.title}</h2>{step.question}")
    question.add_class("il-question")
    notes = W.HTML(f"<details><summary>speaker notes</summary>{step.notes}</details>")
    return W.VBox([question, W.HBox([W.HTML("hands up:"), *votes]), reveal, answer, notes])


def _first_column() -> W.HTML:
    """Pictures of several prompts at w = 1, with what the reader says of them."""
    parts = []
    for name in list(prepared().values())[:4]:
        sweep: Sweep = load_sweep(name)
        frame = sweep.frames[THRESHOLDS.index("dynamic")][0]
        pixels = sweep.pictures[THRESHOLDS.index("dynamic"), 0]
        told = "aligned" if frame.aligned else "not aligned"
        picture = panels.screen(panels.img(panels.jpeg(pixels), sweep.prompt))
        parts.append(f"<div>{picture}“{sweep.prompt}”<br><b>{told}</b></div>")
    return W.HTML(f'<div class="il-frame" style="flex-wrap: wrap">{"".join(parts)}</div>')
