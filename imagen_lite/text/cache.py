"""Embeddings on disk: the encoder is frozen, so each caption is encoded once, and training can do without it."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from imagen_lite.text.embedding import TextEmbedding, TextEncoder
from imagen_lite.text.tokenizer import check_captions, short
from imagen_lite.weights import WeightsError

_TABLES = """
CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, tokens BLOB);
CREATE TABLE IF NOT EXISTS encoders (fingerprint TEXT PRIMARY KEY, name TEXT, dim INTEGER, max_length INTEGER);
"""


class EmbeddingCache:
    """A text encoder that remembers: same calls, each caption encoded once per encoder, then read from disk.

    One SQLite file, keyed by the encoder's fingerprint and the caption, tokens in float16 (also what a first call
    returns, so that a warm cache changes nothing), of each caption its real tokens only. It keeps the encoder's
    fingerprint, name, dim and max_length too, and so can be read without the encoder. Safe under several processes
    and under kill -9; delete the file to empty it.
    """

    def __init__(self, path: str | Path, encoder: TextEncoder | None = None, batch: int = 256):
        """`path` is created when missing; `batch` captions are encoded at a time; None reads what is there.

        Raises:
            WeightsError: without an encoder: no such file, or not of exactly one encoder.
        """
        self.encoder, self.batch, self.path = encoder, batch, Path(path)
        if encoder is None:
            self.fingerprint, self.name, self.dim, self.max_length = self._stored_encoder()
            return
        self.fingerprint, self.name, self.dim, self.max_length = _about(encoder)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._database() as db:
            db.executescript(_TABLES)

    def __call__(self, captions: list[str]) -> TextEmbedding:
        """As the encoder's own call, in float32 on the CPU, rounded to float16.

        Raises:
            WeightsError: the file is no cache, or cannot be read or written; without an encoder: a caption that is
                not in it.
        """
        check_captions(captions)
        keys = {caption: self._key(caption) for caption in captions}
        with self._database() as db:
            found = {caption: row for caption, key in keys.items() if (row := _lookup(db, key))}
        missing = [caption for caption in keys if caption not in found]
        for start in range(0, len(missing), self.batch):
            new = self._encode(missing[start : start + self.batch])
            with self._database() as db:
                db.execute("INSERT OR IGNORE INTO encoders VALUES (?, ?, ?, ?)", _about(self))
                rows = [(keys[caption], tokens) for caption, tokens in new.items()]
                db.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", rows)
            found |= new
        return self._collate([found[caption] for caption in captions])

    def missing(self, captions: list[str]) -> list[str]:
        """Those captions, each once, that are not in the file yet."""
        with self._database() as db:
            return [caption for caption in dict.fromkeys(captions) if _lookup(db, self._key(caption)) is None]

    def _encode(self, captions: list[str]) -> dict[str, bytes]:
        if self.encoder is None:
            raise WeightsError(
                f"the embedding cache {self.path} does not hold {short(captions[0])!r}; add it with the encoder that "
                f"made the cache: EmbeddingCache(path, load_text_encoder({self.name!r}))(captions)"
            )
        text = self.encoder(captions).to("cpu", torch.float16)
        rows = zip(captions, text.tokens, text.mask, strict=True)
        return {caption: tokens[mask].numpy().tobytes() for caption, tokens, mask in rows}

    def _collate(self, rows: list[bytes]) -> TextEmbedding:
        try:
            parts = [torch.frombuffer(bytearray(row), dtype=torch.float16).view(-1, self.dim) for row in rows]
        except (TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"the embedding cache {self.path} is damaged ({error}); delete that file") from error
        tokens = pad_sequence(parts, batch_first=True).float()
        return TextEmbedding(tokens, torch.arange(tokens.shape[1]) < torch.tensor([len(p) for p in parts])[:, None])

    def _key(self, caption: str) -> bytes:
        return hashlib.sha256(f"{self.fingerprint}\0{caption}".encode("utf-8", "surrogatepass")).digest()

    def _stored_encoder(self) -> tuple[str, str, int, int]:
        if not self.path.is_file():
            raise WeightsError(f"there is no embedding cache {self.path}; make it first: EmbeddingCache(path, encoder)")
        with self._database() as db:
            rows = db.execute("SELECT fingerprint, name, dim, max_length FROM encoders ORDER BY name").fetchall()
        if len(rows) != 1:
            raise WeightsError(
                f"the embedding cache {self.path} holds what {len(rows)} encoders made "
                f"({', '.join(name for _, name, *_ in rows) or 'none'}) where one is expected; pass the encoder that "
                f"you mean, or keep a file for each"
            )
        return rows[0]

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


def _about(encoder: "TextEncoder | EmbeddingCache") -> tuple[str, str, int, int]:
    return encoder.fingerprint, encoder.name, encoder.dim, encoder.max_length


def _lookup(db: sqlite3.Connection, key: bytes) -> bytes | None:
    row = db.execute("SELECT tokens FROM embeddings WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None
