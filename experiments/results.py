"""Result files (data/results/NAME.json) that name the weights they were made from, and their place in the texts."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagen_lite import weights
from imagen_lite.stage import default_device, hardware_name

ROOT = Path(__file__).resolve().parent.parent
RESULTS = weights.DATA / "results"
BASE = ("t5-lite-base", "reader", "base64")  # what a 64-px picture is drawn and read by


def weights_in_use(models: Sequence[str] = BASE) -> dict[str, str]:
    """The sha256 of shipped models, by their names."""
    return {name: weights.load_manifest(weights.DATA / "weights" / name)["sha256"] for name in models}


def save_result(
    name: str, result: dict[str, Any], path: Path | None = None, models: Sequence[str] = BASE
) -> dict[str, Any]:
    """Writes a result with the weights and the hardware it was made on; returns all that."""
    result = result | {"hardware": hardware_name(default_device()), "weights": weights_in_use(models)}
    weights.write_atomic(path or RESULTS / f"{name}.json", as_json(result))
    return result


def as_json(result: dict[str, Any]) -> str:
    """As JSON for people: a line an entry, but lists of plain numbers in one line."""
    text = json.dumps(result, indent=1) + "\n"
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda found: "[" + " ".join(found[0][1:-1].split()) + "]", text)


def load_result(name: str) -> dict[str, Any]:
    """A result file; raises FileNotFoundError where it was never made."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def is_current(name: str, models: Sequence[str] = BASE) -> bool:
    """Whether a result was made from the weights of `models` as they are shipped now."""
    if not (RESULTS / f"{name}.json").exists():
        return False
    made_from = load_result(name)["weights"]
    return all(made_from.get(model) == sha256 for model, sha256 in weights_in_use(models).items())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def with_interval(value: float, ends: Sequence[float], form: str = ".2f") -> str:
    """ "0.89 [0.83, 0.94]" """
    low, high = ends
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def insert(text: str, name: str, content: str) -> str:
    """The text with `content` between the markers `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises:
        ValueError: the text has no such markers.
    """
    pattern = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the text has no markers for {name!r}")
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text)
