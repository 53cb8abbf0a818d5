"""The cascade: a prompt becomes a 64-px picture, that a 256-px one, that a 1024-px one (Imagen, §2.4).

Each stage is a U-Net with its own schedule. A super-resolution stage is conditioned on the picture before it, to
which noise was added once (noise conditioning augmentation), so that it forgives what that stage got wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from imagen_lite import sampler, weights
from imagen_lite.augmentation import check_aug_level
from imagen_lite.guidance import Guidance, OnX0, Weight, check_weight, classifier_free_guidance, guided
from imagen_lite.inputs import check_low_res, check_prompts, check_seeds
from imagen_lite.sampler import Noise, State, Step, keyed_noise, time_grid
from imagen_lite.schedule import Level
from imagen_lite.stage import STAGES, Stage, default_device, default_dtype, load_stage
from imagen_lite.text import TextEmbedding, TextEncoder, load_text_encoder
from imagen_lite.thresholding import Threshold, named_threshold

AT_ONCE = 16 * 256**2  # pixels that go through a U-Net together: 1024-px pictures one by one, whatever the batch

T = TypeVar("T")
PerStage = T | Mapping[int, T] | None  # one value for all stages, or {resolution: value}; None: the stage's own
Callback = Callable[[int, State], object]  # called with the resolution and the step's state


@dataclass(frozen=True)
class Sample:
    """Pictures that a cascade drew.

    Attributes:
        images: (B, 3, resolution, resolution) float32 in [-1, 1], on the cascade's device.
        stages: {resolution: pictures} of every stage that ran.
        prompts, seeds: of each picture.
    """

    images: Tensor
    stages: dict[int, Tensor]
    prompts: list[str]
    seeds: list[int]

    def pil(self) -> list[Image.Image]:
        """The pictures as PIL images."""
        return to_pil(self.images)


@dataclass(frozen=True)
class _Plan:
    """One stage of one call, everything checked and chosen."""

    stage: Stage
    weight: Weight
    threshold: Threshold
    levels: list[Level]
    aug_level: float
    step: Step


class Cascade:
    """A text encoder and the stages, {resolution: Stage}, that are there."""

    def __init__(self, text_encoder: TextEncoder, stages: Mapping[int, Stage], dtype: torch.dtype | None = None):
        """`dtype` is what the U-Nets compute in; None: what suits their device (`default_dtype`)."""
        if not stages or any(stage.resolution != size for size, stage in stages.items()):
            raise ValueError(f"stages must be {{resolution: Stage}} with at least one, not {list(stages)}")
        self.text_encoder = text_encoder
        self.stages = {size: stages[size] for size in sorted(stages)}
        self.device = next(self.stages[min(stages)].unet.parameters()).device
        self.dtype = dtype or default_dtype(self.device)

    def sample(
        self,
        prompts: str | Sequence[str],
        guidance_weight: PerStage[Weight] = None,
        threshold: PerStage[str | Threshold] = "dynamic",
        percentile: float = 0.995,
        steps: PerStage[int] = None,
        seed: int | Sequence[int] = 0,
        resolution: int | None = None,
        aug_level: PerStage[float] = None,
        low_res: Tensor | None = None,
        guidance: Guidance | OnX0 = classifier_free_guidance,
        method: PerStage[str | Step] = None,
        callback: Callback | None = None,
        progress: bool = False,
    ) -> Sample:
        """Draw one picture for each prompt.

        `guidance_weight`, `threshold`, `steps`, `aug_level` and `method` are one value, or {resolution: value};
        None, or a resolution left out, means the stage's own (`Sampling`).

        Args:
            guidance_weight: w in eps_u + w (eps_c - eps_u); 1 is off, and costs half. Also one a picture, (B,), or a
                function of the level.
            threshold: "none", "static", "dynamic" (with `percentile` in (0, 1]), or your own x0 -> x0.
            seed: picture i uses seed + i; or a list of seeds. The same seed draws the same picture in any batch.
            resolution: None is the largest stage there is.
            aug_level: how much noise is added to a stage's low-res picture, in [0, 1]; 0 is none, and 0.1 hides the
                blocks of a JPEG.
            low_res: pictures (B, 3, S, S) in [-1, 1] to begin with, a render or a photo, instead of drawing them;
                S is a stage's size, and the stages above it run.
            guidance: your own (eps_cond, eps_uncond, weight) -> eps, or `OnX0` of one that combines pictures.
            method: "ddpm", "ddim", "dpmpp_2m", or a step function of `sampler`.
            callback: called as callback(resolution, state) with every `sampler.State`.
            progress: show a bar.

        Raises:
            ValueError: a prompt or a value that cannot be drawn, in one sentence.
        """
        prompts = check_prompts(prompts)
        seeds = check_seeds(seed, len(prompts))
        settings = (guidance_weight, threshold, steps, aug_level, method)
        side = None if low_res is None else check_low_res(low_res, len(prompts))
        plans = [self._plan(size, *settings, percentile=percentile) for size in self._sizes(resolution, side)]
        text = self.text_encoder(prompts).to(self.device)
        stages: dict[int, Tensor] = {}
        images = None if low_res is None else low_res.to(self.device, torch.float32)
        with tqdm(total=sum(len(p.levels) - 1 for p in plans), disable=not progress, unit="step") as bar:
            for plan in plans:
                size = plan.stage.resolution
                bar.set_description(f"{size}×{size}")
                for state in self._run(plan, text, images, seeds, guidance):
                    bar.update()
                    if callback:
                        callback(size, state)
                images = stages[size] = state.x0.float().nan_to_num().clamp(-1, 1)
        return Sample(stages[max(stages)], stages, prompts, seeds)

    def describe(self) -> str:
        """What is loaded, in a few words."""
        names = [STAGES.get(size, f"{size}×{size}") for size in self.stages]
        count = sum(p.numel() for stage in self.stages.values() for p in stage.unet.parameters()) / 1e6
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{', '.join(names)} ({count:.1f} M parameters) and {self.text_encoder.name} on {self.device}, {dtype}"

    def _sizes(self, resolution: int | None, side: int | None) -> list[int]:
        """The stages to run, smallest first; `side` is the size of the pictures to begin with, if there are any."""
        there = " or ".join(map(str, self.stages))
        if resolution is not None and resolution not in self.stages:
            if resolution not in STAGES:
                raise ValueError(f"resolution must be {there}, the stages that are there, not {resolution!r}")
            recipe = STAGES[resolution]
            raise ValueError(
                f"there is no {resolution}-pixel stage ({recipe}) here; train it with `imagen-lite train {recipe}`, "
                f"or ask for a resolution of {there}"
            )
        sizes = [size for size in self.stages if resolution is None or size <= resolution]
        if side is None:
            return sizes
        above = [size for size in sorted({*self.stages, *STAGES}) if size > side]  # the next must be there
        if side not in {*self.stages, *STAGES} or not above or above[0] not in sizes:
            raise ValueError(
                f"low_res is {side}×{side}, but it must have the size of the stage below one that is to run "
                f"({' or '.join(map(str, sizes))}); resize it"
            )
        return [size for size in sizes if size > side]

    def _plan(
        self, size: int, weight: Any, threshold: Any, steps: Any, aug_level: Any, method: Any, *, percentile: float
    ):
        """Chooses and checks one stage's settings."""
        stage, own = self.stages[size], self.stages[size].sampling

        def choose(name: str, value: Any, default: Any) -> Any:
            if isinstance(value, Mapping):
                if unknown := [key for key in value if key not in self.stages and key not in STAGES]:
                    raise ValueError(
                        f"{name} names a stage {unknown[0]!r}; the stages are {', '.join(map(str, self.stages))}"
                    )
                value = value.get(size)
            return default if value is None else value

        weight = choose("guidance_weight", weight, own.guidance_weight)
        check_weight(weight)
        level = choose("aug_level", aug_level, own.aug_level)
        check_aug_level(level)
        step: str | Step = choose("method", method, own.method)
        if isinstance(step, str):
            if step not in sampler.STEPS:
                raise ValueError(f"method must be {', '.join(sampler.STEPS)} or a step function, not {step!r}")
            step = sampler.STEPS[step]
        count = choose("steps", steps, own.steps)
        levels = time_grid(count, stage.schedule, spacing=own.spacing, lambda_start=own.lambda_start)
        limit = named_threshold(choose("threshold", threshold, "dynamic"), percentile)
        return _Plan(stage, weight, limit, levels, level, step)

    def _run(
        self,
        plan: _Plan,
        text: TextEmbedding,
        images: Tensor | None,
        seeds: list[int],
        guidance: Guidance | OnX0,
    ):
        """The states of one stage; `images` are those of the stage before."""
        size, count = plan.stage.resolution, len(seeds)
        index = list(self.stages).index(size)
        noise: Noise = keyed_noise(seeds, (count, 3, size, size), self.device, stream=2 * index)
        low_res = level = start = None
        if images is not None:
            level = torch.full((count,), plan.aug_level, device=self.device)

            def draw(shape: Sequence[int]) -> Tensor:
                return keyed_noise(seeds, shape, self.device, stream=2 * index + 1)()

            # Once, and before the loop: both halves of guidance and all steps see the same.
            low_res = plan.stage.condition(images, level, draw)
            start = plan.stage.start(plan.levels[0], low_res, level, noise())

        def unet(x_t: Tensor, t: Tensor, *conditions: Any) -> Tensor:
            inputs = (x_t, plan.stage.schedule.angle(t), *conditions)
            few = max(1, AT_ONCE // size**2)
            parts = [[None if v is None else v[i : i + few] for v in inputs] for i in range(0, len(x_t), few)]
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                return torch.cat([plan.stage.unet(*part) for part in parts])

        predict_eps = guided(
            unet, text, plan.weight, kind=plan.stage.kind, guidance=guidance, low_res=low_res, aug_level=level
        )
        return sampler.sample(predict_eps, noise, plan.levels, threshold=plan.threshold, step=plan.step, start=start)


def load_cascade(
    device: str | torch.device | None = None, dtype: torch.dtype | None = None, folder: str | Path | None = None
) -> Cascade:
    """The shipped cascade: the text encoder and the stages that are there.

    Args:
        device: "cuda", "mps" or "cpu"; None takes the first of these that there is.
        dtype: what the U-Nets compute in: torch.float32, bfloat16 or float16; None is `default_dtype`.
        folder: where the weights are, or their id on the hub; None is data/weights of the clone. The base's
            config.json may name another text encoder: a folder in this one or elsewhere, or a hub id.

    Raises:
        WeightsError: weights that are missing or damaged.
        ValueError: a device that is not there.
    """
    where = default_device(device)
    root = weights.located(folder or weights.DATA / "weights").absolute()
    stages: dict[int, Stage] = {}
    for size, name in STAGES.items():
        if stages and not (root / name).is_dir():
            break  # a later stage needs the one before it
        stages[size] = load_stage(root / name, where)
    name = weights.load_config(root / STAGES[64]).get("text_encoder", "t5-lite-base")
    places = (root / name, weights.DATA / "weights" / name)
    encoder = next((place for place in places if place.is_dir()), name if "/" in name else root / name)
    return Cascade(load_text_encoder(encoder, where), stages, dtype)


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] as PIL images; what lies outside is clipped."""
    pixels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
    return [Image.fromarray(picture) for picture in pixels.permute(0, 2, 3, 1).contiguous().numpy()]
