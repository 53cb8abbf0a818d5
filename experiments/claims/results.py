"""Where the results of claims lie, in the repository and on the way there, and how two ways are compared."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.results import BASE, RESULTS, ROOT, save_result, weights_in_use
from imagen_lite import data
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.scenes.world import WORLD_VERSION

FOLDER = RESULTS / "claims"


def commit() -> str:
    """The commit that the working tree is at, with + where files differ from it, other than results."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "-uno", "--", ".", ":!data/results")
    return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")


def folder_of(name: str, models: Sequence[str] = BASE) -> Path:
    """Where the parts of a result lie in the cache, until it is whole; another place for other weights."""
    used = hashlib.sha256(json.dumps(weights_in_use(models)).encode()).hexdigest()[:8]
    return data.cache_folder() / "runs" / "claims" / f"{name}-{used}"


def save(claim: str, result: dict[str, Any], models: Sequence[str] = BASE) -> dict[str, Any]:
    """Writes a claim's result, with the commit, the world, the hardware, the weights and the seconds it took."""
    seconds = round(sum(row.get("seconds", 0) for row in result["rows"]))
    about = {"claim": claim, "commit": commit(), "world": WORLD_VERSION, "seconds": seconds}
    return save_result(claim, about | result, FOLDER / f"{claim}.json", models)


def load(claim: str) -> dict[str, Any]:
    """A claim's result. Raises FileNotFoundError where it was never found."""
    return json.loads((FOLDER / f"{claim}.json").read_text())


def gain(a: np.ndarray, b: np.ndarray) -> tuple[float, tuple[float, float]]:
    """How much more often captions are right in `a` than in `b`, with the paired 95 % interval over captions."""
    return float((a - b).mean()), interval(a - b)
