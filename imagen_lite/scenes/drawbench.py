"""DrawBench-lite, prompts by category (data/drawbench-lite), and the real DrawBench, where it can be had (§3)."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagen_lite.weights import DATA, hub_failure

LITE = DATA / "drawbench-lite" / "prompts.json"
HUB = "Jialuo21/DrawBench"


@dataclass(frozen=True)
class BenchPrompt:
    """A prompt of a category; `means` says the same in plain words of the world, for judges (the prompt itself, where
    there is no such thing)."""

    category: str
    prompt: str
    means: str


def load_drawbench_lite() -> list[BenchPrompt]:
    """The 110 prompts about our world, category by category."""
    return [BenchPrompt(**row) for row in json.loads(LITE.read_text())]


def load_drawbench(source: str | Path = HUB) -> list[BenchPrompt]:
    """The paper's 200 prompts.

    Args:
        source: a CSV file with the columns Prompts and Category, as the authors share it, or an id on the hub.

    Raises:
        ValueError: the file has no such columns, or the hub does not give the set. ImportError: `datasets` is missing.
    """
    if Path(source).expanduser().suffix == ".csv":
        with open(Path(source).expanduser(), newline="", encoding="utf-8") as file:
            rows = [{key.lower(): value for key, value in row.items() if key} for row in csv.DictReader(file)]
    else:
        rows = _from_hub(str(source))
    if not rows or not {"prompts", "category"} <= rows[0].keys():
        raise ValueError(f"{source} has no columns Prompts and Category; take DrawBench's CSV file")
    return [BenchPrompt(row["category"], row["prompts"], row["prompts"]) for row in rows]


def _from_hub(source: str) -> list[dict[str, str]]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError("sets of the hub need `datasets`: pip install -e '.[data]'") from error
    try:
        if failure := hub_failure(source, "dataset"):
            raise failure
        rows: Any = load_dataset(source, split="test")
    except Exception as error:  # the hub and `datasets` raise many kinds; all mean the same here
        raise ValueError(
            f"the hub does not give {source!r} ({type(error).__name__}); check the name and the network, or give the "
            f"CSV file that the authors of Imagen share"
        ) from error
    names = {key: getattr(feature, "int2str", str) for key, feature in rows.features.items()}  # of labels, the words
    return [{key.lower(): names[key](value) for key, value in row.items()} for row in rows]
