"""Attention maps: which word of the prompt each place of the picture looks at, step by step."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as W
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from imagen_lite.cascade import Cascade
from imagen_lite.data import to_uint8
from imagen_lite.layers import record_attention
from imagen_lite.sampler import State
from imagen_lite.text import FrozenTextEncoder
from imagen_lite.widgets import panels
from imagen_lite.widgets.base import Explorer, frames_of_two

SIDE = 16  # cells a side of a map
SHOWN = 6  # steps that the explorer shows


@dataclass(frozen=True)
class WordMaps:
    """How much each place looks at each word while a picture is drawn.

    Attributes:
        words: of the prompt, in order; `maps`: (steps, words, 16, 16), shares of the attention, over all layers and
            heads, of the half that sees the text.
        pictures: (steps, H, W, 3) uint8, the predicted picture of each step.
    """

    prompt: str
    words: tuple[str, ...]
    maps: np.ndarray
    pictures: np.ndarray


def word_spans(prompt: str) -> list[tuple[int, int]]:
    """Where the words of a prompt begin and end."""
    return [match.span() for match in re.finditer(r"[\w'’-]+", prompt)]


def tokens_to_words(offsets: list[tuple[int, int]], spans: list[tuple[int, int]], length: int) -> Tensor:
    """A matrix (length, words) of 0 and 1: token i belongs to word j. The end-of-text token belongs to none."""
    belongs = torch.zeros(length, len(spans))
    for i, (begin, end) in enumerate(offsets[:length]):
        for j, (first, last) in enumerate(spans):
            if begin < last and end > first:
                belongs[i, j] = 1
                break
    return belongs


@torch.no_grad()
def word_maps(cascade: Cascade, prompt: str, seed: int = 0, weight: float = 5.0) -> WordMaps:
    """Draw a picture at 64 px and keep what its attention looked at.

    Raises:
        TypeError: the cascade's text encoder has no tokenizer that knows where its tokens stand.
    """
    encoder = cascade.text_encoder
    if not isinstance(encoder, FrozenTextEncoder):
        raise TypeError(f"attention maps need a text encoder with its tokenizer, not {type(encoder).__name__}")
    spans = word_spans(prompt)
    starts = [(0, 0) for _ in encoder.tokenizer.start_ids]  # of no word
    offsets = [*starts, *encoder.tokenizer.tokenizer.encode(prompt, add_special_tokens=False).offsets]
    maps: list[Tensor] = []
    pictures: list[Tensor] = []
    with record_attention(cascade.stages[64].unet) as records:

        def keep(_: int, state: State) -> None:
            length = encoder([prompt]).tokens.shape[1]
            layers = [_on_grid(weights.pop()[0], length) for weights in records.values()]
            maps.append(
                torch.einsum("yxl,lw->wyx", torch.stack(layers).mean(0), tokens_to_words(offsets, spans, length))
            )
            pictures.append(to_uint8(state.x0)[0].cpu())

        cascade.sample(prompt, weight, seed=seed, resolution=64, callback=keep)
    words = tuple(prompt[a:b] for a, b in spans)
    return WordMaps(prompt, words, torch.stack(maps).numpy(), torch.stack(pictures).numpy())


def _on_grid(weights: Tensor, length: int) -> Tensor:
    """One layer's weights (heads, HW, keys) -> the text's part, averaged over heads, (16, 16, length)."""
    text = weights[..., -length:].float().mean(0).cpu()  # (HW, L)
    side = int(len(text) ** 0.5)
    grid = text.T.view(1, length, side, side)
    return F.interpolate(grid, size=(SIDE, SIDE), mode="nearest")[0].permute(1, 2, 0)


class AttentionMaps(Explorer):
    """Choose a word and see where the picture looks at it; step through the drawing, `SHOWN` of its steps."""

    def __init__(self, maps: WordMaps):
        self.maps = maps
        at = np.linspace(0, len(maps.pictures) - 1, SHOWN).round().astype(int)
        self.word = W.ToggleButtons(options=enumerate_words(maps.words), style={"button_width": "auto"})
        self.step = W.IntSlider(SHOWN // 3, 0, SHOWN - 1, description="step", readout=False, layout={"width": "420px"})
        rows = [[self._frame(i, k) for i in at] for k in range(len(maps.words))]
        stage = frames_of_two((self.word, "index"), (self.step, "value"), rows)
        title = W.HTML(f"<b>“{html.escape(maps.prompt)}”</b>: bright where the picture looks at the word")
        super().__init__([W.HTML(panels.STYLE), title, self.word, stage, self.step])
        self.add_class("il-attention")

    def _light(self, step: int, word: int) -> np.ndarray:
        """How bright each cell is, (16, 16) uint8."""
        weights = self.maps.maps[step, word]
        light = (weights - weights.min()) / max(float(np.ptp(weights)), 1e-9)
        return (255 * (0.12 + 0.88 * light)).astype(np.uint8)

    def _frame(self, step: int, word: int) -> str:
        shade = np.zeros((SIDE, SIDE, 4), np.uint8)
        shade[..., 3] = 255 - self._light(step, word)
        alt = f"the picture, bright where it looks at {self.maps.words[word]!r}"
        return panels.screen(panels.img(panels.jpeg(self.maps.pictures[step]), alt), Image.fromarray(shade), "il-shade")

    def overlay(self, step: int, word: int, side: int = 256) -> Image.Image:
        """The predicted picture, dark where it does not look at the word."""
        mask = Image.fromarray(self._light(step, word)).resize((side, side), Image.Resampling.BICUBIC)
        picture = panels.enlarge(self.maps.pictures[step], side)
        return Image.composite(picture, Image.new("RGB", (side, side)), mask)

    def figure(self, steps: int = 3) -> Image.Image:
        """A column a word, a row for each of a few steps."""
        at = np.linspace(0, len(self.maps.pictures) - 1, steps + 1).round().astype(int)[1:]
        columns = []
        for k, word in enumerate(self.maps.words):
            title = Image.new("RGB", (128, 24), "white")
            ImageDraw.Draw(title).text((64, 20), word, fill=panels.INK, font=panels.font(15), anchor="ms")
            columns.append(panels.stack_pictures([title, *(self.overlay(i, k, 128) for i in at)], across=False, gap=4))
        return panels.stack_pictures(columns, across=True, gap=6)

    def save_gif(self, path: str | Path, seconds: float = 0.3) -> Path:
        """Write where the picture looks at the word that is chosen, step by step, as an animation."""
        word = int(self.word.index or 0)
        return panels.save_animation([self.overlay(i, word) for i in range(len(self.maps.pictures))], path, seconds)


def enumerate_words(words: tuple[str, ...]) -> list[str]:
    """The words, told apart where one occurs twice ("red", "red²")."""
    told: list[str] = []
    for word in words:
        told.append(word + {0: "", 1: "²", 2: "³"}.get(sum(w.rstrip("²³") == word for w in told), "⁺"))
    return told
