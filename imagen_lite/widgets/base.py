"""What all explorers share."""

from pathlib import Path

import ipywidgets as W
from PIL import Image

from imagen_lite import viz


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
