"""The exercises of notebook 04: plausible wrong answers to them, for test_learn; the solutions are the library's."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from imagen_lite import learn
from imagen_lite.layers import Attention, ResnetBlock, sinusoidal
from imagen_lite.learn.network import attend_with, residual_block, text_attention
from imagen_lite.text import TextEmbedding


def waves(t, dim, fast=1000.0, last=0, first=0, sines_first=False):
    """The time embedding, with something to spoil."""
    half = dim // 2
    angles = fast * t[:, None] * 10_000 ** (-(torch.arange(half) + first) / (half - last))
    pair = (angles.sin(), angles.cos()) if sines_first else (angles.cos(), angles.sin())
    return torch.cat(pair, dim=1)


def block(one=1.0, halves=(0, 1), shortcut=True, modulated=True, swish=True, late=False):
    """A residual block, with something to spoil."""

    def answer(block, x, emb):
        h = block.conv1(F.silu(block.norm1(x)))
        both = block.modulation(F.silu(emb) if swish else emb)[:, :, None, None].chunk(2, dim=1)
        scale, shift = (both[i] for i in halves)
        h = block.norm2(h)
        before = h if late or not modulated else h * (one + scale) + shift
        h = F.silu(before) * (1 + scale) + shift if late else F.silu(before)
        return (block.shortcut(x) if shortcut else 0) + block.conv2(h)

    return answer


def shifted(block, x, emb):
    h = block.conv1(F.silu(block.norm1(x)))
    shift = block.modulation(F.silu(emb))[:, :, None, None].chunk(2, dim=1)[1]
    return block.shortcut(x) + block.conv2(F.silu(block.norm2(h) + shift))


def attention(query, key, value, text_key, text_value, mask, hidden=-torch.inf, d=None, which=slice(None)):
    """Attention with text keys, with something to spoil."""
    key, value = torch.cat([key, text_key], dim=2), torch.cat([value, text_value], dim=2)
    visible = torch.cat([mask.new_ones(len(mask), query.shape[2]), mask], dim=1)[which]
    logits = query @ key.transpose(-1, -2) / math.sqrt(d or query.shape[-1])
    return logits.masked_fill(~visible[:, None, None], hidden).softmax(dim=-1) @ value


def zeroed(q, k, v, tk, tv, mask):
    """Padding set to zero instead of masked: its keys still take part."""
    m = mask[:, None, :, None]
    return attention(q, k, v, tk * m, tv * m, torch.ones_like(mask))


def inside_out(q, k, v, tk, tv, mask):
    return attention(q, k, v, tk, tv, ~mask)


def wrong_softmax(q, k, v, tk, tv, mask):
    key, value = torch.cat([k, tk], dim=2), torch.cat([v, tv], dim=2)
    visible = torch.cat([mask.new_ones(len(mask), q.shape[2]), mask], dim=1)
    logits = (q @ key.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return (logits * visible[:, None, None]) @ value


def alone(q, k, v, tk, tv, mask):
    return F.scaled_dot_product_attention(q, k, v)


def replaced(q, k, v, tk, tv, mask):
    return F.scaled_dot_product_attention(q, tk, tv, attn_mask=mask[:, None, None])


WRONG = {
    "time embedding": [
        (lambda t, dim: waves(t, dim)[:, : dim // 2], "as many sines"),
        (lambda t, dim: waves(t, dim, sines_first=True), "sines come first"),
        (lambda t, dim: waves(t, dim, fast=1.0), "factor 1000"),
        (lambda t, dim: waves(t, dim, first=1), "i counts from 0"),
        (lambda t, dim: waves(t, dim).flip(1).roll(dim // 2, 1), "fastest waves, in this order"),
        (lambda t, dim: waves(t, dim).view(-1, 2, dim // 2).mT.flatten(1), "columns 0 and"),
        (lambda t, dim: waves(t, dim, last=1), "frequency i is"),
        (lambda t, dim: waves(t, dim, fast=2000 * math.pi), "without 2 π"),
    ],
    "residual block": [
        (lambda block, x, emb: x, "shape"),
        (block(shortcut=False), "shortcut"),
        (block(modulated=False), "emb changes nothing"),
        (block(one=0.0), "1 + scale"),
        (shifted, "does not scale"),
        (block(halves=(1, 0)), "swapped"),
        (block(swish=False), "swish of its own"),
        (block(late=True), "before its swish"),
    ],
    "text keys": [
        (lambda q, k, v, tk, tv, mask: torch.cat([q, tk], dim=2), "shape of query"),
        (alone, "not looked at"),
        (replaced, "do not replace"),
        (lambda *args: alone(*args) + replaced(*args), "one softmax"),
        (lambda q, k, v, tk, tv, mask: attention(q, k, v, tk, tv, torch.ones_like(mask)), "padding is read"),
        (lambda *args: attention(*args, hidden=0.0), "padding is read"),
        (inside_out, "turned round"),
        (zeroed, "takes its share"),
        (wrong_softmax, "takes its share"),
        (lambda *args: attention(*args, which=slice(1)), "each has its own"),
        (lambda *args: attention(*args, d=1), "root of d"),
        (lambda *args: attention(*args, d=args[0].shape[-1] ** 2), "in parts"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("time embedding", waves),
        ("residual block", block()),
        ("text keys", attention),
        ("text keys", lambda *args: attention(*args, hidden=-1e9)),
    ],
)
def test_other_right_answers_pass(name, right):
    assert learn.check(name, right).endswith("passed")


def randomised(module, seed):
    """Every weight noise, also what begins at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return module.requires_grad_(False)


def test_the_solutions_are_what_the_library_does():
    generator = torch.Generator().manual_seed(0)
    x, emb, tokens = (torch.randn(*s, generator=generator) for s in ((3, 32, 4, 6), (3, 8), (3, 7, 12)))
    mask = torch.arange(7) < torch.tensor([[1], [4], [7]])
    for channels in (32, 48):
        module = randomised(ResnetBlock(32, channels, 8), channels)
        torch.testing.assert_close(residual_block(module, x, emb), module(x, emb))
    layer = randomised(Attention(32, 4, 12, pixels=True), 1)
    attended = attend_with(text_attention, layer, x, TextEmbedding(tokens, mask))
    torch.testing.assert_close(attended, layer(x, tokens, mask))
    assert learn.EXERCISES["time embedding"].solution is sinusoidal


def test_the_exercises_leave_torchs_random_numbers_alone():
    says = (
        "import torch; torch.manual_seed(0); first = torch.rand(1); torch.manual_seed(0)",
        "import imagen_lite.learn.network; assert torch.rand(1) == first",
    )
    subprocess.run([sys.executable, "-c", "\n".join(says)], check=True)
