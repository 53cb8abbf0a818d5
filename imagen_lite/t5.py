"""The T5 encoder, from scratch, weight-compatible with `transformers`.

Imagen reads its prompts with a frozen T5-XXL encoder (§2.1 of the paper). Everything here is also what a small
one is made of: pre-norm blocks, RMSNorm, attention with a relative position bias and without 1/sqrt(d), no
absolute positions, and a feed-forward that is ReLU (v1.0) or gated GELU (v1.1).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from imagen_lite import weights
from imagen_lite.weights import WeightsError, resolve_folder

FEED_FORWARDS = ("relu", "gated-gelu")
# Names inside a transformers checkpoint -> ours. "layer.0" is attention, "layer.1" the feed-forward.
_RENAMES = (
    ("encoder.block.", "blocks."),
    ("layer.0.SelfAttention.relative_attention_bias", "relative_attention_bias"),
    ("layer.0.SelfAttention.", "attention."),
    ("layer.0.layer_norm.", "attention_norm."),
    ("layer.1.DenseReluDense.", "feed_forward."),
    ("layer.1.layer_norm.", "feed_forward_norm."),
    ("encoder.final_layer_norm.", "final_norm."),
    ("blocks.0.relative_attention_bias.", "relative_bias.table."),
)


@dataclass(frozen=True)
class T5Config:
    """The shape of an encoder; field names are those of `config.json`.

    `feed_forward_proj` is "relu" (v1.0) or "gated-gelu" (v1.1). The inner width of attention, num_heads × d_kv,
    may differ from d_model.

    Raises:
        ValueError: a size that is not positive, an odd number of buckets, an unknown feed-forward.
    """

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    num_heads: int = 6
    num_layers: int = 8
    d_ff: int = 1024
    feed_forward_proj: str = "gated-gelu"
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6

    def __post_init__(self):
        for name in ("vocab_size", "d_model", "d_kv", "num_heads", "num_layers", "d_ff"):
            if getattr(self, name) < 1:
                raise ValueError(f"T5Config.{name} must be at least 1, not {getattr(self, name)!r}")
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4 or buckets % 4 or distance <= buckets // 4:
            raise ValueError(
                f"relative_attention_num_buckets must be a multiple of 4, and relative_attention_max_distance more "
                f"than a quarter of it, not {buckets!r} and {distance!r}"
            )
        if self.feed_forward_proj not in FEED_FORWARDS:
            raise ValueError(f"feed_forward_proj must be one of {FEED_FORWARDS}, not {self.feed_forward_proj!r}")

    @classmethod
    def from_dict(cls, config: dict) -> "T5Config":
        """The encoder's part of a `transformers` config.json; what only the decoder or training needs is ignored."""
        known = {k: v for k, v in config.items() if k in cls.__dataclass_fields__}
        known.setdefault("feed_forward_proj", "relu")  # the first checkpoints do not say
        return cls(**known)


def relative_position_bucket(offset: Tensor, num_buckets: int = 32, max_distance: int = 128) -> Tensor:
    """The bucket of each offset r = key - query: exact for the nearest, logarithmic for the far, apart by sign.

    Half of the buckets are for r > 0. Of each half, n = |r| < num_buckets/4 has a bucket of its own; the others
    share n up to `max_distance`, and the last takes all beyond.

    Args:
        offset: any shape, integer.

    Returns:
        Same shape, int64, in [0, num_buckets).
    """
    half, exact = num_buckets // 2, num_buckets // 4
    n = offset.abs()
    log_ratio = torch.log(n.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (log_ratio * (half - exact)).long()).clamp(max=half - 1)
    return (offset > 0).long() * half + torch.where(n < exact, n, far)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """g x / sqrt(mean(x²) + eps) over the last axis, in float32 or better: x (..., D), weight (D,) -> (..., D)."""
    wide = x if x.dtype == torch.float64 else x.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a weight to learn: no mean, no bias."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), in x's dtype."""
        return rms_norm(x, self.weight, self.eps)


class RelativeBias(nn.Module):
    """One number per (bucket, head), added to the logits; all layers share the table."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.buckets, self.distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
        self.table = nn.Embedding(self.buckets, config.num_heads)

    def forward(self, length: int) -> Tensor:
        """The bias of all pairs of `length` positions: (1, H, L, L), queries by keys."""
        position = torch.arange(length, device=self.table.weight.device)
        bucket = relative_position_bucket(position[None, :] - position[:, None], self.buckets, self.distance)
        return self.table(bucket).permute(2, 0, 1)[None]


class Attention(nn.Module):
    """softmax(Q Kᵀ + bias) V. The missing 1/sqrt(d) is folded into how Q starts out."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.heads = config.num_heads
        inner = config.num_heads * config.d_kv
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        nn.init.normal_(self.q.weight, std=(config.d_model * config.d_kv) ** -0.5)
        for linear in (self.k, self.v):
            nn.init.normal_(linear.weight, std=config.d_model**-0.5)
        nn.init.normal_(self.o.weight, std=inner**-0.5)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, L, D), and a bias (B, H, L, L) that is hugely negative at padded keys -> (B, L, D)."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) + bias).softmax(-1)  # (B, H, L, L)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """v1.0: W_o relu(W_i x). v1.1: W_o (gelu(W_0 x) * W_1 x), with the tanh form of GELU."""

    wi: nn.Linear
    wi_0: nn.Linear
    wi_1: nn.Linear

    def __init__(self, config: T5Config):
        super().__init__()
        self.gated = config.feed_forward_proj == "gated-gelu"
        for name in ("wi_0", "wi_1") if self.gated else ("wi",):
            linear = nn.Linear(config.d_model, config.d_ff, bias=False)
            nn.init.normal_(linear.weight, std=config.d_model**-0.5)
            self.add_module(name, linear)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)
        nn.init.normal_(self.wo.weight, std=config.d_ff**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        if self.gated:
            return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))
        return self.wo(F.relu(self.wi(x)))


class Block(nn.Module):
    """x += Attention(RMS(x)); x += FeedForward(RMS(x))."""

    def __init__(self, config: T5Config):
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(B, L, D), (B, H, L, L) -> (B, L, D)."""
        x = x + self.attention(self.attention_norm(x), bias)
        return x + self.feed_forward(self.feed_forward_norm(x))


class T5Encoder(nn.Module):
    """The encoder of T5: token ids -> one vector per token that knows its context.

    It has no dropout: Imagen uses it frozen. `from_pretrained` reads what `transformers` writes.
    """

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.relative_bias = RelativeBias(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Encode token ids.

        Args:
            input_ids: (B, L) int64 in [0, vocab_size).
            attention_mask: (B, L), true or 1 at real tokens; None: all are real.

        Returns:
            (B, L, D). Values at padded positions mean nothing.
        """
        x = self.embedding(input_ids)  # (B, L, D), without sqrt(D)
        bias = self.relative_bias(input_ids.shape[1])
        if attention_mask is not None:
            padded = ~attention_mask.bool()[:, None, None, :]
            bias = bias.masked_fill(padded, torch.finfo(x.dtype).min)  # (B, H, L, L)
        for block in self.blocks:
            x = block(x, bias)
        return self.final_norm(x)

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path) -> "T5Encoder":
        """The encoder stored in a `transformers` folder, or on the Hugging Face hub; float32, in eval mode.

        A whole T5 (with its decoder) will do; only the encoder is kept. float16 and bfloat16 become float32.

        Raises:
            WeightsError: nothing there, the hub is out of reach, files that are broken or of another model.
            ValueError: config.json asks for a T5 of an unknown kind.
        """
        folder = resolve_folder(path_or_hub_id)
        model = cls(T5Config.from_dict(weights.load_config(folder)))
        model.load_transformers(_read_tensors(folder))
        return model.eval()

    def load_transformers(self, tensors: dict[str, Tensor]) -> None:
        """Copy the encoder's weights out of a `transformers` state dict, by its names; decoder and head are ignored.

        Raises:
            WeightsError: a weight is missing or of another shape; the message names it.
        """
        tokens = tensors.get("shared.weight", tensors.get("encoder.embed_tokens.weight"))
        ours = {} if tokens is None else {"embedding.weight": tokens}
        for name, tensor in tensors.items():
            if name.startswith("encoder.") and name != "encoder.embed_tokens.weight":
                for theirs, here in _RENAMES:
                    name = name.replace(theirs, here)
                ours[name] = tensor
        for name, parameter in self.state_dict().items():
            if name not in ours or ours[name].shape != parameter.shape:
                found = "is missing" if name not in ours else f"has shape {tuple(ours[name].shape)}"
                raise WeightsError(f"T5 weight {name} {found}, but config.json asks for {tuple(parameter.shape)}")
        self.load_state_dict(ours)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder as float32, from one file or, for the large ones, from the shards its index names."""
    index = folder / "model.safetensors.index.json"
    if (folder / weights.TENSORS).is_file() or not index.is_file():
        return weights.load_tensors(folder)
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    found = (tensor for shard in shards for tensor in load_file(folder / shard).items())
    return {name: tensor.float() for name, tensor in found if name.startswith(("encoder.", "shared."))}
