"""Ways for text to reach a picture model, alike in size: who has read what before it sees a picture.

    python -m experiments.claims.encoders t5-lite-small     # some minutes each, resumable; weights stay in the cache

t5-lite-base, -small and -tiny restore spans of the text corpus (T5, Imagen's choice); bert-lite, of the base's size,
single words; gpt-lite says the next word, and each of its tokens knows only those before. clip-lite is the text tower
of CLIP-lite, which has read captions beside their pictures. `untrained` has read nothing, and stays so; `joint` begins
like it, but learns with the picture model (GLIDE, latent diffusion).
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite import data, weights
from imagen_lite.recipes import t5_lite
from imagen_lite.recipes.spans import FIRST_SENTINEL, IGNORED, PAD, pad
from imagen_lite.recipes.stages import ENCODER
from imagen_lite.scenes.clip_lite import load_clip_lite
from imagen_lite.scenes.corpus import documents
from imagen_lite.stage import default_dtype
from imagen_lite.t5 import RelativeBias, T5Config, T5Encoder
from imagen_lite.text import CaptionTokenizer, TextEmbedding
from imagen_lite.train import TrainConfig, fit

LENGTH = 48  # tokens of a caption
BASE = t5_lite.Recipe().encoder
SIZES = {
    "t5-lite-small": T5Config(d_model=128, d_kv=32, num_heads=4, num_layers=3, d_ff=192),
    "t5-lite-tiny": T5Config(d_model=64, d_kv=32, num_heads=2, num_layers=2, d_ff=96),
}
Pair = tuple[Tensor, Tensor]


class Encoder:
    """A network with the tokenizer of t5-lite-base, called as a `TextEncoder`; `learns` where no training is behind it,
    and the picture model's is its own."""

    def __init__(self, name: str, model: nn.Module, dim: int, *, learns: bool = False, folder: Path = ENCODER):
        self.name, self.fingerprint, self.model, self.dim, self.learns = name, name, model, dim, learns
        self.max_length = LENGTH
        self.tokenizer = CaptionTokenizer(folder / "tokenizer.json", LENGTH)
        model.requires_grad_(learns)

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> TextEmbedding:
        """Captions as float32 tokens (B, L, D), zero at padding."""
        ids, mask = self.tokenizer(captions)
        return TextEmbedding(self.model(ids, mask).float() * mask[..., None], mask)


class TextTower(nn.Module):
    """The tokens of CLIP-lite's text tower, called as an encoder."""

    def __init__(self):
        super().__init__()
        self.clip = load_clip_lite()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> (B, L, 128)."""
        return self.clip.tokens(ids, mask)


class CausalBias(RelativeBias):
    """The relative bias, hugely negative for all that comes later."""

    def forward(self, length: int) -> Tensor:
        """(1, H, L, L)."""
        bias = super().forward(length)
        later = torch.ones(length, length, dtype=torch.bool, device=bias.device).triu(1)
        return bias.masked_fill(later, torch.finfo(bias.dtype).min)


def load_encoder(name: str, seed: int = 0) -> Encoder:
    """One of the encoders above; `seed` decides the weights of those that have read nothing.

    Raises:
        WeightsError: one that is trained here first, and is not yet. ValueError: an unknown name.
    """
    if name in ("untrained", "joint"):
        torch.manual_seed(seed)
        return Encoder(name, T5Encoder(_config()), BASE.d_model, learns=name == "joint")
    if name == "clip-lite":
        return Encoder(name, TextTower(), 128)
    if name == "t5-lite-base" or name in SIZES:
        folder = ENCODER if name == "t5-lite-base" else folder_of(name)
        return Encoder(name, model := T5Encoder.from_pretrained(folder), model.config.d_model, folder=folder)
    if name not in OBJECTIVES:
        known = ", ".join(("t5-lite-base", *SIZES, *OBJECTIVES, "clip-lite", "untrained", "joint"))
        raise ValueError(f"no encoder is called {name!r}; there are {known}")
    model = reader(name)
    weights.load_into(model, folder_of(name))
    return Encoder(name, model, BASE.d_model)


def folder_of(name: str) -> Path:
    """Where an encoder lies that was trained for the claims alone."""
    return data.cache_folder() / "runs" / "claims" / name / "weights"


def _config() -> T5Config:
    return dataclasses.replace(BASE, vocab_size=weights.load_config(ENCODER)["vocab_size"])


def reader(name: str) -> T5Encoder:
    """The network of bert-lite or gpt-lite, with random weights."""
    model = T5Encoder(_config())
    if name == "gpt-lite":
        model.relative_bias = CausalBias(model.config)
    return model


def masked_words(ids: Tensor, rng: np.random.Generator) -> Pair:
    """BERT's task: 30 % of the tokens, as many as T5's, each behind the same mask; ids and labels (B, L)."""
    hidden = torch.from_numpy(rng.random(ids.shape) < t5_lite.Recipe.density) & (ids != PAD)
    return ids.masked_fill(hidden, FIRST_SENTINEL), ids.masked_fill(~hidden, IGNORED)


def next_words(ids: Tensor, _: np.random.Generator) -> Pair:
    """GPT's task: after each token, the next; ids and labels (B, L)."""
    following = F.pad(ids[:, 1:], (0, 1), value=PAD)
    return ids, following.masked_fill(following == PAD, IGNORED)


OBJECTIVES: dict[str, Callable[[Tensor, np.random.Generator], Pair]] = {
    "bert-lite": masked_words, "gpt-lite": next_words,
}  # fmt: skip


def read(name: str, config: TrainConfig = t5_lite.Recipe.train) -> None:
    """Train bert-lite or gpt-lite on the text that t5-lite-base was trained on, for as many steps."""
    torch.manual_seed(config.seed)
    tokenizer = CaptionTokenizer(ENCODER / "tokenizer.json", t5_lite.Recipe.max_length)
    texts = list(islice(documents(t5_lite.TRAINING), t5_lite.Recipe.documents))
    encoded = tokenizer.tokenizer.encode_batch(texts, add_special_tokens=False)
    rows = sorted(([*e.ids[: tokenizer.room], tokenizer.end_id] for e in encoded), key=len)
    network = reader(name)
    model = t5_lite.UnitScale(network)
    dtype, device = default_dtype(torch.device("cpu")), torch.device("cpu")

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([config.seed, step])
        first = int(rng.integers(len(rows) - config.batch))
        source, target = OBJECTIVES[name](pad(rows[first : first + config.batch], PAD, device), rng)
        values = model.weights()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            hidden = torch.func.functional_call(network, values, (source, source != PAD))
        kept = target != IGNORED
        logits = hidden[kept].float() @ values["embedding.weight"].T * BASE.d_model**-0.5
        return F.cross_entropy(logits, target[kept])

    ema, progress = fit(model, loss_at, config, folder_of(name).parent)
    ema.copy_to(model)
    network.load_state_dict({key: value.detach() for key, value in model.weights().items()})
    manifest = {"recipe": name, "steps": progress.step, "minutes": round(progress.seconds / 60, 1)}
    weights.save_pretrained(folder_of(name), network, dataclasses.asdict(network.config), manifest)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a text encoder for the claims.")
    parser.add_argument("name", choices=[*SIZES, *OBJECTIVES])
    name = parser.parse_args(arguments).name
    if name in OBJECTIVES:
        return read(name)
    recipe = dataclasses.replace(t5_lite.Recipe(), encoder=SIZES[name])
    t5_lite.run(out=folder_of(name), run_folder=folder_of(name).parent, recipe=recipe)


if __name__ == "__main__":
    main()
