"""A cascade whose layers call the reader's own pieces: the trained weights in code written in the notebooks."""

import copy
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from imagen_lite import t5
from imagen_lite.cascade import Cascade
from imagen_lite.layers import Attention, AttentionPool, LevelEmbedding, ResnetBlock
from imagen_lite.learn.network import attend_with
from imagen_lite.text import FrozenTextEncoder, TextEmbedding


def assemble(cascade: Cascade, pieces: SimpleNamespace) -> Cascade:
    """A copy of the cascade that computes by `pieces`, as `learn.my_imagen` returns them.

    Of T5 they are rms_norm and relative_position_bucket; of the U-Nets sinusoidal, residual_block, attention_pool and
    text_attention. (Attention to the text alone, without pixels, stays the library's.) The cascade is left as it was.
    """
    encoder, stages = copy.deepcopy((cascade.text_encoder, cascade.stages))
    networks: list[nn.Module] = [stage.unet for stage in stages.values()]
    if isinstance(encoder, FrozenTextEncoder):
        networks.append(encoder.model)
    for network in networks:
        for module in network.modules():
            if own := _own_forward(module, pieces):
                module.forward = own
    return Cascade(encoder, stages, cascade.dtype)


def _own_forward(module: nn.Module, pieces: SimpleNamespace) -> Callable[..., Tensor] | None:
    """What a layer computes, by one of the pieces; None for a layer that no exercise is about."""
    match module:
        case t5.RMSNorm():
            return lambda x: pieces.rms_norm(x, module.weight, module.eps)
        case t5.RelativeBias():
            return lambda length: _bias(module, length, pieces)
        case LevelEmbedding():
            return lambda t: module.mlp(pieces.sinusoidal(t, module.dim))
        case AttentionPool():
            return lambda tokens, mask: _pooled(module, tokens, mask, pieces)
        case ResnetBlock(resample=None):
            return lambda x, emb: pieces.residual_block(module, x, emb)
        case Attention() if module.key_value is not None and module.text_norm is not None:
            return lambda x, tokens, mask: attend_with(pieces.text_attention, module, x, TextEmbedding(tokens, mask))
    return None


def _bias(layer: t5.RelativeBias, length: int, pieces: SimpleNamespace) -> Tensor:
    """`layer(length)`: the bias of all pairs of positions, (1, H, L, L)."""
    position = torch.arange(length, device=layer.table.weight.device)
    return layer.table(pieces.relative_position_bucket(position[None, :] - position[:, None])).permute(2, 0, 1)[None]


def _pooled(layer: AttentionPool, tokens: Tensor, mask: Tensor, pieces: SimpleNamespace) -> Tensor:
    """`layer(tokens, mask)`, a head at a time: (B, dim)."""
    sources = layer.key_value(layer.norm(tokens)).chunk(layer.heads, dim=-1)  # (B, L, 2 d) a head: its keys and values
    queries = layer.query.chunk(layer.heads)
    heads = [
        pieces.attention_pool(query.to(source.dtype), *source.chunk(2, dim=-1), mask)
        for query, source in zip(queries, sources, strict=True)
    ]
    return layer.out(torch.cat(heads, dim=1))
