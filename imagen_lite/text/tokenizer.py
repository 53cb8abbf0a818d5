"""Captions -> token ids and masks, by the `tokenizer.json` that lies beside an encoder's weights."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagen_lite import weights
from imagen_lite.weights import WeightsError

MANY = 1024  # from so many captions on, use all cores; not below, for a process that used them should not fork


class CaptionTokenizer:
    """Captions -> padded ids and masks: an end token after each, for some a start token before, cut where too long."""

    def __init__(self, path: Path, max_length: int, end: str = "</s>", start: str | None = None):
        """Reads a `tokenizer.json`; `max_length` counts tokens with `start` and `end`.

        Raises:
            WeightsError: it is no tokenizer, or does not know `start` or `end`.
            ValueError: max_length leaves no room for a word.
        """
        from tokenizers import Tokenizer

        special = [end] if start is None else [start, end]
        if max_length <= len(special):
            raise ValueError(
                f"max_length must be at least {len(special) + 1} (one token and {' and '.join(special)}), "
                f"not {max_length}"
            )
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise WeightsError(f"{path} is no tokenizer ({error}); restore it, or download it again") from error
        vocabulary = self.tokenizer.get_vocab()
        if unknown := [token for token in special if token not in vocabulary]:
            raise WeightsError(f"{path} knows no {unknown[0]}; take the tokenizer.json of these weights")
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        *self.start_ids, self.end_id = (vocabulary[token] for token in special)
        self.max_length, self.room = max_length, max_length - len(special)

    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) int64, 0 at padding, and mask (B, L) bool; L is the longest of the batch.

        An empty caption is its end token, with the start token where there is one.
        """
        captions = [caption.encode("utf-8", "replace").decode() for caption in captions]  # no lone surrogates
        if len(captions) < MANY:
            encodings = [self.tokenizer.encode(caption, add_special_tokens=False) for caption in captions]
        else:
            encodings = self.tokenizer.encode_batch(captions, add_special_tokens=False)
        rows = [self._row(caption, encoding) for caption, encoding in zip(captions, encodings, strict=True)]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # any id will do: it is masked
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(longest) < lengths[:, None]

    def _row(self, caption: str, encoding: Any) -> list[int]:
        if len(encoding.ids) > self.room:
            cut = caption[encoding.offsets[self.room][0] :].strip()
            warnings.warn(
                f"the caption {short(caption)!r} has {len(encoding.ids)} tokens and only the first {self.room} are "
                f"read: {short(cut)!r} is cut off; say it in fewer words",
                stacklevel=2,
            )
        return [*self.start_ids, *encoding.ids[: self.room], self.end_id]


def check_tokenizer(folder: Path) -> None:
    """Ids of another tokenizer would be nonsense to the weights, without any error: our manifests name theirs.

    Raises:
        WeightsError: tokenizer.json is missing, or not the one that manifest.json names.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise WeightsError(
            f"{path} is missing; restore it from git, or take an encoder that has one, such as google/flan-t5-small"
        )
    expected = weights.load_manifest(folder).get("tokenizer_sha256") if (folder / weights.MANIFEST).is_file() else None
    if expected and expected != weights.sha256(path):
        raise WeightsError(f"{path} is not the one of these weights (see manifest.json); restore both from git")


def check_captions(captions: list[str]) -> None:
    """Raises TypeError unless it is a list of strings, ValueError if it is empty."""
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise TypeError(f"captions must be a list of strings, not {captions!r}; for one caption write [caption]")
    if not captions:
        raise ValueError("captions is empty; pass at least one, which may be ''")


def short(text: str, limit: int = 80) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
