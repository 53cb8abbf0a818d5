"""What a training is put through: kill -9 at any moment, another one in its folder, Ctrl-C and SIGTERM."""

import json
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from experiments.soak.outcome import Asked, Tally, ended, start

VICTIM = ("-m", "experiments.soak.victim", "checkpoint")


def train(folder: Path, steps: int, width: int = 256, minutes: float = 0.0, pause: float = 0.0) -> subprocess.Popen:
    """The toy training (`victim.checkpoint`), begun."""
    return start([*VICTIM, str(folder), str(steps), str(width), str(minutes), str(pause)])


def losses(folder: Path) -> dict[int, set[float]]:
    """All that the log says of each step."""
    said: dict[int, set[float]] = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        said.setdefault(row["step"], set()).add(row["loss"])
    return said


def difference(folder: Path, whole: Path) -> str | None:
    """In what a run that was disturbed differs from one that was not."""
    one, other = (load_file(place / "state.safetensors") for place in (folder, whole))
    if one.keys() != other.keys() or not all(torch.equal(one[name], other[name]) for name in one):
        return "other weights"
    expected = losses(whole)
    return "other losses" if any(said != expected[step] for step, said in losses(folder).items()) else None


def until_it_steps(process: subprocess.Popen, folder: Path) -> bool:
    """Waits until a training writes to its log; False if it ended before."""
    log = folder / "log.jsonl"
    size = log.stat().st_size if log.exists() else 0
    while process.poll() is None:
        if log.exists() and log.stat().st_size > size:
            return True
        time.sleep(0.002)
    return False


def kills(asked: Asked) -> dict[str, Any]:
    """kill -9 at random moments, most of them within `save_state`; in the end, weights and losses bit for bit."""
    tally, rng, torn = Tally(), random.Random(asked.seed), 0
    steps = 40 * asked.kills
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = Path(temporary) / "whole", Path(temporary) / "killed"
        tally.add(ended(train(whole, steps)).trouble(0))
        for _ in range(asked.kills):
            victim = train(killed, steps)
            if not until_it_steps(victim, killed):
                tally.add(f"did not go on: {ended(victim).last[:120]}")
                break
            time.sleep(rng.uniform(0, 0.15))
            victim.kill()
            ended(victim)
            torn += any(killed.glob(".state.safetensors.*.tmp"))
            tally.add(None)
        tally.add(ended(train(killed, steps)).trouble(0) or difference(killed, whole))
        left = [path.name for path in killed.iterdir() if path.name not in ("state.safetensors", "log.jsonl", "lock")]
    tally.add(f"left behind: {left}" if left else None)
    return tally.outcome(f"{torn} of {asked.kills} kills within save_state; {steps} steps, compared bit for bit")


def two(asked: Asked) -> dict[str, Any]:
    """A second training in the same folder: refused in a sentence; the first is unharmed, and its death unlocks."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        tally.add(ended(train(whole, 300)).trouble(0))
        for number in range(3):
            shared = Path(temporary) / f"shared{number}"
            first = train(shared, 300, pause=0.1)
            until_it_steps(first, shared)
            tally.add(ended(train(shared, 300)).trouble(1, "another training is at work there", "another folder"))
            if number:
                first.kill()
            else:
                first.send_signal(signal.SIGTERM)
            ended(first)
            tally.add(ended(train(shared, 300)).trouble(0) or difference(shared, whole))
    return tally.outcome("the second is refused; after a kill -9 of the first it may begin")


def stops(asked: Asked) -> dict[str, Any]:
    """SIGINT and SIGTERM at random moments: exit code 0, the last whole step saved; resumed, bit for bit."""
    tally, rng = Tally(), random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        tally.add(ended(train(whole, 200)).trouble(0))
        for number in (signal.SIGINT, signal.SIGTERM) * 3:
            stopped = Path(temporary) / f"stopped{tally.tried}"
            victim = train(stopped, 200, pause=0.02)
            until_it_steps(victim, stopped)
            time.sleep(rng.uniform(0, 0.5))
            victim.send_signal(number)
            trouble = ended(victim).trouble(0)
            last = max(losses(stopped))
            trouble = trouble or (None if last < 200 else "not stopped")
            tally.add(trouble or ended(train(stopped, 200)).trouble(0) or difference(stopped, whole))
    return tally.outcome()
