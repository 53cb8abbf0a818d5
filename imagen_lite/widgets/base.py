"""What all explorers share: frames that the browser turns without the kernel, a figure, a name."""

from collections.abc import Sequence
from pathlib import Path

import ipywidgets as W
from PIL import Image

from imagen_lite import viz

Control = tuple[W.Widget, str]  # a control and the trait that counts its positions, from 0


def frames_of(control: Control, frames: Sequence[str]) -> W.Stack:
    """A frame of HTML for each position of a control, linked in the browser; the one it stands at is shown."""
    shared = {"layout": W.Layout(), "style": W.HTML().style}  # one for all: each would be a model of its own
    stack = W.Stack([W.HTML(frame, **shared) for frame in frames], selected_index=getattr(*control))
    W.jslink(control, (stack, "selected_index"))
    return stack


def frames_of_two(down: Control, across: Control, rows: Sequence[Sequence[str]]) -> W.Stack:
    """A frame of HTML for each position of two controls: `rows` are those of the first, frames in them the second's."""
    stage = W.Stack([frames_of(across, row) for row in rows], selected_index=getattr(*down))
    W.jslink(down, (stage, "selected_index"))
    return stage


class Explorer(W.VBox):
    """A figure with controls; `figure` is the same story without them, for paper and for pages without a kernel."""

    def __repr__(self) -> str:
        """Its name alone: what a notebook stores as text must not depend on the pictures."""
        return f"{type(self).__name__}()"

    def figure(self) -> Image.Image:
        """The story as one picture."""
        raise NotImplementedError

    def save_png(self, path: str | Path) -> Path:
        """Write `figure` to a file."""
        return viz.save(self.figure(), path)
