"""The U-Net of every stage: the paper's base U-Net, its Efficient U-Net, and the ablations between them.

Imagen (arXiv 2205.11487) App. B.1, F.1–F.3, Figs. A.28–A.30. One class; `UNetConfig.order` says which family:

    "efficient"   D-block: downsample, residual blocks, attention;   U-block: skip, residual blocks, attention, upsample
    "classic"     D-block: residual blocks, attention, downsample;   U-block: upsample, skip, residual blocks, attention

In both, level i works at the picture's size divided by `patch * strides[0] * ... * strides[i]`, one skip joins the two
blocks of a level, and the junction at the bottom has none. "classic" resamples inside residual blocks ("biggan").
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite import weights
from imagen_lite.augmentation import expected_picture
from imagen_lite.layers import (
    GROUP,
    Attention,
    AttentionPool,
    LevelEmbedding,
    ResnetBlock,
    Upsample,
    group_norm,
    zero_init,
)
from imagen_lite.text import TextEmbedding

Order = Literal["efficient", "classic"]
AttentionKind = Literal["self", "cross"] | None
TextConditioning = Literal["both", "pooled", "sequence"]

MIN_COSINE = 0.01  # of alpha in the output's factor, so that the network can still say something at t = 1


@dataclass(frozen=True)
class UNetConfig:
    """What to build; by default levels at 32, 16 and 8 px, 6.3 M parameters, 2.2 GFLOP at 64×64 (base64 adds 0.8 M).

    Lists go from the finest level to the coarsest, and are of one length. The paper's own shapes: F.1 (base) is
    channels (512, 1024, 1536, 2048), 3 blocks each, attention (None, "self", "self", "self") after "each", strides
    (1, 2, 2, 2), "classic", skip_scale 1; F.2 (64→256) is channels (128, 256, 512, 1024), blocks (2, 4, 8, 8),
    attention "self" in the last (F.3, 256→1024: "cross"), strides (2, 2, 2, 2), head_channels 128; all with patch 1.

    Attributes:
        channels: of each level; multiples of 16.
        blocks: residual blocks of each level, in its D-block and again in its U-block.
        attention: of each level: None, "self" (pixels and text) or "cross" (text only).
        attention_after: the "last" residual block of a level (Figs. A.28, A.29), or "each", as in the U-Net of
            Dhariwal & Nichol (2105.05233) that the paper's base model is (F.1).
        strides: of each level against the one above it (for the first, against the folded picture); 1 or 2.
        order: of resampling and convolutions, see this module's docstring. "classic" starts with stride 1.
        skip_scale: factor on the skips; the Efficient U-Net's 1/√2, or 1.
        patch: pixels are folded into channels, patch × patch, before the first convolution, and unfolded after
            the last; 1 is the paper's, 2 or 4 saves the dearest layers.
        text: what of the text is used: "pooled" (added to the time embedding), "sequence" (attended to) or "both".
        text_dim: width of the text embeddings.
        head_channels: width of an attention head.
        low_res: whether the network is conditioned on a low-resolution picture and its augmentation level.
        low_res_error: root mean square of what that picture, upsampled, leaves open of the large one.
        gate: whether the last layer also says, pixel by pixel, how much of the noisy picture is to be passed on.
            Most of what a network must say at little noise is that noise itself, and folded pixels have too few
            channels to carry it through.

    Raises:
        ValueError: a value out of range, or values that do not go together.
    """

    channels: tuple[int, ...] = (64, 128, 192)
    blocks: tuple[int, ...] = (2, 2, 2)
    attention: tuple[AttentionKind, ...] = (None, "self", "self")
    attention_after: Literal["last", "each"] = "last"
    strides: tuple[int, ...] = (1, 2, 2)
    order: Order = "efficient"
    skip_scale: float = 2**-0.5
    patch: int = 2
    text: TextConditioning = "both"
    text_dim: int = 256
    head_channels: int = 64
    low_res: bool = False
    low_res_error: float = 0.1
    gate: bool = False

    def __post_init__(self) -> None:
        levels = len(self.channels)
        for name in ("blocks", "attention", "strides"):
            if len(getattr(self, name)) != levels or not levels:
                raise ValueError(
                    f"{name}={getattr(self, name)} must have one entry a level, as channels={self.channels} does"
                )
        self._require("channels", all(c > 0 and c % GROUP == 0 for c in self.channels), f"be multiples of {GROUP}")
        self._require("blocks", all(n >= 1 for n in self.blocks), "be at least 1 each")
        self._require(
            "attention", all(a in (None, "self", "cross") for a in self.attention), 'be None, "self", "cross"'
        )
        self._require("attention_after", self.attention_after in ("last", "each"), 'be "last" or "each"')
        self._require("strides", all(s in (1, 2) for s in self.strides), "be 1 or 2 each")
        self._require("order", self.order in ("efficient", "classic"), 'be "efficient" or "classic"')
        self._require("text", self.text in ("both", "pooled", "sequence"), 'be "both", "pooled" or "sequence"')
        self._require("patch", self.patch in (1, 2, 4), "be 1, 2 or 4")
        self._require("low_res_error", 0 < self.low_res_error <= 1, "be within (0, 1]")
        self._require("text_dim", self.text_dim > 0 and self.text_dim % 4 == 0, "be a positive multiple of 4")
        attended = [c for c, kind in zip(self.channels, self.attention, strict=True) if kind]
        heads_fit = self.head_channels > 0 and all(c % self.head_channels == 0 for c in attended)
        self._require("head_channels", heads_fit, f"divide the channels of every attended level, {attended}")
        if self.order == "classic" and self.strides[0] != 1:
            raise ValueError(
                f'order="classic" convolves before it downsamples: make strides={self.strides} start with 1'
            )
        if self.text == "pooled" and "cross" in self.attention:
            raise ValueError('text="pooled" leaves "cross" attention nothing to attend to: use "self" or None')

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r} must {what}")

    @property
    def divisor(self) -> int:
        """What a picture's height and width must be divisible by."""
        return self.patch * prod(self.strides)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "UNetConfig":
        """The config of `dataclasses.asdict`, lists for tuples. Raises ValueError for a name it does not know."""
        if unknown := values.keys() - {field.name for field in dataclasses.fields(cls)}:
            raise ValueError(
                f"unknown U-Net options {sorted(unknown)}: the config is of another version of imagen_lite"
            )
        options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**options)


class Block(nn.Module):
    """A D-block or U-block (Figs. A.28, A.29): `enter`, join the skip, residual blocks, attention, `leave`."""

    def __init__(self, config: UNetConfig, level: int, in_channels: int, enter: nn.Module, leave: nn.Module) -> None:
        super().__init__()
        channels, emb_dim = config.channels[level], embedding_dim(config)
        self.skip_scale = config.skip_scale
        self.enter, self.leave = enter, leave
        widths = [in_channels] + [channels] * config.blocks[level]
        self.blocks = nn.ModuleList(ResnetBlock(a, b, emb_dim) for a, b in zip(widths, widths[1:], strict=False))
        kind, last = config.attention[level], config.blocks[level] - 1
        text_dim = None if config.text == "pooled" else config.text_dim
        heads = channels // config.head_channels
        self.attention = nn.ModuleDict(  # by the index of the residual block that it follows
            {
                str(i): Attention(channels, heads, text_dim, pixels=kind == "self")
                for i in range(config.blocks[level])
                if kind and (i == last or config.attention_after == "each")
            }
        )

    def forward(self, x: Tensor, emb: Tensor, text: TextEmbedding, skip: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, C_in, H, W), emb (B, E), skip (B, C, H', W') -> what leaves, and what a skip would take from here"""
        x = self.enter(x, emb) if isinstance(self.enter, ResnetBlock) else self.enter(x)
        if skip is not None:
            x = torch.cat([x, skip * self.skip_scale], dim=1)
        for i, block in enumerate(self.blocks):
            x = block(x, emb)
            if str(i) in self.attention:
                x = self.attention[str(i)](x, text.tokens, text.mask)
        return (self.leave(x, emb) if isinstance(self.leave, ResnetBlock) else self.leave(x)), x


class EfficientUNet(nn.Module):
    """Predicts the noise eps of a noisy picture from time, text and, in super-resolution, a low-res picture.

    The layers F never see and never say what is known without them. If a picture is expected to be m, give or take e
    (m = 0 and e = 1 for the base; `augmentation.expected_picture` in super-resolution), then

        output = c_skip (x_t - alpha m) + c_out F(c_in (x_t - alpha m), ...)

    with the factors of `preconditioning`: what F is given and what it should say both have variance 1. This is not
    in the paper. For the base, c_skip = sigma and c_out = alpha, and F is v (Salimans & Ho 2202.00512); in
    super-resolution F is about what the low-res picture leaves open, and x0 = m if it says nothing.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        emb_dim, colors = embedding_dim(config), 3 * config.patch**2
        self.time = LevelEmbedding(emb_dim)
        self.aug = LevelEmbedding(emb_dim) if config.low_res else None
        self.pool = AttentionPool(config.text_dim, emb_dim) if config.text != "sequence" else None
        self.stem = nn.Conv2d(colors * (1 + config.low_res), config.channels[0], 3, padding=1)
        self.down, self.up = _levels(config)
        self.norm = group_norm(config.channels[0])
        self.out = zero_init(nn.Conv2d(config.channels[0], colors * (1 + config.gate), 3, padding=1))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        text: TextEmbedding,
        low_res: Tensor | None = None,
        aug_level: Tensor | None = None,
    ) -> Tensor:
        """One network call.

        Args:
            x_t: (B, 3, H, W), the noisy picture.
            t: (B,) in [0, 1].
            text: tokens (B, L, text_dim) and their mask.
            low_res: (B, 3, H, W), the augmented low-resolution picture, already at the size of x_t.
            aug_level: (B,) in [0, 1], how strongly it was augmented.

        Returns:
            (B, 3, H, W) float32.

        Raises:
            ValueError: sizes that do not fit, or conditions that the config does not have.
        """
        self._check(x_t, text, low_res, aug_level)
        surprise, error = x_t.float(), torch.ones(1, 1, 1, 1, device=x_t.device)
        emb = self.time(t)  # (B, E)
        if self.pool is not None:
            emb = emb + self.pool(text.tokens, text.mask)
        if low_res is not None and self.aug is not None and aug_level is not None:
            emb = emb + self.aug(aug_level)
            guess, error = expected_picture(low_res, aug_level, self.config.low_res_error)
            surprise = surprise - (t.float() * (math.pi / 2)).cos().view(-1, 1, 1, 1) * guess
        c_skip, c_in, c_out = preconditioning(t, error)
        inputs = c_in * surprise
        seen = inputs.to(x_t.dtype) if low_res is None else torch.cat([inputs.to(x_t.dtype), low_res], dim=1)
        x = F.pixel_unshuffle(seen, self.config.patch).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        skips = []
        for block in self.down:
            x, skip = block(x, emb, text)
            skips.append(skip)
        skips[-1] = None  # the junction at the bottom has no skip
        for block in self.up:
            x, _ = block(x, emb, text, skips.pop())
        output = F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.config.patch).float()
        if self.config.gate:
            output, share = output.chunk(2, dim=1)
            output = output + share * inputs
        return c_skip * surprise + c_out * output

    def _check(self, x_t: Tensor, text: TextEmbedding, low_res: Tensor | None, aug_level: Tensor | None) -> None:
        batch, _, height, width = x_t.shape
        if height % self.config.divisor or width % self.config.divisor:
            raise ValueError(f"pictures are {height}x{width}, but this U-Net needs multiples of {self.config.divisor}")
        if len(text) != batch or text.tokens.shape[2] != self.config.text_dim:
            raise ValueError(
                f"text is {tuple(text.tokens.shape)}, but this U-Net needs ({batch}, L, {self.config.text_dim}): "
                f"embed it with the text encoder that the U-Net was trained with"
            )
        if (low_res is not None, aug_level is not None) != (self.config.low_res,) * 2:
            need = "needs both low_res and aug_level" if self.config.low_res else "takes neither low_res nor aug_level"
            raise ValueError(f"a U-Net with low_res={self.config.low_res} {need}")
        if low_res is not None and low_res.shape != x_t.shape:
            raise ValueError(f"low_res is {tuple(low_res.shape)}, but must be upsampled to {tuple(x_t.shape)} first")

    def save_pretrained(self, folder: str | Path, manifest: Mapping[str, Any] | None = None) -> str:
        """Writes float16 weights, config and manifest (see `weights.save_pretrained`); returns the sha256."""
        return weights.save_pretrained(folder, self, dataclasses.asdict(self.config), manifest)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "EfficientUNet":
        """A U-Net in float32 on the CPU, in eval mode, from `save_pretrained`'s folder. Raises WeightsError."""
        try:
            config = weights.load_config(folder)
            model = cls(UNetConfig.from_dict(config.get("unet", config)))  # a stage's config holds the U-Net's
        except (ValueError, TypeError) as error:
            raise weights.WeightsError(f"{Path(folder) / weights.CONFIG} describes no U-Net: {error}") from error
        weights.load_into(model, folder)
        return model.eval()


def preconditioning(t: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_in and c_out, each (B, 1, 1, 1), of a network that predicts eps (EDM 2206.00364, Eq. 7, made VP).

    With s² = sigma² + alpha² e², the variance of x_t - alpha m:  c_skip = sigma / s²,  c_in = 1 / s,
    c_out = alpha e / s.

    Args:
        t: (B,), the angle in quarter turns: alpha = cos(pi t / 2), sigma = sin(pi t / 2).
        error: e, (B, 1, 1, 1).
    """
    angle = (t.float() * (math.pi / 2)).view(-1, 1, 1, 1)
    alpha, sigma = angle.cos(), angle.sin()
    spread = (sigma.square() + (alpha * error).square()).sqrt()
    return sigma / spread.square(), 1 / spread, alpha.clamp(min=MIN_COSINE) * error / spread


def embedding_dim(config: UNetConfig) -> int:
    """Width of the embedding of time, pooled text and augmentation level."""
    return 2 * config.channels[0]


def _levels(config: UNetConfig) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The D-blocks from fine to coarse, and the U-blocks from coarse to fine."""
    channels, strides, emb_dim = config.channels, config.strides, embedding_dim(config)
    down, up = [], []
    for i, width in enumerate(channels):
        last = i == len(channels) - 1
        above, skip = channels[max(i - 1, 0)], 0 if last else width
        if config.order == "efficient":
            # Where nothing is resampled and no width changes, the brackets of Figs. A.28 and A.29 are left out.
            narrow = nn.Identity() if above == width else nn.Conv2d(width, above, 3, padding=1)
            enter = nn.Conv2d(above, width, 3, stride=2, padding=1) if strides[i] == 2 else nn.Identity()
            leave = Upsample(width, above) if strides[i] == 2 else narrow
            down.append(Block(config, i, width if strides[i] == 2 else above, enter, nn.Identity()))
            up.append(Block(config, i, width + skip, nn.Identity(), leave))
        else:
            below = width if last else channels[i + 1]
            halve, double = nn.Identity(), nn.Identity()
            if not last and strides[i + 1] == 2:
                halve = ResnetBlock(width, width, emb_dim, resample="down")
                double = ResnetBlock(below, below, emb_dim, resample="up")
            down.append(Block(config, i, above, nn.Identity(), halve))
            up.append(Block(config, i, below + skip, double, nn.Identity()))
    return nn.ModuleList(down), nn.ModuleList(reversed(up))
