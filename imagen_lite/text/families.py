"""The families of text encoders: what is read of each, and how those of `transformers` are loaded.

Imagen compares BERT, CLIP and T5 of several sizes, all frozen (§2.1; §D.1 says which layer of CLIP is read). T5 is
our own, in `imagen_lite.t5`; `transformers` is imported only when one of the others is loaded.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imagen_lite.weights import WeightsError


@dataclass(frozen=True)
class Family:
    """How encoders of one `model_type` are read.

    Attributes:
        model: the class of `transformers` that holds the weights; None for T5, which is ours.
        end, start: the tokens put after, and for some before, each caption.
        layer: which hidden state is the embedding, from the last: -1 is what the encoder puts out, after its final
            norm where it has one; -2 is what goes into the last layer, without a norm.
    """

    model: str | None
    end: str
    start: str | None = None
    layer: int = -1


_CLIP = Family("CLIPTextModel", "<|endoftext|>", "<|startoftext|>", layer=-2)

FAMILIES = {
    "t5": Family(None, "</s>"),
    "bert": Family("BertModel", "[SEP]", "[CLS]"),
    "gpt2": Family("GPT2Model", "<|endoftext|>"),
    "clip": _CLIP,  # with its vision half, which is not read
    "clip_text_model": _CLIP,
}


def family_of(config: dict[str, Any], folder: Path) -> Family:
    """The family that a config.json names. Raises WeightsError for any other."""
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise WeightsError(
            f"{folder} holds a model of type {model_type!r}, but a text encoder is one of {', '.join(FAMILIES)}; "
            f"give the folder or hub id of one of these"
        )
    return FAMILIES[model_type]


class HiddenState(nn.Module):
    """One hidden state of an encoder of `transformers`.

    Attributes:
        dim: D. positions: the most tokens that it can read.
    """

    def __init__(self, model: nn.Module, layer: int, dim: int, positions: int):
        super().__init__()
        self.model, self.layer, self.dim, self.positions = model, layer, dim, positions

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids (B, L) int64 and mask (B, L), padded on the right -> (B, L, D). Padded positions mean nothing."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask.long(), output_hidden_states=True)
        return states.hidden_states[self.layer]


def load_hidden_state(folder: Path, family: Family, dtype: torch.dtype) -> HiddenState:
    """The encoder of `transformers` in a folder, in eval mode; heads and other halves are left out.

    Raises:
        WeightsError: weights that are missing, damaged, pickled or of another shape.
    """
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"{folder} holds no safetensors, and pickled weights are not read; take another copy of that model, or "
            f"save it again with the save_pretrained of transformers"
        )
    model_class = getattr(importlib.import_module("transformers"), str(family.model))
    try:
        with _quietly():
            model, found = model_class.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True,
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:  # of many kinds, for a file that is truncated, no JSON, not there
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"the weights in {folder} cannot be read ({reason[0]}); download them again") from error
    # The pooler of BERT is not read; what else is missing would be random.
    names = [*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])]
    if wrong := sorted(name for name in names if not name.startswith("pooler.")):
        raise WeightsError(
            f"the weights in {folder} do not fit its config.json: {wrong[0]} is missing or of another shape; "
            f"download both again"
        )
    model.config.use_cache = False  # nothing is generated
    return HiddenState(model, family.layer, model.config.hidden_size, model.config.max_position_embeddings).eval()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the list of the heads that are not read, which is as it should be."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
