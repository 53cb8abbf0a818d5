"""imagen_lite: Imagen (arXiv 2205.11487) as a small library worth reading.

    import imagen_lite as il

    cascade = il.load_cascade()
    out = cascade.sample(["a shiny red cone next to a small blue house on the grass"], guidance_weight=5.0)
    out.pil()[0].save("out.png")

Nothing is imported before it is used: each name below brings in its module (and torch) at first touch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULE_OF = {
    "CosineSchedule": "schedule",
    "LinearSchedule": "schedule",
    "classifier_free_guidance": "guidance",
    "no_threshold": "thresholding",
    "static_threshold": "thresholding",
    "dynamic_threshold": "thresholding",
    "WeightsError": "weights",
    "T5Encoder": "t5",
    "TextEmbedding": "text",
    "load_text_encoder": "text",
    "EfficientUNet": "unet",
    "UNetConfig": "unet",
    "Cascade": "cascade",
    "Sample": "cascade",
    "Stage": "stage",
    "load_cascade": "cascade",
    "noise_conditioning_augmentation": "augmentation",
}
_SUBMODULES = ("schedule", "prediction", "guidance", "thresholding", "sampler", "weights", "t5", "text", "layers")
_SUBMODULES += ("unet", "augmentation", "inputs", "stage", "cascade", "hub", "toys", "scenes", "viz", "data", "train")
_SUBMODULES += ("evaluate", "learn", "widgets")

__all__ = ["__version__", *_MODULE_OF, *_SUBMODULES]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from imagen_lite import augmentation, cascade, data, evaluate, guidance, hub, inputs, layers, learn  # isort: skip
    from imagen_lite import prediction, sampler, scenes  # isort: skip
    from imagen_lite import schedule, stage, t5, text, thresholding, toys, train, unet, viz, weights, widgets  # isort: skip
    from imagen_lite.augmentation import noise_conditioning_augmentation
    from imagen_lite.cascade import Cascade, Sample, load_cascade
    from imagen_lite.guidance import classifier_free_guidance
    from imagen_lite.schedule import CosineSchedule, LinearSchedule
    from imagen_lite.stage import Stage
    from imagen_lite.t5 import T5Encoder
    from imagen_lite.text import TextEmbedding, load_text_encoder
    from imagen_lite.thresholding import dynamic_threshold, no_threshold, static_threshold
    from imagen_lite.unet import EfficientUNet, UNetConfig
    from imagen_lite.weights import WeightsError


def __getattr__(name: str) -> Any:
    """Imports what `name` stands for at its first use (PEP 562)."""
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
