"""The U-Net's parts against closed forms, against plain loops, and against what padding must not do."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from imagen_lite.layers import (
    Attention,
    AttentionPool,
    LevelEmbedding,
    ResnetBlock,
    Upsample,
    record_attention,
    sinusoidal,
)

DIM = 12


def awake(module: nn.Module) -> nn.Module:
    """Random values where a fresh layer has zeros, so that no branch is asleep."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if not parameter.detach().any():
            parameter.data.normal_(std=0.3, generator=generator)
    return module


def text(batch: int = 2, length: int = 5, padding: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(length).expand(batch, -1) < length - padding
    return torch.randn(batch, length, DIM, generator=generator), mask


def test_sinusoidal_is_the_closed_form():
    t = torch.tensor([0.0, 0.25, 1.0])
    got = sinusoidal(t, 8)
    for row, time in enumerate(t.tolist()):
        angles = [1000 * time * 10_000 ** (-i / 4) for i in range(4)]
        expected = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
        torch.testing.assert_close(got[row], expected, rtol=0, atol=1e-4)


def test_level_embedding_tells_close_times_apart():
    torch.manual_seed(0)
    a, b = LevelEmbedding(32)(torch.tensor([0.5, 0.501]))
    assert (a - b).abs().max() > 1e-2


@given(st.integers(0, 4), st.floats(-50, 50))
def test_padding_never_reaches_the_pool(padding: int, value: float):
    torch.manual_seed(0)
    pool = AttentionPool(DIM, 6)
    tokens, mask = text(padding=padding)
    filled = tokens.masked_fill(~mask[..., None], value)
    torch.testing.assert_close(pool(filled, mask), pool(tokens[:, : 5 - padding], mask[:, : 5 - padding]))


def test_pool_hears_every_real_token():
    torch.manual_seed(0)
    tokens, mask = text()
    tokens.requires_grad_()
    (gradient,) = torch.autograd.grad(AttentionPool(DIM, 6)(tokens, mask).square().sum(), tokens)
    assert ((gradient.abs().sum(-1) > 0) == mask).all()


def test_fresh_blocks_are_the_identity():
    x = torch.randn(2, 32, 4, 4)
    tokens, mask = text()
    torch.testing.assert_close(ResnetBlock(32, 32, 8)(x, torch.randn(2, 8)), x)
    torch.testing.assert_close(Attention(32, 2, DIM, pixels=True)(x, tokens, mask), x)


@pytest.mark.parametrize(("resample", "size"), [(None, 4), ("down", 2), ("up", 8)])
def test_resnet_block_resamples_both_branches(resample, size):
    block = awake(ResnetBlock(16, 32, 8, resample))
    assert block(torch.randn(2, 16, 4, 4), torch.randn(2, 8)).shape == (2, 32, size, size)
    assert Upsample(16, 32)(torch.randn(2, 16, 4, 4)).shape == (2, 32, 8, 8)


def test_resnet_block_is_scaled_and_shifted_by_the_embedding():
    block = awake(ResnetBlock(16, 16, 8))
    x, emb = torch.randn(1, 16, 4, 4), torch.randn(1, 8)
    scale, shift = block.modulation(F.silu(emb)).view(2, 1, 16, 1, 1)
    h = F.group_norm(block.conv1(F.silu(block.norm1(x))), 1)
    h = h * block.norm2.weight.view(-1, 1, 1) + block.norm2.bias.view(-1, 1, 1)
    torch.testing.assert_close(block(x, emb), x + block.conv2(F.silu(h * (1 + scale) + shift)))


def attention_by_loops(layer: Attention, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """One picture, one head and one pixel at a time, over the keys that exist, with no mask at all."""
    result = x.clone()
    d = x.shape[1] // layer.heads
    for b in range(len(x)):
        pixels = layer.norm(x[b : b + 1])[0].flatten(1).T
        sources = [layer.key_value(pixels)] if layer.key_value is not None else []
        if layer.text_key_value is not None:
            sources.append(layer.text_key_value(layer.text_norm(tokens[b, mask[b]])))
        keys_values, queries, out = torch.cat(sources), layer.query(pixels), torch.zeros_like(pixels)
        for h in range(layer.heads):
            kv = keys_values[:, 2 * d * h : 2 * d * (h + 1)]
            for p, query in enumerate(queries[:, d * h : d * (h + 1)]):
                out[p, d * h : d * (h + 1)] = (kv[:, :d] @ query / math.sqrt(d)).softmax(0) @ kv[:, d:]
        result[b] += layer.out(out).T.view_as(x[b])
    return result


@pytest.mark.parametrize(("text_dim", "pixels"), [(DIM, True), (DIM, False), (None, True)])
def test_attention_fused_training_and_recording_paths_equal_plain_loops(text_dim: int | None, pixels: bool):
    torch.manual_seed(0)
    layer = awake(Attention(32, 2, text_dim, pixels))
    x, (tokens, mask) = torch.randn(2, 32, 3, 2), text()
    mask[1] = torch.tensor([True, False, True, True, False])
    with torch.no_grad():
        expected, fused = attention_by_loops(layer, x, tokens, mask), layer(x, tokens, mask)
        with record_attention(layer) as records:
            recorded = layer(x, tokens, mask)
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(recorded, expected)
    torch.testing.assert_close(layer(x, tokens, mask).detach(), expected)  # with gradients, on a CPU
    (weights,) = records[""]
    assert weights.shape == (2, 2, 6, 6 * pixels + (5 if text_dim else 0))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 6))
    if text_dim:
        seen = weights[..., -5:] > 0
        assert (seen == mask[:, None, None]).all()


def test_recording_ends_with_its_block_even_after_an_error():
    layer = Attention(32, 2, DIM, pixels=True)
    with pytest.raises(KeyError), record_attention(layer):
        raise KeyError
    assert layer.records is None


def test_half_precision_autocast_keeps_attention_finite_and_close():
    torch.manual_seed(0)
    layer = awake(Attention(32, 2, DIM, pixels=True))
    x, (tokens, mask) = torch.randn(2, 32, 4, 4), text()
    with torch.autocast("cpu", torch.bfloat16):
        trained = layer(x, tokens, mask)
        with torch.no_grad():
            sampled = layer(x, tokens, mask)
    with torch.no_grad():
        exact = layer(x, tokens, mask)
    for got in (trained, sampled):
        assert (got.float() - exact).abs().max() < 0.1
