"""The parts of the U-Net: embeddings, the residual block, attention to pixels and text, and resampling.

Imagen (arXiv 2205.11487) §2.1 (text), App. B.1 and Figs. A.27–A.29 (blocks). What ends a residual branch is
zero-initialised, so that every block starts as the identity.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)

GROUP = 16  # channels a GroupNorm group; also what keeps bf16 convolutions on the fast path of a CPU


def zero_init(layer: Layer) -> Layer:
    """The same layer with weight and bias zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 16 channels."""
    return nn.GroupNorm(channels // GROUP, channels)


def sinusoidal(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of 1000 t at `dim // 2` frequencies from 1 to 1/10000; t (B,) in [0, 1] -> (B, dim)."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = 1000 * t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class LevelEmbedding(nn.Module):
    """Embeds one number in [0, 1] a sample, the time t or the augmentation level: sinusoids, then an MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """t (B,) -> (B, dim)"""
        return self.mlp(sinusoidal(t, self.dim))


class AttentionPool(nn.Module):
    """Attention pooling of the text (§2.5, D.3.1): LayerNorm, then one learned query over the real tokens."""

    def __init__(self, text_dim: int, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(text_dim)
        self.query = nn.Parameter(torch.randn(text_dim))
        self.key_value = nn.Linear(text_dim, 2 * text_dim, bias=False)
        self.out = nn.Linear(text_dim, dim)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens (B, L, D), mask (B, L) True for real tokens -> (B, dim)"""
        key, value = _heads(self.key_value(self.norm(tokens)), self.heads).chunk(2, dim=-1)  # (B, heads, L, d) each
        query = self.query.to(key.dtype).view(1, self.heads, 1, -1).expand(len(tokens), -1, -1, -1)
        pooled = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return self.out(pooled.flatten(1))


class ResnetBlock(nn.Module):
    """Fig. A.27: twice GroupNorm, swish, conv 3×3, and a conv 1×1 on the shortcut where channels change.

    The embedding of time and text scales and shifts the second norm (AdaGN). `resample` is the "biggan" block of
    the base U-Net (App. F.1): both branches are halved or doubled between the first swish and its convolution.
    """

    def __init__(self, in_channels: int, channels: int, emb_dim: int, resample: Literal["down", "up"] | None = None):
        super().__init__()
        self.resample = resample
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.modulation = nn.Linear(emb_dim, 2 * channels)
        self.norm2 = group_norm(channels)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, C_in, H, W), emb (B, E) -> (B, C, H', W')"""
        h = F.silu(self.norm1(x))
        if self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif self.resample == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = self.conv1(h)
        scale, shift = self.modulation(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        h = F.silu(self.norm2(h) * (1 + scale) + shift)
        return self.shortcut(x) + self.conv2(h)


class Attention(nn.Module):
    """Attention of the pixels to the text, and to each other.

    `pixels=True`: self-attention with the text's keys and values concatenated to the pixels' (§2.1, D.3.1: base and
    64→256); `pixels=False`: cross-attention to the text alone (256→1024). `text_dim=None`: no text. The text goes
    through a LayerNorm first, and padding is masked out.
    """

    def __init__(self, channels: int, heads: int, text_dim: int | None, pixels: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False) if pixels else None
        self.text_norm = nn.LayerNorm(text_dim) if text_dim else None
        self.text_key_value = nn.Linear(text_dim, 2 * channels, bias=False) if text_dim else None
        self.out = zero_init(nn.Linear(channels, channels))
        self.records: list[Tensor] | None = None

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, H, W), tokens (B, L, D), mask (B, L) -> (B, C, H, W)"""
        batch, channels, height, width = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        sources, visible = [], []
        if self.key_value is not None:
            sources.append(self.key_value(pixels))
            visible.append(mask.new_ones(batch, height * width))
        if self.text_norm is not None and self.text_key_value is not None:
            sources.append(self.text_key_value(self.text_norm(tokens)))
            visible.append(mask)
        # (B, heads, keys, d) each: the text's keys are the last L
        key, value = _heads(torch.cat(sources, dim=1), self.heads).chunk(2, dim=-1)
        out = self._attend(_heads(self.query(pixels), self.heads), key, value, torch.cat(visible, dim=1))
        out = self.out(out.transpose(1, 2).flatten(2))  # (B, HW, C)
        return x + out.transpose(1, 2).unflatten(2, (height, width))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """queries (B, heads, HW, d), keys and values (B, heads, K, d), visible (B, K) -> (B, heads, HW, d)"""
        # On a CPU the backward pass of the fused attention takes two to three times as long as these few lines.
        training_on_cpu = query.requires_grad and query.device.type == "cpu"
        if self.records is None and not training_on_cpu:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None])
        bias = query.new_zeros(visible.shape).masked_fill(~visible, -torch.inf)[:, None, None]  # (B, 1, 1, K)
        weights = (query / math.sqrt(query.shape[-1]) @ key.transpose(-1, -2) + bias).softmax(dim=-1).to(value.dtype)
        if self.records is not None:
            self.records.append(weights.detach())
        return weights @ value


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Within the block, every attention of `model` keeps its weights, one tensor a call: (B, heads, HW, keys).

    The keys are the pixels (self-attention only) and then the text, so `weights[..., -L:]` says which word each
    pixel looks at. The names are those of `model.named_modules()`. Same result as without, only slower.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Attention)}
    records: dict[str, list[Tensor]] = {name: [] for name in layers}
    try:
        for name, layer in layers.items():
            layer.records = records[name]
        yield records
    finally:
        for layer in layers.values():
            layer.records = None


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then conv 3×3 (the last box of Fig. A.29)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, 2H, 2W)"""
        return self.conv(F.interpolate(x, scale_factor=2))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads * d) -> (B, heads, N, d)"""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)
