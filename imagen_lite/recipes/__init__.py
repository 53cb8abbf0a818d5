"""Training recipes: one file per model; each states its command, its budget and the score to expect."""

import importlib
import os
from pathlib import Path
from typing import Any

RECIPES = {  # name -> module
    "t5-lite-base": "t5_lite", "reader": "reader", "base64": "base64", "sr256": "sr256", "sr1024": "sr1024",
    "detail": "detail", "clip-lite": "clip_lite",
}  # fmt: skip
SHARED = ("base64", "sr256", "sr1024")  # by several processes, if so many are launched


def follow(
    name: str, *, max_minutes: float | None = None, device: str | None = None, fresh: bool = False,
    doctor: bool = False, source: str | None = None, text_encoder: str | None = None, output: Path | None = None,
) -> None:  # fmt: skip
    """What `imagen-lite train` does: run a recipe, or have its doctor look at it.

    Args:
        source, text_encoder: your own pictures and encoder, as in `material.own`; `output` is the folder of the model
            that is trained on them.

    Raises:
        ValueError: no such recipe, no doctor for it, a time that is not above 0, options that do not go together, or
            several processes where they do not share the work.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; choose from {', '.join(RECIPES)}")
    if max_minutes is not None and not max_minutes > 0:
        raise ValueError(f"--max-minutes must be above 0, not {max_minutes:g}")
    if source is None and not (text_encoder is None and output is None):
        raise ValueError("--text-encoder and --output go with --data: the shipped models read captions with our own")
    if source is not None and name != "base64":
        raise ValueError(f"--data is for base64, not {name}: the other models are trained on renders")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and name not in SHARED:
        raise ValueError(f"{name} is trained by one process; start it without a launcher")
    module = importlib.import_module(f"imagen_lite.recipes.{RECIPES[name]}")
    own: dict[str, Any] = {} if source is None else {"source": source, "text_encoder": text_encoder}
    if doctor:
        if not hasattr(module, "doctor"):
            raise ValueError(f"there is no doctor for {name!r}; the stages (base64, sr256, sr1024) have one")
        return module.doctor(device, **own)
    if source is not None:
        output = output or Path("my_model")
        if output.resolve().is_relative_to(Path(source).expanduser().resolve()):
            raise ValueError(f"--output {output} lies in --data {source}; give a folder elsewhere")
        own |= {"out": output / name, "run_folder": output / "run"}
    module.run(max_minutes=max_minutes, device=device, fresh=fresh, **own)
    from imagen_lite import processes  # not above: `--help` does not wait for torch

    processes.leave()
