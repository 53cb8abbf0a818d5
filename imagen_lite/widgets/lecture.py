"""The lecture page: a talk in six steps about guidance, thresholding and the cascade, on prepared pictures or live.

Each step asks the room to predict, takes a show of hands, and reveals. All of it is linked in the browser: nothing
has to be computed on stage until somebody writes a prompt of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import ipywidgets as W
from PIL import Image

from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.widgets import panels
from imagen_lite.widgets.base import Explorer
from imagen_lite.widgets.cascade import CascadeExplorer
from imagen_lite.widgets.guidance import GuidanceExplorer
from imagen_lite.widgets.steps import SaturationExplorer
from imagen_lite.widgets.sweep import THRESHOLDS, WEIGHTS, Sweep, load_sweep, prepared

STYLE = """<style>
.il-lecture { font-size: 18px; }
.il-lecture h2 { margin: 8px 0 4px; font-size: 28px; }
.il-lecture .il-question { font-size: 20px; line-height: 1.4; max-width: 46em; }
.il-lecture .il-told { font-size: 18px; line-height: 1.45; max-width: 46em; }
.il-lecture details { color: #555; font-size: 15px; max-width: 52em; }
</style>"""


@dataclass(frozen=True)
class Step:
    """One step of the talk: what is asked, what may be answered, what is so, and what the speaker may say."""

    title: str
    question: str
    options: tuple[str, ...]
    told: str
    notes: str


STEPS = (
    Step(
        "w = 1: as it was trained",
        "The model has seen 48,000 pictures with captions, over and over. We give it a caption and take what it draws. "
        "Does it draw what it is told?",
        ("always", "often", "never"),
        "<b>Often, not always.</b> Captions leave things out and some are wrong, so a model that hedges has the lower "
        "loss. What nobody asked for may stand beside what was asked.",
        "All four begin with the same noise. Ask what would make a model <i>insist</i>.",
    ),
    Step(
        "Raise w",
        "Guidance adds w times the difference between the noise predicted with the caption and without. What happens "
        "as w goes from 1 to 15?",
        ("it gets better and better", "better, then louder", "it turns to noise"),
        "<b>Better, then louder.</b> What nobody asked for goes; then light burns and shadows harden. Drag w "
        "slowly, and stop where you would hang the picture.",
        "Two evaluations a step: guidance costs double. w = 1 is off in the paper's notation; Ho and Salimans' 0.",
    ),
    Step(
        "x0 leaves the range",
        "At every step the sampler derives the finished picture from the predicted noise. Pictures live in [-1, 1]. At "
        "w = 8 and with nothing to hold it, how much of that picture is out of range?",
        ("nothing", "a few pixels", "a large part"),
        "<b>A large part</b>, most of all at the first step, and it feeds on itself: the next step starts from a "
        "picture that training never showed. Stripes mark what is beyond [-1, 1]. Step through it.",
        "Not the network's output: that is noise and has no range. It is the derived x0. Click on a pixel to follow "
        "it.",
    ),
    Step(
        "Static thresholding clips",
        "The simple cure: clip x0 to [-1, 1] at every step. What is lost?",
        ("nothing", "the colours' truth and the detail in them", "the shape"),
        "<b>Detail and truth of colour.</b> Everything that was beyond the fence now sits on it. Nothing runs away any "
        "more, but what is saturated stays flat.",
        "Saturation is not bright colour: it is values piled up at the end of the range. Show the histogram's ends.",
    ),
    Step(
        "Dynamic thresholding pulls in",
        "The paper's cure: clip to [-s, s], where s is the 99.5th percentile of |x0| and at least 1, then divide by s. "
        "What will w = 15 look like?",
        ("as with static", "calmer, but not quite as asked", "grey"),
        "<b>Calmer.</b> Values are pulled inward instead of piled up. But at w = 15 the mushroom is so red that the "
        "reader does not call it pink. Flip between the three, then write a prompt of your own: it is drawn live.",
        "s = 1 where a picture is in range: it is no normalisation. A cap of 1 on s would be static clipping again.",
    ),
    Step(
        "Then it grows",
        "A second model makes 256 pixels out of 64. It learned from clean small pictures, and is given drawn ones. So "
        "we add noise to what it is given, and tell it how much. What happens as that noise grows?",
        ("the large picture gets noisier", "it heeds the small one less", "nothing"),
        "<b>It heeds the small one less.</b> With no noise it keeps to it, blotches and all. The more noise, the more "
        "it draws of its own: outlines drift and the stripes drown. Where the guidance weight is large they come back, "
        "broken, for the caption says that the cone is striped. Look at the detail.",
        "The paper samples at levels of 0.1 to 0.3, to mend what the stage before got wrong. Nothing is recovered: "
        "detail is made up. The level is not sigma, and the noise is drawn once, before the loop.",
    ),
)  # fmt: skip


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
        super().__init__([W.HTML(STYLE + panels.STYLE), self.step, stage])
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
