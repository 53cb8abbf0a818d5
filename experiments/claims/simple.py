"""How simple it is to train: what the logs of all trainings say, and how many lines the loss has (§2.2, App. F)."""

import ast
import inspect
import json
import math
import textwrap
from pathlib import Path
from typing import Any

from imagen_lite import data, weights
from imagen_lite.recipes import stages
from imagen_lite.weights import DATA

STAGES = ("base64", "sr256", "sr1024")


def code_lines(function: Any) -> int:
    """Lines of a function that do something: no signature, no docstring."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in body)


def losses(log: Path) -> list[float]:
    """The training losses of a log, in order."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def diverged(values: list[float]) -> bool:
    """Whether a training ended, over its last twentieth, above where it had been half-way, or in what is no number."""
    last = values[-max(1, len(values) // 20) :]
    return not all(map(math.isfinite, values)) or sum(last) / len(last) > values[len(values) // 2] * 1.05


def simplicity() -> dict[str, Any]:
    """All trainings whose log is in the cache, the knobs in which the three stages differ, and the loss in lines."""
    logs = {path.parent.name: losses(path) for path in sorted((data.cache_folder() / "runs").glob("**/log.jsonl"))}
    rows = [{"run": name, "logged": len(v), "diverged": diverged(v), "seconds": 0} for name, v in logs.items() if v]
    trained = [weights.load_manifest(DATA / "weights" / name)["train"] for name in STAGES]
    knobs = sorted({key for one in trained for key in one if one[key] != trained[0][key]})
    return {"n": len(rows), "seeds": [0], "rows": rows, "knobs": knobs, "loss_lines": code_lines(stages.denoising_loss)}
