"""From captions to what the U-Nets read: frozen text encoders, masks, the null condition, a cache on disk.

A caption becomes one vector per token and a mask that says which tokens are real. Everything downstream takes
both: a mean or an attention over padding would make unrelated captions look alike.
"""

import hashlib
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from imagen_lite import weights
from imagen_lite.t5 import T5Encoder, resolve_folder
from imagen_lite.weights import WeightsError

if TYPE_CHECKING:
    from tokenizers import Encoding


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


class CaptionTokenizer:
    """Captions -> padded ids and masks, with an end-of-text token after each, cut with a warning where too long."""

    def __init__(self, path: Path, max_length: int, pad_id: int = 0, eos_id: int = 1):
        """Reads a `tokenizer.json`.

        Raises:
            WeightsError: it is no tokenizer. ValueError: max_length below 2.
        """
        from tokenizers import Tokenizer

        if max_length < 2:
            raise ValueError(f"max_length must be at least 2 (one token and the end), not {max_length}")
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise WeightsError(f"{path} is no tokenizer ({error}); restore it, or download it again") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.max_length, self.pad_id, self.eos_id = max_length, pad_id, eos_id

    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) int64 and mask (B, L) bool, L the longest of the batch. An empty caption is the end alone."""
        rows = [self._ids(caption) for caption in captions]
        longest = max(len(row) for row in rows)
        ids = torch.tensor([row + [self.pad_id] * (longest - len(row)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(longest) < lengths[:, None]

    def _ids(self, caption: str) -> list[int]:
        caption = caption.encode("utf-8", "replace").decode()  # a lone surrogate cannot be tokenized
        encoding = self.tokenizer.encode(caption, add_special_tokens=False)
        if len(encoding.ids) >= self.max_length:
            self._warn(caption, encoding)
        return [*encoding.ids[: self.max_length - 1], self.eos_id]

    def _warn(self, caption: str, encoding: "Encoding") -> None:
        cut = caption[encoding.offsets[self.max_length - 1][0] :].strip()
        warnings.warn(
            f"the caption {_short(caption)!r} has {len(encoding.ids)} tokens and only the first {self.max_length - 1} "
            f"are read: {_short(cut)!r} is cut off; say it in fewer words",
            stacklevel=2,
        )


class T5TextEncoder:
    """A frozen T5 encoder with its tokenizer: captions in, TextEmbedding out; no gradients, no dropout."""

    def __init__(self, folder: Path, name: str, device: torch.device | str | None, max_length: int | None):
        """Reads a `transformers` folder; use `load_text_encoder`."""
        config = weights.load_config(folder)
        _check_tokenizer(folder)
        self.max_length = config.get("n_positions", 512) if max_length is None else max_length
        self.tokenizer = CaptionTokenizer(
            folder / "tokenizer.json", self.max_length, config.get("pad_token_id", 0), config.get("eos_token_id", 1)
        )
        self.model = T5Encoder.from_pretrained(folder).requires_grad_(False).to(device)
        self.device = next(self.model.parameters()).device
        self.name, self.dim = name, self.model.config.d_model
        files = [folder / "tokenizer.json", *sorted(folder.glob("*.safetensors"))]
        self.fingerprint = " ".join([str(self.max_length), *(weights.sha256(file) for file in files)])

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> TextEmbedding:
        """Embeds captions.

        Args:
            captions: a list of strings. "" is allowed: it is the end-of-text token, read like any text, and not
                the null condition.

        Returns:
            float32 tokens (B, L, D) on the encoder's device, zero at padding.

        Raises:
            TypeError: not a list of strings. ValueError: an empty list.
        """
        _check_captions(captions)
        ids, mask = (t.to(self.device) for t in self.tokenizer(captions))
        return TextEmbedding(self.model(ids, mask) * mask[..., None], mask)


class EmbeddingCache:
    """A text encoder that remembers: same calls, each caption encoded once per encoder, then read from disk.

    One SQLite file, keyed by the encoder's fingerprint and the caption, tokens in float16 (also what a first call
    returns, so that a warm cache changes nothing). Safe under several processes and under kill -9; delete the file
    to empty it.
    """

    def __init__(self, path: str | Path, encoder: TextEncoder, batch: int = 256):
        """`path` is created when missing; `batch` captions are encoded at a time."""
        self.encoder, self.batch, self.path = encoder, batch, Path(path)
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.dim, self.max_length = encoder.dim, encoder.max_length
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._database() as db:
            db.execute("CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, tokens BLOB)")

    def __call__(self, captions: list[str]) -> TextEmbedding:
        """As the encoder's own call, in float32 on the CPU, rounded to float16.

        Raises:
            WeightsError: the file is no cache, or cannot be read or written.
        """
        _check_captions(captions)
        keys = {caption: self._key(caption) for caption in captions}
        with self._database() as db:
            found = {caption: row for caption, key in keys.items() if (row := _lookup(db, key))}
        missing = [caption for caption in keys if caption not in found]
        for start in range(0, len(missing), self.batch):
            new = self._encode(missing[start : start + self.batch])
            with self._database() as db:
                rows = [(keys[caption], tokens) for caption, tokens in new.items()]
                db.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", rows)
            found |= new
        return self._collate([found[caption] for caption in captions])

    def _encode(self, captions: list[str]) -> dict[str, bytes]:
        text = self.encoder(captions).to("cpu", torch.float16)
        rows = zip(captions, text.tokens, text.mask, strict=True)
        return {caption: tokens[mask].numpy().tobytes() for caption, tokens, mask in rows}

    def _collate(self, rows: list[bytes]) -> TextEmbedding:
        arrays = [np.frombuffer(row, dtype=np.float16).reshape(-1, self.dim) for row in rows]
        tokens = np.zeros((len(rows), max(len(a) for a in arrays), self.dim), dtype=np.float32)
        mask = np.zeros(tokens.shape[:2], dtype=bool)
        for i, array in enumerate(arrays):
            tokens[i, : len(array)], mask[i, : len(array)] = array, True
        return TextEmbedding(torch.from_numpy(tokens), torch.from_numpy(mask))

    def _key(self, caption: str) -> bytes:
        return hashlib.sha256(f"{self.fingerprint}\0{caption}".encode("utf-8", "surrogatepass")).digest()

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on a connection of its own: connections must not survive a fork."""
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as db, db:
                yield db
        except sqlite3.Error as error:
            raise WeightsError(
                f"the embedding cache {self.path} failed ({error}); free some disk space, or delete that file: "
                f"it is rebuilt as needed"
            ) from error


def load_text_encoder(
    path_or_id: str | Path, device: torch.device | str | None = None, max_length: int | None = None
) -> T5TextEncoder:
    """The frozen text encoder in a folder (ours: `weights.DATA / "weights" / "t5-lite-base"`), or on the hub.

    Args:
        path_or_id: a T5 in the `transformers` layout, with its tokenizer.json; or a hub id, downloaded once.
        device: where it runs; None: the CPU.
        max_length: tokens that are read of a caption, the end included; None: what config.json says (n_positions).

    Raises:
        WeightsError: missing, unreachable or damaged files.
    """
    folder = resolve_folder(path_or_id)
    name = Path(path_or_id).name if folder == Path(path_or_id).expanduser() else str(path_or_id)
    return T5TextEncoder(folder, name, device, max_length)


def _check_tokenizer(folder: Path) -> None:
    """Ids of another tokenizer would be nonsense to the weights, without any error: our manifests name theirs."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise WeightsError(f"{path} is missing; restore it from git, or download that encoder again")
    expected = weights.load_manifest(folder).get("tokenizer_sha256") if (folder / weights.MANIFEST).is_file() else None
    if expected and expected != weights.sha256(path):
        raise WeightsError(f"{path} is not the one of these weights (see manifest.json); restore both from git")


def _check_captions(captions: list[str]) -> None:
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise TypeError(f"captions must be a list of strings, not {captions!r}; for one caption write [caption]")
    if not captions:
        raise ValueError("captions is empty; pass at least one, which may be ''")


def _lookup(db: sqlite3.Connection, key: bytes) -> bytes | None:
    row = db.execute("SELECT tokens FROM embeddings WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
