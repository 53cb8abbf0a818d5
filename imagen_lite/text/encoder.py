"""Frozen text encoders with their tokenizers: captions in, `TextEmbedding` out."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from imagen_lite import weights
from imagen_lite.t5 import T5Encoder
from imagen_lite.text.embedding import TextEmbedding
from imagen_lite.text.families import Family, family_of, load_hidden_state
from imagen_lite.text.tokenizer import CaptionTokenizer, check_captions, check_tokenizer
from imagen_lite.weights import WeightsError, resolve_folder


class FrozenTextEncoder:
    """A frozen encoder with its tokenizer: captions in, TextEmbedding out; no gradients, no dropout.

    Attributes:
        model: the network, (ids (B, L), mask (B, L)) -> (B, L, D); a `T5Encoder` if the family is T5.
        tokenizer, family, device, dtype: what it reads with, how, where, and in which precision.
        name, fingerprint, dim, max_length: see `TextEncoder`.
    """

    def __init__(
        self, folder: Path, name: str, device: torch.device | str | None, max_length: int | None, dtype: torch.dtype
    ):
        """Reads a `transformers` folder; use `load_text_encoder`."""
        config = weights.load_config(folder)
        self.name, self.dtype, self.family = name, dtype, family_of(config, folder)
        check_tokenizer(folder)
        model, self.dim, positions = _load(folder, self.family, dtype)
        # T5 has relative positions: its n_positions is a habit, not a limit.
        if self.family.model and (max_length or 0) > positions:
            raise ValueError(f"max_length must be at most {positions}, the positions of {name}, not {max_length}")
        self.max_length = positions if max_length is None else max_length
        end, start = self.family.end, self.family.start
        self.tokenizer = CaptionTokenizer(folder / "tokenizer.json", self.max_length, end, start)
        self.model = model.requires_grad_(False).to(device)
        self.device = next(self.model.parameters()).device
        self.fingerprint = _fingerprint(folder, self.family, dtype, self.max_length)

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
            WeightsError: a dtype too narrow for the encoder made NaN or infinity.
        """
        check_captions(captions)
        ids, mask = (t.to(self.device) for t in self.tokenizer(captions))
        tokens = self.model(ids, mask).float().masked_fill(~mask[..., None], 0)
        if not tokens.isfinite().all():
            raise WeightsError(
                f"{self.name} computes NaN or infinity in {self.dtype}; load it with dtype=None (float32), or download "
                f"its weights again if that is what it has"
            )
        return TextEmbedding(tokens, mask)


def load_text_encoder(
    path_or_hub_id: str | Path,
    device: torch.device | str | None = None,
    max_length: int | None = None,
    dtype: torch.dtype | None = None,
) -> FrozenTextEncoder:
    """The frozen text encoder in a folder (ours: `weights.DATA / "weights" / "t5-lite-base"`), or on the hub.

    The `model_type` of config.json chooses what is read:
    - t5: the encoder's output, an end-of-text token after the caption, as in Imagen (§2.1);
    - bert: the last hidden state, [CLS] and [SEP] included;
    - gpt2: the last hidden state after the final norm, with an end-of-text token; each token knows only those before;
    - clip, clip_text_model: the hidden state before the last layer (§D.1), which no norm follows, from the start to
      the end-of-text token.

    Args:
        path_or_hub_id: a folder in the `transformers` layout, with its tokenizer.json; or a hub id, downloaded once.
        device: where it runs; None: the CPU.
        max_length: tokens that are read of a caption, the special ones included; None: as many as the encoder has
            positions (77 for CLIP, 512 for BERT, 1024 for GPT-2), for T5 what config.json says (n_positions).
        dtype: what it computes in; None: float32. bfloat16 halves a large encoder; T5 overflows in float16.

    Raises:
        WeightsError: missing, unreachable or damaged files; a model of another type.
        ValueError: a max_length that is too small, or more than there are positions.
    """
    folder = resolve_folder(path_or_hub_id)
    name = Path(path_or_hub_id).name if folder == Path(path_or_hub_id).expanduser() else str(path_or_hub_id)
    return FrozenTextEncoder(folder, name, device, max_length, dtype or torch.float32)


def _load(folder: Path, family: Family, dtype: torch.dtype) -> tuple[nn.Module, int, int]:
    """The network, its width D, and how many tokens it reads."""
    if family.model is None:
        t5 = T5Encoder.from_pretrained(folder).to(dtype)
        return t5, t5.config.d_model, weights.load_config(folder).get("n_positions", 512)
    model = load_hidden_state(folder, family, dtype)
    return model, model.dim, model.positions


def _fingerprint(folder: Path, family: Family, dtype: torch.dtype, max_length: int) -> str:
    """64 hex digits of all that an embedding depends on."""
    files = [folder / weights.CONFIG, folder / "tokenizer.json", *sorted(folder.glob("*.safetensors"))]
    parts = [repr(family), str(dtype), str(max_length), *(weights.sha256(file) for file in files)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
