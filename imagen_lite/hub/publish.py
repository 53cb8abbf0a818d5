"""Your stages and cascades on the Hugging Face hub, with a model card; what is there is loaded as a folder is.

    publish.push_to_hub("my_model", "someone/my-imagen")      # a cascade, or one stage of it
    il.load_cascade(folder="someone/my-imagen")               # or load_stage("someone/my-stage")

A cascade is a folder with stages by their names (base64, sr256, sr1024) and, unless it is ours or on the hub, the text
encoder's folder. Only configurations, manifests, tokenizers and safetensors travel.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from imagen_lite import weights
from imagen_lite.stage import STAGES, load_stage
from imagen_lite.weights import WeightsError, write_atomic

ENCODER = "text_encoder"  # the folder of a published cascade's own encoder
FILES = ("config.json", "manifest.json", "tokenizer.json", "tokenizer_config.json", "*.safetensors", "*.index.json")


def save_pretrained(model: str | Path, out: str | Path, hub_id: str | None = None, licence: str = "mit") -> Path:
    """Writes what `push_to_hub` uploads: the weights, checked, the text encoder, and README.md, the model card.

    Args:
        model: the folder of a cascade, or of one stage.
        out: a folder to write to; must be empty or not there.
        hub_id: where it will be on the hub, for the card; None is someone's, by the folder's name.
        licence: of the weights, as the hub spells it.

    Raises:
        WeightsError: no stage there, or one that is damaged. FileExistsError: `out` holds something.
    """
    model, out = Path(model).expanduser(), Path(out).expanduser()
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; give a folder that is new")
    alone = (model / weights.CONFIG).is_file()
    stages = {model.name: model} if alone else {s: model / s for s in STAGES.values() if (model / s).is_dir()}
    if not stages:
        raise WeightsError(f"{model} holds no stage ({', '.join(STAGES.values())}); give the folder of a cascade")
    for folder in stages.values():
        load_stage(folder)  # what cannot be loaded must not be published
    for stage, folder in stages.items():
        _copy(folder, out if alone else out / stage)
    encoder = "" if alone else _copy_encoder(model, out)
    hub_id = hub_id or f"someone/{model.resolve().name}"
    write_atomic(out / "README.md", model_card(stages, hub_id, encoder, licence))
    return out


def push_to_hub(
    model: str | Path, hub_id: str, *, private: bool = False, licence: str = "mit", token: str | None = None
) -> str:
    """Uploads a cascade or stage (see `save_pretrained`) to the hub, as a new repository or a new version of one.

    Args:
        hub_id: "someone/name". token: of your account; None takes what `hf auth login` keeps.

    Returns:
        Its address.

    Raises:
        WeightsError: no stage there, or one that is damaged; or the hub refuses, or is out of reach.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(model, Path(temporary) / "model", hub_id, licence)
        try:
            api = HfApi(token=token)
            url = api.create_repo(hub_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=hub_id, folder_path=folder, commit_message="imagen_lite")
        except Exception as error:  # the hub's client raises many kinds
            told = (str(error).splitlines() or [""])[0]
            raise WeightsError(
                f"the hub did not take {hub_id!r} ({type(error).__name__}: {told}); check the name, the network, and "
                f"that `hf auth login` was done with a token that may write"
            ) from error
    return str(url)


def model_card(stages: dict[str, Path], hub_id: str, encoder: str, licence: str) -> str:
    """README.md: what the hub reads, what the stages are by their manifests, how to load them, what to know.

    `encoder` is the text encoder's name; "" for a stage alone.
    """
    load = f'il.load_cascade(folder="{hub_id}")' if encoder else f'il.stage.load_stage("{hub_id}")'
    rows = ["| stage | parameters | trained on | pictures seen | hours, hardware | validation loss |", "|---" * 6 + "|"]
    for stage, folder in stages.items():
        told: dict[str, Any] = {"hardware": "", **weights.load_manifest(folder)}
        seen, hours = told.get("pictures_seen"), told.get("hours")
        rows.append(
            f"| {stage} | {told['parameters'] / 1e6:.1f} M | {told.get('world', '')} | {seen or 0:,} | "
            f"{hours}, {told['hardware']} | {told.get('validation_loss', '')} |"
        )
    reads = f"Captions are read by `{encoder}`, frozen. " if encoder else ""
    return f"""---
license: {licence}
library_name: imagen_lite
pipeline_tag: text-to-image
tags: [imagen, diffusion, pixel-space]
---

# {hub_id.split("/")[-1]}

Pixel-space diffusion in small, after Imagen (arXiv 2205.11487), trained with `imagen_lite`. {reads}Safetensors only.

```python
import imagen_lite as il

model = {load}
```

{chr(10).join(rows)}

## What to know

It draws what its training pictures show, with their biases, and nothing else; it is small, and made to be learned from.
What it reaches stands here only if somebody measured it and wrote it down: with how many pictures, which seed, on which
hardware. Mind the licences of the pictures and of the text encoder.
"""


def _copy(folder: Path, out: Path) -> None:
    """The files of a model that travel."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in FILES:
        for file in folder.glob(pattern):
            shutil.copyfile(file, out / file.name)


def _copy_encoder(model: Path, out: Path) -> str:
    """Puts a cascade's text encoder beside it, unless the hub has it; returns its name."""
    config = weights.load_config(out / STAGES[64])
    name = config.get("text_encoder", "t5-lite-base")
    places = (model / name, Path(name).expanduser(), weights.DATA / "weights" / name)
    folder = next((place for place in places if (place / weights.CONFIG).is_file()), None)
    if folder is None and Path(name).is_absolute():
        raise WeightsError(f"the text encoder {name} is not there any more; put its folder beside the stages")
    if folder is None:
        return name
    _copy(folder, out / ENCODER)
    write_atomic(out / STAGES[64] / weights.CONFIG, json.dumps(config | {"text_encoder": ENCODER}, indent=2) + "\n")
    return folder.name
