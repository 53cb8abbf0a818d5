"""The three U-Nets, of any size, called alike: x_t (B, 3, H, W), the angle t (B,) and the text give eps (B, 3, H, W).

    ours             as shipped
    diffusers        UNet2DConditionModel, wired as the first stage of DeepFloyd IF
    imagen-pytorch   Unet, with the paper's attention (App. D.3.1) as it has it

In all three, pixels attend to each other and to the text at the same two sizes, and pooled text joins the time. The
peers work on whole pixels, as they are made to, or on pixels folded as ours are (`patch`), at the same sizes as ours.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.peers import environment
from imagen_lite.text import TextEmbedding
from imagen_lite.unet import EfficientUNet, UNetConfig

PEERS = ("diffusers", "imagen-pytorch")
TEXT_DIM, LENGTH = 256, 24  # of the text that everything is measured with
LONGEST = 48  # tokens that peers pad texts to, as both are made to; to LENGTH where speed is measured


@dataclass(frozen=True)
class Shape:
    """What a peer's U-Net is built from; attention is at its last two sizes.

    Attributes:
        library: of `PEERS`.
        channels: of each size, the finest first.
        blocks: residual blocks of each size on the way down.
        patch: pixels are folded into channels, patch × patch; 1: they are not.
        head: channels an attention head.
        heads: of imagen-pytorch's attention, whose width does not follow from the channels.
    """

    library: str
    channels: tuple[int, ...]
    blocks: int
    patch: int = 1
    head: int = 32
    heads: int = 4

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Shape":
        """Of `dataclasses.asdict`, lists for tuples."""
        return cls(**values | {"channels": tuple(values["channels"])})


class Peer(nn.Module):
    """A peer's U-Net, `unet`, on whole or folded pixels, called as ours is."""

    unet: nn.Module

    def __init__(self, shape: Shape, longest: int) -> None:
        super().__init__()
        self.patch, self.longest = shape.patch, longest

    def forward(
        self, x_t: Tensor, t: Tensor, text: TextEmbedding, low_res: None = None, aug_level: None = None
    ) -> Tensor:
        """eps, float32; of the base's conditions alone."""
        folded = F.pixel_unshuffle(x_t, self.patch) if self.patch > 1 else x_t
        output = self.eps(folded, t, text)
        return (F.pixel_shuffle(output, self.patch) if self.patch > 1 else output).float()

    def eps(self, x: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        """What the U-Net says of x (B, C, H, W), in its shape."""
        raise NotImplementedError


class Diffusers(Peer):
    """`diffusers`' U-Net. Its pooling of the text sees padding, too: so that is always the same."""

    def __init__(self, shape: Shape, longest: int = LONGEST) -> None:
        super().__init__(shape, longest)
        environment.use()
        from diffusers import UNet2DConditionModel

        plain, colors = len(shape.channels) - 2, 3 * shape.patch**2
        self.unet = UNet2DConditionModel(
            in_channels=colors, out_channels=colors, block_out_channels=shape.channels, layers_per_block=shape.blocks,
            down_block_types=("ResnetDownsampleBlock2D",) * plain + ("SimpleCrossAttnDownBlock2D",) * 2,
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D",) * 2 + ("ResnetUpsampleBlock2D",) * plain,
            attention_head_dim=shape.head, cross_attention_dim=shape.channels[-1], cross_attention_norm="group_norm",
            encoder_hid_dim=TEXT_DIM, encoder_hid_dim_type="text_proj", addition_embed_type="text",
            addition_embed_type_num_heads=4, act_fn="gelu", time_embedding_act_fn="gelu", norm_num_groups=16,
            resnet_time_scale_shift="scale_shift", resnet_skip_time_act=True, resnet_out_scale_factor=math.sqrt(2),
            mid_block_scale_factor=math.sqrt(2),
        )  # fmt: skip

    def eps(self, x: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        """As in `Peer`; the time is a step of 1000."""
        text = text.padded(self.longest)
        told = {"encoder_hidden_states": text.tokens, "encoder_attention_mask": text.mask}
        return self.unet(x, 1000 * t, **told, return_dict=False)[0]


class ImagenPytorch(Peer):
    """imagen-pytorch's U-Net."""

    def __init__(self, shape: Shape, longest: int = LONGEST) -> None:
        super().__init__(shape, longest)
        base, plain = shape.channels[0], len(shape.channels) - 2
        attended = (False,) * plain + (True,) * 2
        self.unet = environment.imagen_unet()(
            dim=base, dim_mults=tuple(c // base for c in shape.channels), num_resnet_blocks=shape.blocks,
            channels=3 * shape.patch**2, text_embed_dim=TEXT_DIM, max_text_len=longest, layer_attns=attended,
            layer_cross_attns=attended, attn_heads=shape.heads, attn_dim_head=shape.head,
        )  # fmt: skip

    def eps(self, x: Tensor, t: Tensor, text: TextEmbedding) -> Tensor:
        """As in `Peer`; the time is a log-SNR."""
        angle = (t.float() * (math.pi / 2)).clamp(1e-4, math.pi / 2 - 1e-4)
        return self.unet(x, -2 * angle.tan().log(), text_embeds=text.tokens, text_mask=text.mask)


def build(shape: Shape | UNetConfig, longest: int = LONGEST) -> nn.Module:
    """A network with fresh weights: ours of a `UNetConfig`, a peer's of a `Shape`."""
    if isinstance(shape, UNetConfig):
        return EfficientUNet(shape)
    return (Diffusers if shape.library == "diffusers" else ImagenPytorch)(shape, longest)


def inputs(batch: int, side: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, TextEmbedding]:
    """Noise, times and a text of which half to all tokens are real, the same for every network."""
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(batch, 3, side, side, generator=generator)
    tokens = torch.randn(batch, LENGTH, TEXT_DIM, generator=generator)
    mask = torch.arange(LENGTH) < torch.linspace(LENGTH // 2, LENGTH, batch).round()[:, None]
    t = torch.linspace(0.1, 0.9, batch)
    return x_t.to(device), t.to(device), TextEmbedding(tokens * mask[..., None], mask).to(device)


@dataclass(frozen=True)
class Size:
    """Millions of parameters, and GFLOP of a network call for one picture."""

    parameters: float
    gflop: float


@torch.no_grad()
def measure(shape: Shape | UNetConfig, side: int) -> Size:
    """The size of a network, as `FlopCounterMode` counts: two operations for each product in convolutions, linear
    layers and attention, nothing for the rest. (Attention in one call it does not know on a CPU; so, not in one.)"""
    with torch.device("meta"):
        model = build(shape, LENGTH)
    model.to_empty(device="cpu")  # what the weights are is all the same
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*inputs(1, side))
    return Size(sum(p.numel() for p in model.parameters()) / 1e6, counter.get_total_flops() / 1e9)
