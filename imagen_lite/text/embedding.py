"""What the U-Nets read of a caption: vectors and a mask, the null condition, and what an encoder promises.

A caption becomes one vector per token and a mask that says which tokens are real. Everything downstream takes
both: a mean or an attention over padding would make unrelated captions look alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextEmbedding:
    """A batch of captions as the U-Nets see them.

    Attributes:
        tokens: (B, L, D) floating point; zero where the mask is False, if an encoder of this module made them.
        mask: (B, L) bool, True at real tokens; at least one in each row.

    Raises:
        ValueError: shapes or dtypes that do not agree.
    """

    tokens: Tensor
    mask: Tensor

    def __post_init__(self):
        if self.tokens.dim() != 3 or self.mask.shape != self.tokens.shape[:2] or self.mask.dtype != torch.bool:
            raise ValueError(
                f"tokens must be (B, L, D) and mask (B, L) bool, "
                f"not {tuple(self.tokens.shape)} and {tuple(self.mask.shape)} {self.mask.dtype}"
            )

    def __len__(self) -> int:
        """B, the number of captions."""
        return self.tokens.shape[0]

    def __getitem__(self, rows: slice | Tensor | list[int]) -> "TextEmbedding":
        """Those rows, as a batch."""
        return TextEmbedding(self.tokens[rows], self.mask[rows])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "TextEmbedding":
        """The same on another device, or with tokens of another dtype."""
        return TextEmbedding(self.tokens.to(device=device, dtype=dtype), self.mask.to(device=device))

    def null(self) -> "TextEmbedding":
        """The null condition in this batch's shape: zeros, of which one counts as a token.

        Imagen zeroes the embeddings of 10 % of the captions (§2.2), and guides against the same zeros. This is
        not the empty prompt, which an encoder reads as a lone end-of-text token. One token stays visible, so that
        no attention is ever over nothing.
        """
        mask = torch.zeros_like(self.mask)
        mask[:, 0] = True
        return TextEmbedding(torch.zeros_like(self.tokens), mask)

    def drop(self, keep: Tensor) -> "TextEmbedding":
        """The same batch with the null condition wherever `keep`, (B,) bool, is False."""
        if keep.shape != self.mask.shape[:1] or keep.dtype != torch.bool:
            raise ValueError(f"keep must be ({len(self)},) bool, not {tuple(keep.shape)} {keep.dtype}")
        null = self.null()
        tokens = torch.where(keep[:, None, None], self.tokens, null.tokens)
        return TextEmbedding(tokens, torch.where(keep[:, None], self.mask, null.mask))

    def padded(self, length: int) -> "TextEmbedding":
        """The same, with zeros that are masked out up to `length` tokens; never shorter than it is."""
        more = max(0, length - self.mask.shape[1])
        tokens = torch.nn.functional.pad(self.tokens, (0, 0, 0, more))
        return TextEmbedding(tokens, torch.nn.functional.pad(self.mask, (0, more)))

    @staticmethod
    def cat(parts: Sequence["TextEmbedding"]) -> "TextEmbedding":
        """All captions of `parts`, in order, padded to the longest: how the two halves of guidance become one."""
        if not parts:
            raise ValueError("there is nothing to join: pass at least one TextEmbedding")
        longest = max(part.mask.shape[1] for part in parts)
        parts = [part.padded(longest) for part in parts]
        return TextEmbedding(torch.cat([p.tokens for p in parts]), torch.cat([p.mask for p in parts]))


def null_text(batch: int, dim: int, length: int = 1) -> TextEmbedding:
    """The null condition (see `TextEmbedding.null`) for `batch` pictures: tokens (batch, length, dim)."""
    return TextEmbedding(torch.zeros(batch, length, dim), torch.ones(batch, length, dtype=torch.bool)).null()


class TextEncoder(Protocol):
    """What the rest of the library asks of a text encoder.

    `name` is for people, `fingerprint` differs whenever the embeddings might, `dim` is D, and `max_length` counts
    tokens with the end-of-text.
    """

    name: str
    fingerprint: str
    dim: int
    max_length: int

    def __call__(self, captions: list[str]) -> TextEmbedding:
        """Embeds captions: tokens (B, L, D), where L is the longest of this batch."""
        ...
