"""A pipeline in the layout of `diffusers`, a folder or on the hub: what is read of it, and what is refused.

model_index.json
unet/                       config.json, diffusion_pytorch_model.safetensors (and .fp16.safetensors)
scheduler/                  scheduler_config.json
image_noising_scheduler/    the same, for super-resolution
text_encoder/, tokenizer/   as `transformers` stores them
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imagen_lite.hub.schedule import DiscreteSchedule
from imagen_lite.prediction import Kind
from imagen_lite.weights import WeightsError, from_hub

KINDS: dict[str, Kind] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
BETAS = ("trained_betas", "beta_schedule", "beta_start", "beta_end", "rescale_betas_zero_snr", "num_train_timesteps")


def resolve_pipeline(path_or_hub_id: str | Path, parts: Sequence[str], dtype: torch.dtype) -> Path:
    """A pipeline's folder: the path itself if there is one, else a download of those `parts` (safetensors only).

    Raises:
        WeightsError: neither a folder nor a hub id that can be reached.
    """
    path = Path(path_or_hub_id).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or str(path_or_hub_id).count("/") > 1:
        raise WeightsError(f"there is no folder {path}; give that of a diffusers pipeline, or the id of one on the hub")
    small = [f"{part}/{name}" for part in parts for name in ("*.json", "*.model")]
    if dtype != torch.float32:  # half the download, where the half is there
        folder = from_hub(str(path_or_hub_id), [*small, *(f"{part}/*fp16*.safetensors" for part in parts)])
        if all(variant(folder / part, dtype) for part in parts if (folder / part / "config.json").is_file()):
            return folder
    return from_hub(str(path_or_hub_id), [*small, *(f"{part}/*.safetensors" for part in parts)], ["*fp16*"])


def variant(folder: Path, dtype: torch.dtype) -> str | None:
    """ "fp16" if half precision is wanted and stored in the folder, else None: what a loader calls its variant."""
    return "fp16" if dtype != torch.float32 and any(folder.glob("*fp16*.safetensors")) else None


def check_safetensors(folder: Path) -> None:
    """Raises WeightsError for a folder that holds no safetensors; what is pickled is not even opened."""
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(f"{folder} holds no safetensors, and pickled weights are not read; convert them first")


def read_json(path: Path) -> dict[str, Any]:
    """A configuration of a pipeline. Raises WeightsError for a file that is missing or no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} is missing or no configuration ({type(error).__name__}); give a whole pipeline of diffusers, or "
            f"download that one again"
        ) from error
    return value


def read_unet_config(folder: Path) -> dict[str, Any]:
    """The configuration of a U-Net that can be a stage, defaults filled in; raises WeightsError for any other."""
    config = read_json(folder / "config.json")
    name = config.get("_class_name")
    if name not in ("UNet2DConditionModel", "UNet2DModel"):
        raise WeightsError(f"{folder} holds a {name}, but a stage needs a UNet2DConditionModel or a UNet2DModel")
    parameters = inspect.signature(getattr(_diffusers(), name).__init__).parameters.values()
    config = {p.name: p.default for p in parameters} | config
    ins, outs, told = config["in_channels"], config["out_channels"], config["class_embed_type"]
    if ins not in (3, 6) or outs not in (3, 6):
        raise WeightsError(
            f"{folder} has {ins} input and {outs} output channels, but only a U-Net on pixels can be a stage: 3 in, or "
            f"6 with a low-res picture, and 3 out, or 6 with a learned variance"
        )
    if (ins == 6) != (told == "timestep") or (told and ins == 3) or config["num_class_embeds"]:
        raise WeightsError(
            f"{folder} has {ins} input channels, class_embed_type {told!r} and num_class_embeds "
            f"{config['num_class_embeds']}, but the only class a stage can be told is the noise level ('timestep') of "
            f"a low-res picture in 3 more channels"
        )
    for key, known in (("addition_embed_type", "text"), ("encoder_hid_dim_type", "text_proj")):
        if config.get(key) not in (None, known):
            raise WeightsError(f"{folder} has {key} {config[key]!r}, a condition beyond text; give another U-Net")
    return config


def text_dim(config: Any) -> int | None:
    """The width of the text embeddings that a U-Net attends to; None if it has no cross attention."""
    blocks = [*config["down_block_types"], *config["up_block_types"], config["mid_block_type"] or ""]
    if not any("CrossAttn" in block for block in blocks):
        return None
    width = config["encoder_hid_dim"] or config["cross_attention_dim"]
    return width if isinstance(width, int) else width[0]


def read_schedule(folder: Path) -> tuple[DiscreteSchedule, Kind]:
    """The noise of a scheduler_config.json, its table computed by `diffusers` itself, and what is predicted.

    Raises:
        WeightsError: a scheduler without betas, or whose last step leaves nothing of the picture.
    """
    config = read_json(folder / "scheduler_config.json")
    betas = {name: config[name] for name in BETAS if name in config}
    kind = config.get("prediction_type", "epsilon")
    if not betas.keys() & set(BETAS[:4]) or kind not in KINDS:
        raise WeightsError(
            f"{folder} holds a {config.get('_class_name')} with prediction_type {kind!r}, but a stage needs betas, and "
            f"one of {', '.join(KINDS)}"
        )
    try:
        table = _diffusers().DDPMScheduler(**betas).alphas_cumprod
        return DiscreteSchedule(tuple(table.double().tolist())), KINDS[kind]
    except (NotImplementedError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder} describes no noise that a stage can have: {error}; give another one") from error


def load_unet(folder: Path, name: str, dtype: torch.dtype) -> nn.Module:
    """The network of class `name` with its weights, each of them accounted for; raises WeightsError."""
    check_safetensors(folder)
    try:
        unet, report = getattr(_diffusers(), name).from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, variant=variant(folder, dtype), output_loading_info=True
        )
    except Exception as error:  # diffusers raises many kinds
        first = str(error).strip().splitlines()[0].rstrip(".")
        raise WeightsError(f"{folder} could not be read: {first}; restore it, or download it again") from error
    if wrong := sorted([*report["missing_keys"], *report["unexpected_keys"]]):
        raise WeightsError(
            f"{folder} has weights that do not fit its config.json, {wrong[0]} for one; download both again"
        )
    return unet


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise WeightsError("this needs diffusers, which is not installed; pip install 'imagen_lite[hub]'") from error
    return diffusers
