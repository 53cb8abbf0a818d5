"""What was measured, in data/results/peers.json, and as text."""

import json
from typing import Any

from experiments.claims.results import commit
from experiments.peers import curves, environment, machine, speed, user
from experiments.results import RESULTS, save_result

MEASURED = {"speed": speed, "machine": machine, "user": user}
TABLES = MEASURED | {"quality": curves}
TITLES = {
    "speed": "A network call and a training step beside the peers'",
    "machine": "The base against its own layers, each timed alone",
    "user": "What a user feels",
    "quality": "The same minutes of training",
}


def keep(part: str, found: dict[str, Any]) -> None:
    """Puts a part into data/results/peers.json, with the commit, the versions and the machine; others stay."""
    path = RESULTS / "peers.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    about = {"commit": commit(), "versions": environment.versions(), "processor": environment.processor()}
    save_result("peers", before | {part: found | about}, path, models=("t5-lite-base", "base64"))


def show() -> str:
    """All parts that have been measured, as markdown."""
    path = RESULTS / "peers.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    texts = []
    for part, title in TITLES.items():
        if part in result:
            one = result[part]
            libraries = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
            end = f"{one['processor']}, {result['hardware']}; {libraries}; commit {one['commit']}."
            texts.append(f"### {title}\n\n{TABLES[part].as_text(one)} {end}")
    return "\n\n".join(texts) or "nothing has been measured yet: python -m experiments.peers"
