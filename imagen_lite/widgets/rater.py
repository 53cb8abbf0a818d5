"""The paper's human evaluation in small (§3): a prompt, two sets of pictures, two questions, and what it adds up to."""

import json
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as W
import numpy as np
from PIL import Image
from torch import from_numpy

from imagen_lite import viz
from imagen_lite.data import to_images
from imagen_lite.evaluate.rating import QUESTIONS, Pair, in_random_order, reader_answers, win_rates
from imagen_lite.weights import write_atomic
from imagen_lite.widgets import panels
from imagen_lite.widgets.base import Explorer

SIDES = ("A", "indifferent", "B")


class DrawBenchRater(Explorer):
    """Rate pairs one by one; the order of pairs and sides is random, and which side is whose is not told.

    Args:
        pairs: what two models drew of some prompts.
        names: what the two are called in the table at the end.
        path: answers are kept in this file, and taken up again; None keeps them only here.
        seed: of the order, another one for each rater.

    Raises:
        ValueError: the file holds answers to other pairs.
    """

    def __init__(self, pairs: Sequence[Pair], names: tuple[str, str], path: str | Path | None = None, seed: int = 0):
        self.shown, self.names, self.path = in_random_order(pairs, seed), names, Path(path) if path else None
        self.ratings = json.loads(self.path.read_text()) if self.path and self.path.exists() else []
        if [r["prompt"] for r in self.ratings] != [pair.prompt for pair, _ in self.shown[: len(self.ratings)]]:
            raise ValueError(f"{path} holds answers to other pairs, or of another rater (seed); give another file")
        self.answers = {key: W.ToggleButtons(options=SIDES, value=None) for key in QUESTIONS}
        self.next = W.Button(description="next", disabled=True, button_style="primary")
        self.page, self.table = W.HTML(), W.HTML()
        for answer in self.answers.values():
            answer.observe(self._answered, "value")
        self.next.on_click(lambda _: self._keep())
        asked = [W.VBox([W.HTML(f"<b>{QUESTIONS[key]}</b>"), answer]) for key, answer in self.answers.items()]
        super().__init__([W.HTML(panels.STYLE), self.page, W.HBox(asked), self.next, self.table])
        self.add_class("il-rater")
        self._show()

    def _answered(self, _: object) -> None:
        self.next.disabled = any(answer.value is None for answer in self.answers.values())

    def _keep(self) -> None:
        pair, turned = self.shown[len(self.ratings)]
        sides = ("second", "indifferent", "first") if turned else ("first", "indifferent", "second")
        told = {key: sides[SIDES.index(answer.value)] for key, answer in self.answers.items()}
        self.ratings.append({"category": pair.category, "prompt": pair.prompt, **told})
        if self.path:
            write_atomic(self.path, json.dumps(self.ratings, indent=1) + "\n")
        self._show()

    def _show(self) -> None:
        done = len(self.ratings) == len(self.shown)
        for answer in self.answers.values():
            answer.value, answer.disabled = None, done
        if done:
            self.page.value, self.table.value = "<b>All rated.</b>", self.result()
            return
        prompt, *sides = self._sides()
        sets = "".join(f"<div>{_grid(side, name)}<br>{name}</div>" for side, name in zip(sides, "AB", strict=True))
        count = f"{len(self.ratings) + 1} of {len(self.shown)}"
        self.page.value = f'<b>{count}: “{prompt}”</b><div class="il-frame">{sets}</div>'

    def _sides(self) -> tuple[str, np.ndarray, np.ndarray]:
        """The prompt that is next, or the last, and what stands left and right."""
        pair, turned = self.shown[min(len(self.ratings), len(self.shown) - 1)]
        return pair.prompt, *((pair.second, pair.first) if turned else (pair.first, pair.second))

    def result(self) -> str:
        """How often the first model is preferred, by category and question, and by the reader: an HTML table."""
        reader = [{"category": p.category, "alignment": reader_answers(p)} for p, _ in self.shown]
        columns = [win_rates(self.ratings, key) for key in QUESTIONS] + [win_rates(reader, "alignment")]
        head = "".join(f"<th>{name}</th>" for name in ("", "n", *QUESTIONS, "alignment, by the reader"))
        rows = "".join(
            f"<tr><td>{cells[0]['category']}</td><td>{cells[0]['n']}</td>"
            + "".join("<td>{share:.2f} [{0:.2f}, {1:.2f}]</td>".format(*c["interval"], **c) for c in cells) + "</tr>"
            for cells in zip(*columns, strict=True)
        )  # fmt: skip
        return f"<p>preferred: {self.names[0]} to {self.names[1]}</p><table><tr>{head}</tr>{rows}</table>"

    def figure(self) -> Image.Image:
        """The next pair, or the last: what a rater sees."""
        _, left, right = self._sides()
        return viz.grid(to_images(from_numpy(np.concatenate((left, right)))), columns=len(left))


def _grid(pictures: np.ndarray, name: str) -> str:
    """A set of pictures, four a row."""
    sheet = viz.grid(to_images(from_numpy(pictures)), columns=4)
    return panels.img(panels.jpeg(np.asarray(sheet.resize((2 * sheet.width, 2 * sheet.height)))), f"set {name}")
