"""The exercises of notebook 04: three parts of the U-Net, written over the library's own modules."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite.layers import Attention, ResnetBlock, sinusoidal
from imagen_lite.learn.exercise import Answer, Exercise, normal, same
from imagen_lite.text import TextEmbedding

T = torch.tensor([0.0, 0.001, 0.013, 0.04])  # small, so that float32 can tell angles apart


def residual_block(block: ResnetBlock, x: Tensor, emb: Tensor) -> Tensor:
    """Fig. A.27 over the block's own layers; emb scales and shifts the second norm: x (B, C_in, H, W), emb (B, E)."""
    h = block.conv1(F.silu(block.norm1(x)))
    scale, shift = block.modulation(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
    h = F.silu(block.norm2(h) * (1 + scale) + shift)
    return block.shortcut(x) + block.conv2(h)


def text_attention(query: Tensor, key: Tensor, value: Tensor, text_key: Tensor, text_value: Tensor, mask: Tensor):
    """Attention of pixels to pixels and text: keys and values concatenated, padding masked out (§2.1, D.3.1).

    query, key, value (B, heads, N, d); text_key, text_value (B, heads, L, d); mask (B, L) -> (B, heads, N, d)
    """
    key, value = torch.cat([key, text_key], dim=2), torch.cat([value, text_value], dim=2)
    visible = torch.cat([mask.new_ones(len(mask), query.shape[2]), mask], dim=1)  # (B, N + L)
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return logits.masked_fill(~visible[:, None, None], -torch.inf).softmax(dim=-1) @ value


def attend_with(attend: Answer, layer: Attention, x: Tensor, text: TextEmbedding) -> Tensor:
    """`layer(x, text.tokens, text.mask)`, self-attention with text, by `attend` in place of the layer's own."""

    def heads(h: Tensor) -> Tensor:
        return h.unflatten(2, (layer.heads, -1)).transpose(1, 2)

    assert layer.key_value and layer.text_norm and layer.text_key_value, "a layer that sees pixels and text"
    pixels = layer.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
    key, value = heads(layer.key_value(pixels)).chunk(2, dim=-1)
    text_key, text_value = heads(layer.text_key_value(layer.text_norm(text.tokens))).chunk(2, dim=-1)
    out = attend(heads(layer.query(pixels)), key, value, text_key, text_value, text.mask)
    out = layer.out(out.transpose(1, 2).flatten(2))
    return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


def _random(module: nn.Module, seed: int) -> None:
    """Fills every parameter with noise, what is zero at first too, and leaves torch's own generator alone."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


with torch.random.fork_rng(devices=[]), torch.no_grad():
    BLOCK, FRESH, LAYER = ResnetBlock(16, 32, 8), ResnetBlock(16, 32, 8), Attention(32, 2, 12, pixels=True)
    _random(BLOCK, 0)
    _random(LAYER, 1)
for _module in (BLOCK, FRESH, LAYER):
    _module.requires_grad_(False)

X, EMB = normal(2, 16, 6, 6, seed=2), normal(2, 8, seed=3)
QUERY, KEY, VALUE = normal(3, 2, 2, 9, 4, seed=4)
TEXT_KEY, TEXT_VALUE = normal(2, 2, 2, 5, 4, seed=5)
MASK = torch.tensor([[True, True, True, False, False], [True] * 5])
SPOILT = TEXT_VALUE.masked_fill(~MASK[:, None, :, None], 9.0)
SEEN, TOKENS = normal(2, 32, 3, 3, seed=6), normal(2, 5, 12, seed=7)


def _block(modulate: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """The answer of a block that uses scale and shift otherwise: `modulate`(normed h, scale, shift)."""
    h = BLOCK.conv1(F.silu(BLOCK.norm1(X)))
    scale, shift = BLOCK.modulation(F.silu(EMB))[:, :, None, None].chunk(2, dim=1)
    return BLOCK.shortcut(X) + BLOCK.conv2(F.silu(modulate(BLOCK.norm2(h), scale, shift)))


def _attended(f: Answer, mask: Tensor = MASK, text_value: Tensor = TEXT_VALUE) -> Tensor:
    return f(QUERY, KEY, VALUE, TEXT_KEY, text_value, mask)


def _pixels_alone() -> Tensor:
    return F.scaled_dot_product_attention(QUERY, KEY, VALUE)


def _text_alone() -> Tensor:
    return F.scaled_dot_product_attention(QUERY, TEXT_KEY, TEXT_VALUE, attn_mask=MASK[:, None, None])


EXERCISES: dict[str, Exercise] = {
    "time embedding": Exercise(
        "The time embedding",
        (
            (lambda f: f(T, 16).shape == (4, 16), "the answer must be (B, dim): dim / 2 cosines, then as many sines"),
            (
                lambda f: not same(f(T, 16), sinusoidal(T, 16).roll(8, dims=1)),
                "the sines come first: here the cosines do",
            ),
            (
                lambda f: not same(f(T, 16), sinusoidal(T / 1000, 16)),
                "t runs from 0 to 1 only: without the factor 1000 even the fastest wave hardly moves",
            ),
            (
                lambda f: not same(f(T, 16), sinusoidal(2 * math.pi * T, 16)),
                "these are waves of 2 π 1000 t: here the angles are without 2 π",
            ),
            (
                lambda f: not same(f(T, 16), sinusoidal(T * 10_000 ** (-1 / 8), 16)),
                "i counts from 0: the first frequency is 1",
            ),
            (
                lambda f: same(f(T, 16)[:, [0, 8]], sinusoidal(T, 16)[:, [0, 8]]),
                "the first cosine and the first sine, columns 0 and dim / 2, must be the fastest waves, in this order",
            ),
            (
                lambda f: same(f(T, 16), sinusoidal(T, 16)),
                "the fastest waves are right, the others are not: frequency i is 10000 to the power of -i / (dim / 2)",
            ),
        ),
        sinusoidal,
        (T, 16),
    ),
    "residual block": Exercise(
        "The residual block",
        (
            (lambda f: f(BLOCK, X, EMB).shape == (2, 32, 6, 6), "the answer must have the shape of block.conv2's"),
            (
                lambda f: same(f(FRESH, X, EMB), FRESH.shortcut(X)),
                "a fresh block's last convolution is zero, so it must give block.shortcut(x): is x added at the end, "
                "through the shortcut?",
            ),
            (
                lambda f: not same(f(BLOCK, X, EMB), f(BLOCK, X, -EMB)),
                "emb changes nothing: time and text have to scale and shift the second norm",
            ),
            (
                lambda f: not same(f(BLOCK, X, EMB), _block(lambda h, scale, shift: h * scale + shift)),
                "where the scale is 0 nothing is left: multiply by 1 + scale, so that 0 changes nothing",
            ),
            (
                lambda f: not same(f(BLOCK, X, EMB), _block(lambda h, scale, shift: h + shift)),
                "the embedding shifts, but does not scale",
            ),
            (
                lambda f: not same(f(BLOCK, X, EMB), _block(lambda h, scale, shift: h * (1 + shift) + scale)),
                "the two halves are swapped: scale is the first",
            ),
            (
                lambda f: same(f(BLOCK, X, EMB), BLOCK(X, EMB)),
                "the parts are there, their order is not: twice norm, swish, convolution; scale and shift come after "
                "the second norm and before its swish, and emb goes through a swish of its own",
            ),
        ),
        residual_block,
        (BLOCK, X, EMB),
    ),
    "text keys": Exercise(
        "Text keys in attention",
        (
            (
                lambda f: _attended(f).shape == QUERY.shape,
                "the answer must have the shape of query: one for each pixel",
            ),
            (
                lambda f: not same(_attended(f), _pixels_alone()),
                "the text is not looked at: concatenate its keys and values to the pixels' own",
            ),
            (
                lambda f: not same(_attended(f), _text_alone()),
                "the pixels do not look at each other any more: concatenate, do not replace",
            ),
            (
                lambda f: not same(_attended(f), _pixels_alone() + _text_alone()),
                "these are two attentions, added: one softmax has to share out its 1 over pixels and words together",
            ),
            (
                lambda f: not same(_attended(f), _attended(text_attention, ~MASK)),
                "the mask is turned round: True marks what is real",
            ),
            (
                lambda f: same(_attended(f), _attended(f, text_value=SPOILT)),
                "padding is read: where the mask is False the logit has to be -inf, before the softmax",
            ),
            (
                lambda f: same(f(QUERY, KEY, torch.ones_like(VALUE), TEXT_KEY, torch.ones_like(TEXT_VALUE), MASK), 1.0),
                "the weights that count do not add up to 1: padding takes its share of the softmax, though its values "
                "are dropped; mask the logits instead, with -inf",
            ),
            (
                lambda f: same(_attended(f)[1], _attended(f, mask=torch.ones_like(MASK))[1]),
                "one caption's mask changes another's picture: each has its own",
            ),
            (
                lambda f: not same(_attended(f), _attended(lambda q, *rest: text_attention(2 * q, *rest))),
                "the logits are not divided by the root of d, the width of a head",
            ),
            (
                lambda f: same(attend_with(f, LAYER, SEEN, TextEmbedding(TOKENS, MASK)), LAYER(SEEN, TOKENS, MASK)),
                "right in parts, but not what the library's layer does: softmax over all keys of query · key / √d, "
                "then the sum of values by these weights",
            ),
        ),
        text_attention,
        (QUERY, KEY, VALUE, TEXT_KEY, TEXT_VALUE, MASK),
    ),
}  # fmt: skip
