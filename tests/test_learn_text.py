"""The exercises of notebook 02: plausible wrong answers to them, for test_learn; the solutions are the library's."""

import math

import torch
import torch.nn.functional as F

from imagen_lite import learn
from imagen_lite.layers import AttentionPool
from imagen_lite.learn.text import attention_pool, drop_text
from imagen_lite.t5 import RMSNorm, rms_norm
from imagen_lite.text import TextEmbedding


def rms(x, weight, eps=1e-6, dim=-1):
    return weight * x.float() / (x.float().square().mean(dim, keepdim=True) + eps).sqrt()


def bucket(offset, sign=1, clamp=15, exact=8, rounded=torch.floor, right=16):
    """The buckets, with something to spoil."""
    n = offset.abs()
    far = 8 + rounded(8 * torch.log(n.clamp(min=1) / 8) / math.log(16)).long()
    return (sign * offset > 0).long() * right + torch.where(n < exact, n, far.clamp(max=clamp))


def linear(offset):
    return (offset > 0).long() * 16 + offset.abs().clamp(max=15)


def pool(query, key, value, mask, *, dim=-1, scale=True):
    """Attention pooling, with something to spoil."""
    logits = key @ query / (query.shape[0] ** 0.5 if scale else 1.0)
    return (logits.masked_fill(~mask, -torch.inf).softmax(dim).nan_to_num()[..., None] * value).sum(1)


def unmasked(query, key, value, mask):
    return ((key @ query / 4).softmax(-1)[..., None] * value).sum(1)


def masked_after(query, key, value, mask):
    return (((key @ query / 4).softmax(-1) * mask)[..., None] * value).sum(1)


def masked_by_zero(query, key, value, mask):
    return ((key @ query / 4 * mask).softmax(-1)[..., None] * value).sum(1)


def masked_by_product(query, key, value, mask):
    return ((key @ query / 4 + mask.logical_not() * -torch.inf).softmax(-1)[..., None] * value).sum(1)


def masked_mean(query, key, value, mask):
    return (value * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def in_place(tokens, mask, keep):
    tokens[~keep] = 0
    mask[~keep] = torch.arange(mask.shape[1]) == 0
    return tokens, mask


def per_token(tokens, mask, keep):
    return F.dropout2d(tokens[..., None], 0.5)[..., 0], mask


def all_true(tokens, mask, keep):
    return tokens * keep[:, None, None], mask | ~keep[:, None]


WRONG = {
    "RMSNorm": [
        (lambda x, weight, eps=1e-6: weight * F.layer_norm(x.float(), x.shape[-1:]), "LayerNorm"),
        (lambda x, weight, eps=1e-6: rms(x, 1.0), "not used"),
        (lambda x, weight, eps=1e-6: weight * F.normalize(x.float(), dim=-1), "not of their sum"),
        (lambda x, weight, eps=1e-6: weight * x / (x.square().mean(-1, keepdim=True) + eps), "root is missing"),
        (lambda x, weight, eps=1e-6: weight * x / (x.square().mean() + eps).sqrt(), "one vector changes another"),
        (lambda x, weight, eps=1e-6: rms(x, weight, dim=0), "one vector changes another"),
        (lambda x, weight, eps=1e-6: rms(x, weight, eps=0.0), "NaN"),
        (lambda x, weight, eps=1e-6: weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt(), "overflow"),
        (lambda x, weight, eps=1e-6: weight * x.float() / (x.float().square().mean(-1, keepdim=True).sqrt() + eps),
         "under the root"),
        (lambda x, weight, eps=1e-6: (weight * x).mean(-1), "shape"),
    ],
    "relative position buckets": [
        (lambda offset: bucket(offset, right=0), "left and right get the same"),
        (lambda offset: bucket(offset, sign=-1), "swapped"),
        (lambda offset: bucket(offset, clamp=99), "run on past"),
        (lambda offset: bucket(offset, exact=0), "a bucket each"),
        (lambda offset: bucket(offset) + (offset == 0) * 16, "belongs to the left half"),
        (lambda offset: bucket(offset, rounded=torch.round), "round it down"),
        (lambda offset: bucket(offset, rounded=torch.ceil), "not far away"),
        (linear, "not far away"),
        (lambda offset: bucket(offset).float(), "whole numbers"),
        (lambda offset: bucket(offset)[:3], "keep the shape"),
    ],
    "masked attention pooling": [
        (unmasked, "padded positions counts"),
        (masked_by_zero, "0 is a logit like any other"),
        (masked_after, "before the softmax, not after"),
        (masked_by_product, "NaN"),
        (masked_mean, "the query makes no difference"),
        (lambda *args: pool(*args, scale=False), "not divided by sqrt(d)"),
        (lambda *args: pool(*args, dim=0), "one caption changes another"),
        (lambda query, key, value, mask: pool(query, key, key, mask), "values make no difference"),
        (lambda query, key, value, mask: pool(query, value, value, mask), "the rest does not"),
        (lambda query, key, value, mask: pool(query, -key, value, mask), "the rest does not"),
        (lambda query, key, value, mask: value * mask[..., None], "one vector a caption"),
    ],
    "text dropout": [
        (lambda tokens, mask, keep: drop_text(tokens, mask, ~keep), "turned round"),
        (lambda tokens, mask, keep: (tokens * keep[:, None, None], mask), "how long the dropped caption was"),
        (lambda tokens, mask, keep: (tokens * keep[:, None, None], mask & keep[:, None]), "softmax over nothing"),
        (lambda tokens, mask, keep: (drop_text(tokens, mask, keep)[0] / 0.9, drop_text(tokens, mask, keep)[1]),
         "nothing is scaled"),
        (per_token, "nothing is scaled"),
        (in_place, "what was given is changed"),
        (lambda tokens, mask, keep: (tokens, drop_text(tokens, mask, keep)[1]), "must be zero"),
        (lambda tokens, mask, keep: (tokens * keep[:, None, None], torch.ones_like(mask)), "shows its first token"),
        (all_true, "shows its first token"),
        (lambda tokens, mask, keep: tokens * keep[:, None, None], "two tensors"),
        (lambda tokens, mask, keep: (tokens[keep], mask[keep]), "two tensors"),
    ],
}  # fmt: skip


def test_right_answers_in_other_words_pass():
    def shorter_norm(x, weight, eps=1e-6):
        return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps)

    def fused(query, key, value, mask):
        return F.scaled_dot_product_attention(query.expand(len(key), 1, -1), key, value, mask[:, None])[:, 0]

    def by_null(tokens, mask, keep):
        dropped = TextEmbedding(tokens, mask).drop(keep)
        return dropped.tokens, dropped.mask

    for name, answer in {
        "RMSNorm": shorter_norm,
        "relative position buckets": bucket,
        "masked attention pooling": fused,
        "text dropout": by_null,
    }.items():
        assert learn.check(name, answer).endswith("passed")


def test_an_answer_that_spoils_its_input_spoils_no_later_check():
    learn.check("text dropout", in_place)
    assert learn.check("text dropout", drop_text).endswith("passed")


def test_the_solutions_are_what_the_library_does():
    generator = torch.Generator().manual_seed(0)
    x, mask = torch.randn(4, 7, 12, generator=generator), torch.arange(7) < torch.tensor([[7], [1], [3], [6]])
    norm = RMSNorm(12, 1e-6)
    torch.nn.init.normal_(norm.weight)
    for dtype in (torch.float32, torch.bfloat16):
        torch.testing.assert_close(rms_norm(x.to(dtype), norm.weight), norm(x.to(dtype)))
    layer = AttentionPool(12, 5, heads=1)
    key, value = layer.key_value(layer.norm(x)).chunk(2, dim=-1)
    torch.testing.assert_close(layer.out(attention_pool(layer.query, key, value, mask)), layer(x, mask))
    keep = torch.tensor([True, False, False, True])
    tokens, masks = drop_text(x, mask, keep)
    dropped = TextEmbedding(x, mask).drop(keep)
    assert torch.equal(tokens, dropped.tokens) and torch.equal(masks, dropped.mask)
