"""The captioned 3-D toy world: scenes, their captions, their pictures, and a reader that looks at pictures.

scene = scenes.sample_scene(7)
image = scenes.render([scene], size=256)      # (1, 3, 256, 256) in [-1, 1]
scenes.captions(scene)                        # true sentences about it
scenes.read(image)                            # what the reader sees, a list per image
"""

import importlib
from typing import TYPE_CHECKING, Any

from imagen_lite.scenes.captions import captions
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.world import WORLD_VERSION, Camera, Scene, Thing, sample_scene

if TYPE_CHECKING:
    from imagen_lite.scenes.reader import read
    from imagen_lite.scenes.renderer import render

__all__ = ["WORLD_VERSION", "Camera", "Scene", "Thing", "captions", "parse", "read", "render", "sample_scene"]

_MODULE_OF = {"read": "reader", "render": "renderer"}


def __getattr__(name: str) -> Any:
    """The functions that need torch, imported at first use: a look at a scene should not wait for the ray tracer."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
