"""The exercises of notebook 02: two pieces of the T5 encoder, pooling over real tokens, and the null condition."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from imagen_lite.layers import AttentionPool
from imagen_lite.learn.exercise import Answer, Exercise, normal, same
from imagen_lite.t5 import relative_position_bucket, rms_norm
from imagen_lite.text import TextEmbedding


def attention_pool(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """One head of attention pooling: query (d,), key and value (B, L, d), mask (B, L) True at real tokens -> (B, d)."""
    logits = key @ query / math.sqrt(query.shape[0])  # (B, L)
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    return (weights[..., None] * value).sum(1)


def drop_text(tokens: Tensor, mask: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """tokens (B, L, D) and mask (B, L), with the null condition where keep (B,) is False: zeros, the first visible."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return tokens * keep[:, None, None], torch.where(keep[:, None], mask, first)


# RMSNorm
X, WEIGHT = normal(3, 5, 16, seed=11) + 0.5, 1 + 0.5 * normal(16, seed=12)
LOUD = torch.full((2, 16), 300.0).half()  # its squares are beyond float16


def _scaled(by: Tensor) -> Tensor:
    """X divided by something and multiplied by the weight: the usual mistakes."""
    return WEIGHT * X / by


# Relative position buckets: without n = 16, 32, 64, at which the logarithm is whole and float32 decides
OFFSETS = torch.tensor([r for r in range(-300, 301) if abs(r) not in (16, 32, 64)])
NEAR = torch.arange(8)


def _nearest(offset: Tensor) -> Tensor:
    """The buckets, with the logarithm rounded to the nearest instead of down."""
    n = offset.abs()
    far = 8 + (8 * torch.log(n.clamp(min=1) / 8) / math.log(16)).round().long()
    return (offset > 0).long() * 16 + torch.where(n < 8, n, far.clamp(max=15))


# Pooling: two captions, of 6 and of 3 tokens
TOKENS, MASK = normal(2, 6, 16, seed=13), torch.arange(6) < torch.tensor([[6], [3]])
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(14)
    POOL = AttentionPool(16, 16, heads=1).requires_grad_(False)
QUERY = POOL.query.detach()
KEY, VALUE = POOL.key_value(POOL.norm(TOKENS)).chunk(2, dim=-1)
PADDED = ~MASK[..., None] * 3.0  # added to what stands at padded positions

# Text dropout
TEXT, KEEP = TextEmbedding(TOKENS * MASK[..., None], MASK), torch.tensor([True, False])
NONE, ALL = torch.tensor([False, False]), torch.tensor([True, True])
SAMPLE = (TEXT.tokens.clone(), TEXT.mask.clone(), KEEP)  # copies: an answer may spoil them


def _drop(f: Answer, keep: Tensor) -> TextEmbedding:
    """The answer on a batch of its own."""
    return TextEmbedding(*f(TEXT.tokens.clone(), TEXT.mask.clone(), keep))


def _leaves_its_input(f: Answer) -> bool:
    tokens, mask = TEXT.tokens.clone(), TEXT.mask.clone()
    f(tokens, mask, NONE)
    return torch.equal(tokens, TEXT.tokens) and torch.equal(mask, TEXT.mask)


EXERCISES: dict[str, Exercise] = {
    "RMSNorm": Exercise(
        "RMSNorm",
        (
            (lambda f: f(X, WEIGHT).shape == X.shape, "the answer must have the shape of x: a mean wants keepdim=True"),
            (
                lambda f: not same(f(X, WEIGHT), WEIGHT * F.layer_norm(X, (16,))),
                "the mean is taken away first: that is LayerNorm. T5 only divides",
            ),
            (
                lambda f: not same(f(X, WEIGHT), rms_norm(X, 1 + 0 * WEIGHT)),
                "weight, the g of the formula, is not used",
            ),
            (
                lambda f: not same(f(X, WEIGHT), _scaled(X.norm(dim=-1, keepdim=True))),
                "every vector gets length 1: divide by the root of the *mean* of the squares, not of their sum",
            ),
            (
                lambda f: not same(f(X, WEIGHT), _scaled(X.square().mean(-1, keepdim=True))),
                "this divides by the mean of the squares; its root is missing",
            ),
            (
                lambda f: same(f(torch.cat([X, 9 * X]), WEIGHT)[:3], f(X, WEIGHT)),
                "one vector changes another: the mean runs over the last axis alone, each token by itself",
            ),
            (
                lambda f: bool(f(0 * X, WEIGHT).isfinite().all()),
                "a vector of zeros (padding, say) comes out as NaN: eps is missing",
            ),
            (
                lambda f: bool((f(LOUD, torch.ones(16)).float() - 1).abs().max() < 0.01),
                "float16 values of 300 do not come out as 1: their squares overflow. Square x.float(), as T5 does",
            ),
            (
                lambda f: all(same(f(x, WEIGHT), rms_norm(x, WEIGHT)) for x in (X, 1e-3 * X)),
                "close, but not g x / sqrt(mean(x²) + eps): eps is under the root",
            ),
        ),
        rms_norm,
        (X, WEIGHT),
    ),
    "relative position buckets": Exercise(
        "Relative position buckets",
        (
            (lambda f: f(OFFSETS).shape == OFFSETS.shape, "one bucket for each offset: keep the shape"),
            (
                lambda f: not f(OFFSETS).is_floating_point(),
                "buckets are rows of a table, so they must be whole numbers: .long()",
            ),
            (
                lambda f: not torch.equal(f(NEAR[1:]), f(-NEAR[1:])),
                "left and right get the same bucket: add 16 where the offset is positive",
            ),
            (
                lambda f: not torch.equal(f(-NEAR[1:]), NEAR[1:] + 16),
                "the halves are swapped: r = key - query is positive to the right, and those get the 16",
            ),
            (
                lambda f: torch.equal(f(-NEAR), NEAR),
                "the nearest, n = 0 to 7, need a bucket each, of their own number; and r = 0 belongs to the left half",
            ),
            (
                lambda f: int(f(-OFFSETS.abs()).max()) <= 15 and int(f(OFFSETS).max()) <= 31,
                "far offsets run on past the last bucket of their half: nothing beyond 15 (31 to the right)",
            ),
            (
                lambda f: not torch.equal(f(OFFSETS), _nearest(OFFSETS)),
                "the logarithm is rounded to the nearest; round it down, which .long() does",
            ),
            (
                lambda f: torch.equal(f(OFFSETS), relative_position_bucket(OFFSETS)),
                "right near by, not far away: for n >= 8 it is 8 + floor(8 ln(n/8) / ln(128/8))",
            ),
        ),
        relative_position_bucket,
        (OFFSETS,),
    ),
    "masked attention pooling": Exercise(
        "Masked attention pooling",
        (
            (lambda f: f(QUERY, KEY, VALUE, MASK).shape == (2, 16), "one vector a caption is asked for: (B, d)"),
            (
                lambda f: bool(torch.as_tensor(f(QUERY, KEY, VALUE, MASK)).isfinite().all()),
                "there is NaN: 0 times infinity, perhaps. Use masked_fill(~mask, -torch.inf)",
            ),
            (
                lambda f: same(f(QUERY, KEY, VALUE, MASK)[:1], f(QUERY, KEY[:1], VALUE[:1], MASK[:1])),
                "one caption changes another: the softmax runs over the tokens of a caption, the last axis of logits",
            ),
            (
                lambda f: not same(f(QUERY, KEY, VALUE, MASK), f(QUERY, KEY, VALUE + 1, MASK)),
                "the values make no difference: keys decide the weights, and the values are what is summed",
            ),
            (
                lambda f: same(f(QUERY, KEY, torch.ones_like(VALUE), MASK), 1.0),
                "the weights of the real tokens do not sum to 1: mask the logits before the softmax, not after",
            ),
            (
                lambda f: same(f(QUERY, KEY + PADDED, VALUE - PADDED, MASK), f(QUERY, KEY, VALUE, MASK)),
                "what stands at padded positions counts: their logits must be -inf there (0 is a logit like any other)",
            ),
            (
                lambda f: not same(f(QUERY, KEY, VALUE, MASK), f(-QUERY, KEY, VALUE, MASK)),
                "the query makes no difference: this is a mean. The logits are the keys times the query",
            ),
            (
                lambda f: not same(f(QUERY, KEY, VALUE, MASK), attention_pool(4 * QUERY, KEY, VALUE, MASK)),
                "the logits are not divided by sqrt(d). T5 leaves that out; the U-Net's attention does not",
            ),
            (
                lambda f: same(POOL.out(f(QUERY, KEY, VALUE, MASK)), POOL(TOKENS, MASK)),
                "the mask works, the rest does not: softmax(keys · query / sqrt(d)), then that sum of the values",
            ),
        ),
        attention_pool,
        (QUERY, KEY, VALUE, MASK),
    ),
    "text dropout": Exercise(
        "Text dropout",
        (
            (
                lambda f: len(f(*SAMPLE)) == 2 and [x.shape for x in f(*SAMPLE)] == [TOKENS.shape, MASK.shape],
                "return two tensors, tokens and mask, of the shapes that they had",
            ),
            (_leaves_its_input, "what was given is changed, too: cached text would be lost. Make new tensors"),
            (
                lambda f: not same(_drop(f, KEEP).tokens, TEXT.drop(~KEEP).tokens),
                "turned round: keep is True where the caption stays",
            ),
            (
                lambda f: same(_drop(f, ALL).tokens, TEXT.tokens),
                "what is kept must stay as it is: whole captions go, and nothing is scaled as nn.Dropout scales",
            ),
            (lambda f: same(_drop(f, NONE).tokens, 0.0), "all tokens of a dropped caption must be zero"),
            (
                lambda f: bool(_drop(f, NONE).mask.any(1).all()),
                "a dropped caption has no visible token left, and a softmax over nothing is NaN: the first must stay",
            ),
            (
                lambda f: torch.equal(_drop(f, NONE).mask[0], _drop(f, NONE).mask[1]),
                "the mask still tells how long the dropped caption was: only its first token may be visible",
            ),
            (
                lambda f: torch.equal(_drop(f, KEEP).mask, TEXT.drop(KEEP).mask)
                and same(_drop(f, KEEP).tokens, TEXT.drop(KEEP).tokens),
                "the masks: a caption that stays keeps its own, a dropped one shows its first token alone",
            ),
        ),
        drop_text,
        SAMPLE,
    ),
}  # fmt: skip
