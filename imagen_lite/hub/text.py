"""Captions for the U-Nets of `diffusers`: their text encoder, and guidance against the empty string.

reader = PipelineTextEncoder("DeepFloyd/IF-I-XL-v1.0")       # T5-XXL, loaded at the first caption
encoder = EmptyNull(EmbeddingCache("if.sqlite", reader))     # what was read once is read from disk
encoder(prompts)
reader.free()                                                # room for the U-Nets
Cascade(encoder, stages).sample(prompts)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagen_lite.hub.pipeline import check_safetensors, read_json, resolve_pipeline, variant
from imagen_lite.stage import default_dtype
from imagen_lite.text import TextEmbedding, TextEncoder
from imagen_lite.weights import WeightsError


@dataclass(frozen=True)
class PromptEmbedding(TextEmbedding):
    """A TextEmbedding whose null condition is not zeros but `empty`, the empty string's embedding, one row."""

    empty: TextEmbedding

    def null(self) -> TextEmbedding:
        """The empty string's embedding for each caption."""
        return self.empty[[0] * len(self)]

    def __getitem__(self, rows: slice | Tensor | list[int]) -> "PromptEmbedding":
        """Those rows, as a batch."""
        return PromptEmbedding(self.tokens[rows], self.mask[rows], self.empty)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "PromptEmbedding":
        """The same on another device, or with tokens of another dtype."""
        moved = super().to(device, dtype)
        return PromptEmbedding(moved.tokens, moved.mask, self.empty.to(device, dtype))

    def padded(self, length: int) -> "PromptEmbedding":
        """The same, with zeros that are masked out up to `length` tokens."""
        longer = super().padded(length)
        return PromptEmbedding(longer.tokens, longer.mask, self.empty.padded(length))


class EmptyNull:
    """A text encoder with the empty string for its null condition, as the models of `diffusers` are trained.

    Ours are trained with zeros (`TextEmbedding.null`): guidance away from the wrong one is guidance to nowhere.
    """

    def __init__(self, encoder: TextEncoder):
        """`encoder` may be a `PipelineTextEncoder`, an `EmbeddingCache` of one, or any other."""
        self.encoder = encoder
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.dim, self.max_length = encoder.dim, encoder.max_length

    def __call__(self, captions: Sequence[str]) -> PromptEmbedding:
        """As the encoder's own call, with "" read along."""
        text = self.encoder([*captions, ""])
        return PromptEmbedding(text.tokens[:-1], text.mask[:-1], text[-1:])


class PipelineTextEncoder:
    """The T5 of a pipeline, by `transformers`, reading as IF's U-Nets were trained.

    Captions in lower case (no other clean-up), always padded to 77 tokens. T5 masks the padding, but the U-Nets pool,
    normalise and attend to what it says there, without a mask: so every token counts as real here. T5 is loaded at the
    first caption.
    """

    def __init__(
        self,
        path_or_hub_id: str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        max_length: int = 77,
        tokenizer: str | Path | None = None,
    ):
        """Reads the tokenizer and the configuration.

        Args:
            path_or_hub_id: a folder with text_encoder/ and tokenizer/; or a hub id, of which these are downloaded once.
            device: where T5 runs; None: the CPU.
            dtype: of T5's weights; None is `default_dtype`. The embeddings are float32.
            max_length: tokens of every caption, the end and padding included.
            tokenizer: a folder or hub id to take it from. IF stores it for `sentencepiece` alone, but all of Google's
                English T5 share one, and "google-t5/t5-small" has it as tokenizer.json.

        Raises:
            WeightsError: missing or unreachable files, or pickled weights.
        """
        self.device = torch.device(device or "cpu")
        self.dtype = dtype or default_dtype(self.device)
        folder = resolve_pipeline(path_or_hub_id, ("text_encoder", "tokenizer"), self.dtype)
        self.folder = folder / "text_encoder"
        config = read_json(self.folder / "config.json")
        check_safetensors(self.folder)
        self.tokenizer = _load_tokenizer(tokenizer or folder / "tokenizer")
        self.name, self.dim, self.max_length = str(path_or_hub_id), config["d_model"], max_length
        stored = sorted((file.name, file.stat()) for file in self.folder.glob("*.safetensors"))
        files = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stored]  # hashing 10 GB takes too long
        self.fingerprint = " ".join([str(self.folder.resolve()), str(self.dtype), str(max_length), *files])

    @cached_property
    def model(self) -> Any:
        """The encoder of T5, from `transformers`."""
        from transformers import T5EncoderModel

        options = {"dtype": self.dtype, "use_safetensors": True, "variant": variant(self.folder, self.dtype)}
        model: Any = T5EncoderModel.from_pretrained(self.folder, **options)
        return model.requires_grad_(False).eval().to(self.device)

    def free(self) -> None:
        """Lets go of T5's weights; another caption would load them again."""
        self.__dict__.pop("model", None)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> TextEmbedding:
        """float32 tokens (B, max_length, D) on T5's device, all of them real; longer captions are cut."""
        read = self.tokenizer(
            [caption.lower().strip() for caption in captions],
            padding="max_length", max_length=self.max_length, truncation=True, return_tensors="pt",
        ).to(self.device)  # fmt: skip
        tokens = self.model(read.input_ids, attention_mask=read.attention_mask)[0].float()
        return TextEmbedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))


def _load_tokenizer(folder: str | Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds
        raise WeightsError(
            f"{folder} holds no tokenizer that can be read here ({type(error).__name__}); install sentencepiece and "
            f"protobuf, or pass tokenizer= a folder or hub id with the tokenizer.json of a T5"
        ) from error
