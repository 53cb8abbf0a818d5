"""One stage of the cascade: a U-Net, its schedule, how it is sampled; where it runs, and in what precision."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from imagen_lite import sampler, weights
from imagen_lite.augmentation import augment, check_aug_level, expected_picture, upsample
from imagen_lite.guidance import check_weight
from imagen_lite.prediction import Kind, check_kind
from imagen_lite.schedule import CosineSchedule, Level, LinearSchedule, Schedule
from imagen_lite.unet import EfficientUNet, UNetConfig

STAGES = {64: "base64", 256: "sr256", 1024: "sr1024"}  # resolution -> folder in data/weights, and recipe
SCHEDULES: dict[str, type] = {"cosine": CosineSchedule, "linear": LinearSchedule}


@dataclass(frozen=True)
class Sampling:
    """How a stage is sampled unless the caller says otherwise.

    Attributes:
        steps: network evaluations, each with and without text.
        guidance_weight: w of Eq. 4; 1 is off.
        method: a name of `sampler.STEPS`; `spacing` and `lambda_start` as in `sampler.time_grid`.
        aug_level: of a super-resolution stage, in [0, 1]; its noise has sigma = sin(pi/2 aug_level).
    """

    steps: int = 24
    guidance_weight: float = 5.0
    method: str = "dpmpp_2m"
    spacing: Literal["time", "log_snr"] = "time"
    lambda_start: float | None = None
    aug_level: float = 0.1

    def __post_init__(self):
        check_weight(self.guidance_weight)
        check_aug_level(self.aug_level)
        if self.method not in sampler.STEPS:
            raise ValueError(f"method must be one of {', '.join(sampler.STEPS)}, not {self.method!r}")


@dataclass(frozen=True)
class Stage:
    """One model of the cascade: what it is, how it is conditioned and sampled. `kind` is what the network predicts.

    `unet` is an `EfficientUNet`, or a network that is called as one.
    """

    unet: nn.Module
    schedule: Schedule
    resolution: int
    kind: Kind = "eps"
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self):
        check_kind(self.kind)

    def condition(self, images: Tensor, aug_level: Tensor, noise: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """What the network is given of the pictures of the stage before, (B, 3, h, w): augmented, then upsampled.

        Args:
            aug_level: (B,) in [0, 1]. noise: gives standard normal noise of a shape.

        Returns:
            (B, 3, resolution, resolution).
        """
        return upsample(augment(images, aug_level, noise(images.shape)), self.resolution)

    def start(self, level: Level, low_res: Tensor, aug_level: Tensor, noise: Tensor) -> Tensor:
        """The first x_t, (B, 3, resolution, resolution), where there is a low-res picture (from `condition`).

        alpha is not 0 at the first level: noise alone would say, falsely, that the picture is grey.
        """
        return level.alpha * expected_picture(low_res, aug_level, 0.0)[0] + level.sigma * noise

    def config(self) -> dict[str, Any]:
        """All but the tensors, for config.json; `load_stage` reads it. Raises TypeError for a network of others."""
        if not isinstance(self.unet, EfficientUNet) or not isinstance(self.schedule, CosineSchedule | LinearSchedule):
            raise TypeError(f"only a stage with an EfficientUNet is stored, not one with a {type(self.unet).__name__}")
        names = {schedule: name for name, schedule in SCHEDULES.items()}
        return {
            "unet": dataclasses.asdict(self.unet.config),
            "schedule": {"name": names[type(self.schedule)], **dataclasses.asdict(self.schedule)},
            "resolution": self.resolution,
            "kind": self.kind,
            "sampling": dataclasses.asdict(self.sampling),
        }


def load_stage(folder: str | Path, device: str | torch.device | None = None) -> Stage:
    """One stage from its folder, as `Stage.config` and `weights.save_pretrained` wrote it, or from the hub by its id.

    Raises:
        WeightsError: missing, unreachable or damaged files.
    """
    folder = weights.located(folder)
    config = weights.load_config(folder)
    try:
        settings = dict(config["schedule"])
        schedule = SCHEDULES[settings.pop("name")](**settings)
        plan = UNetConfig.from_dict(dict(config["unet"]))
        if sum(plan.blocks) > 1000 or not 1 <= config["resolution"] <= 16384:
            raise ValueError("its size is out of all bounds")
        with torch.device("meta"):  # without memory, until the tensors have been seen to fit
            unet = EfficientUNet(plan)
        stage = Stage(unet, schedule, config["resolution"], config["kind"], Sampling(**config["sampling"]))
    except (ArithmeticError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise weights.WeightsError(
            f"{folder / weights.CONFIG} describes no stage of this version ({type(error).__name__}: {error!s:.200}); "
            f"restore it from git, or train it again."
        ) from error
    weights.load_into(unet, folder)
    unet.requires_grad_(False).eval().to(default_device(device), memory_format=torch.channels_last)  # pyright: ignore
    return stage


def default_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or the best there is: CUDA, MPS, CPU. Raises ValueError for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        return torch.device(next(name for name, available in there.items() if available))
    if not there.get(str(device).split(":")[0], False):
        raise ValueError(f"device {str(device)!r} is not there; choose from {', '.join(n for n in there if there[n])}")
    return torch.device(device)


def hardware_name(device: torch.device) -> str:
    """What a manifest or a result calls the machine."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where native (CUDA from Ampere, CPUs with AVX-512-bf16 or AMX), float16 on older CUDA, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if device.type == "cpu":
        native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if any(getattr(torch.cpu, name, lambda: False)() for name in native):
            return torch.bfloat16
    return torch.float32
