"""A pixel-space U-Net of `diffusers` as a stage of our cascade, DeepFloyd IF's above all.

IF (2023) is Imagen as others trained it. Where it differs from our own stages, this one does as IF was trained:

    time             an integer step of its own table of noise, which the angle that a cascade passes is turned into
    variance         3 more output channels, learned for DDPM: dropped, our samplers have their own (`ddpm_step`)
    null condition   the embedding of the empty string, not zeros: see `hub.text.EmptyNull`
    augmentation     noise is added after upsampling, at full size, and its level is an integer step as well
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite.hub.pipeline import load_unet, read_schedule, read_unet_config, resolve_pipeline, text_dim
from imagen_lite.hub.schedule import DiscreteSchedule
from imagen_lite.schedule import Level
from imagen_lite.stage import Sampling, Stage, default_device, default_dtype
from imagen_lite.text import TextEmbedding
from imagen_lite.weights import WeightsError

NOISE_LEVEL = 250  # that the published pipeline adds to a low-res picture, of 0 to 999


class DiffusersUNet(nn.Module):
    """A U-Net of `diffusers` that is called as ours is, and answers in float32 whatever its weights are.

    It computes in the dtype of its weights: a cascade's own dtype, by autocast, does not reach it.
    """

    def __init__(self, unet: nn.Module, schedule: DiscreteSchedule, noising: DiscreteSchedule | None = None):
        """`schedule` is of the noise that it removes, `noising` of that in its low-res picture, if it takes one."""
        super().__init__()
        self.unet, self.schedule, self.noising = unet, schedule, noising
        self.text_dim = text_dim(unet.config)

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
            t: (B,) the angle of its noise in [0, 1], alpha = cos(pi/2 t); the nearest step is what is told.
            text: tokens (B, L, text_dim) and their mask; a network without cross attention ignores it.
            low_res: (B, 3, H, W), the low-res picture, upsampled and with noise (`DiffusersStage.condition`).
            aug_level: (B,) the angle of that noise in [0, 1]; the nearest step is what is told.

        Returns:
            (B, 3, H, W) float32, what the network predicts (`Stage.kind`).

        Raises:
            ValueError: conditions that the network does not take, or text that it was not trained with.
        """
        self._check(x_t, low_res, aug_level)
        dtype = next(self.unet.parameters()).dtype
        inputs = x_t if low_res is None else torch.cat([x_t, low_res], dim=1)
        conditions: dict[str, Tensor] = {}
        if self.text_dim:
            self._check_text(text, len(x_t))
            conditions = {"encoder_hidden_states": text.tokens.to(dtype), "encoder_attention_mask": text.mask}
        if self.noising is not None and aug_level is not None:
            conditions["class_labels"] = self.noising.step(aug_level)
        with torch.autocast(x_t.device.type, enabled=False):
            output = self.unet(inputs.to(dtype), self.schedule.step(t), **conditions, return_dict=False)[0]
        return output[:, :3].float()

    def _check(self, x_t: Tensor, low_res: Tensor | None, aug_level: Tensor | None) -> None:
        if (low_res is not None, aug_level is not None) != (self.noising is not None,) * 2:
            need = "takes neither low_res nor aug_level" if self.noising is None else "needs both low_res and aug_level"
            raise ValueError(f"a U-Net with {3 if self.noising is None else 6} input channels {need}")
        if low_res is not None and low_res.shape != x_t.shape:
            raise ValueError(f"low_res is {tuple(low_res.shape)}, but must be upsampled to {tuple(x_t.shape)} first")

    def _check_text(self, text: TextEmbedding, batch: int) -> None:
        if len(text) != batch or text.tokens.shape[2] != self.text_dim:
            raise ValueError(
                f"text is {tuple(text.tokens.shape)}, but this U-Net needs ({batch}, L, {self.text_dim}): embed it "
                f"with the text encoder that the U-Net was trained with"
            )
        if not bool(text.tokens.flatten(1).any(1).all()):
            raise ValueError(
                "the null condition is zeros, but this U-Net was trained with the empty string's embedding: give the "
                "cascade its text encoder as hub.EmptyNull(encoder)"
            )


@dataclass(frozen=True)
class DiffusersStage(Stage):
    """A `Stage` whose network is a `DiffusersUNet`; in super-resolution, conditioned as IF's are."""

    unet: DiffusersUNet

    def condition(self, images: Tensor, aug_level: Tensor, noise: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """The pictures (B, 3, h, w), upsampled bilinearly with their corners aligned, then noised at full size.

        What is added is the noise of the step that the network is told, the one nearest to `aug_level`, (B,); step 0
        still has a little. Our own stages add it at low resolution, before upsampling, which blurs it.

        Returns:
            (B, 3, resolution, resolution).

        Raises:
            ValueError: the network takes no low-res picture.
        """
        size, noising = (self.resolution, self.resolution), self.unet.noising
        if noising is None:
            raise ValueError(f"the {self.resolution}-pixel U-Net takes no low-res picture; make it the first stage")
        large = F.interpolate(images, size, mode="bilinear", align_corners=True)
        return noising.add_noise(large, noising.time(noising.step(aug_level)), noise(large.shape))

    def start(self, level: Level, low_res: Tensor, aug_level: Tensor, noise: Tensor) -> Tensor:
        """Noise alone, as IF begins: at its last step alpha is as good as 0."""
        return noise

    def aug_level(self, noise_level: int) -> float:
        """The `aug_level` of `Cascade.sample`, in [0, 1], that is this `noise_level` (0 to 999) of a pipeline.

        Raises:
            ValueError: a level out of range, or a network that takes no low-res picture.
        """
        noising = self.unet.noising
        if noising is None or not 0 <= noise_level < len(noising.alphas_cumprod):
            steps = 0 if noising is None else len(noising.alphas_cumprod)
            raise ValueError(f"noise_level must be one of this stage's {steps} steps, from 0, not {noise_level}")
        return float(noising.angle(noising.time(torch.tensor(noise_level, dtype=torch.float64))))


def load_diffusers_stage(
    path_or_hub_id: str | Path,
    resolution: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> DiffusersStage:
    """The U-Net and schedule of a pipeline in the layout of `diffusers` (see `hub.pipeline`), as a stage.

    It is sampled by default as IF's pipelines are: DDPM in 100 steps with w = 7, super-resolution in 50 with w = 4 at
    noise level 250. IF's dynamic threshold is milder than the paper's: percentile 0.95, and s at most 1.5.

    Args:
        path_or_hub_id: a pipeline's folder; or a hub id, of which U-Net and schedulers are downloaded once.
        resolution: what it draws at; None: what unet/config.json says.
        device: "cuda", "mps" or "cpu"; None takes the first of these that there is.
        dtype: of the weights, and what it computes in; None is `default_dtype`. For half precision, weights stored in
            it ("fp16") are taken where there are any.

    Raises:
        WeightsError: missing, unreachable, pickled or damaged files, or a network that is not of pixels and text.
        ValueError: a device that is not there.
    """
    where = default_device(device)
    dtype = dtype or default_dtype(where)
    folder = resolve_pipeline(path_or_hub_id, ("unet", "scheduler", "image_noising_scheduler"), dtype)
    config = read_unet_config(folder / "unet")
    size: Any = resolution or config["sample_size"]
    if not isinstance(size, int):
        raise WeightsError(f"{folder / 'unet'} names no one size, but {size}; say at which resolution it is to draw")
    schedule, kind = read_schedule(folder / "scheduler")
    noising = read_schedule(folder / "image_noising_scheduler")[0] if config["in_channels"] == 6 else None
    network = load_unet(folder / "unet", config["_class_name"], dtype).requires_grad_(False).eval().to(where)
    unet = DiffusersUNet(network, schedule, noising)
    if noising is None:
        weight = 7.0 if unet.text_dim else 1.0
        return DiffusersStage(unet, schedule, size, kind, Sampling(steps=100, guidance_weight=weight, method="ddpm"))
    stage = DiffusersStage(unet, schedule, size, kind)
    usual = stage.aug_level(min(NOISE_LEVEL, len(noising.alphas_cumprod) - 1))
    return replace(stage, sampling=Sampling(steps=50, guidance_weight=4.0, method="ddpm", aug_level=usual))
