"""What the machine does to sampling: too little memory, Ctrl-C, SIGTERM."""

import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.soak.outcome import Asked, Tally, ended, start

VICTIM = ("-m", "experiments.soak.victim")
SPARE = (1, 10, 30, 100, 300, 1000, 3000)  # megabytes beyond the loaded models
SAMPLE = ("-m", "imagen_lite.cli", "sample", "a red cone", "--steps", "400", "--resolution", "64", "-o")


def memory(asked: Asked) -> dict[str, Any]:
    """16 pictures with ever more memory: advice or a whole picture. A training that wants too much: advice."""
    tally, drawn = Tally(), 0
    with tempfile.TemporaryDirectory() as temporary:
        for spare in SPARE:
            folder = Path(temporary) / str(spare)
            folder.mkdir()
            end = ended(start([*VICTIM, "bounded", str(folder), str(spare)]))
            there = [path.name for path in folder.iterdir()]
            drawn += end.code == 0
            trouble = end.trouble(0) if end.code == 0 else end.trouble(1, "ask for less at once")
            wrong = there != (["out.png"] if end.code == 0 else [])
            tally.add(f"{spare} MB: {trouble}" if trouble else f"{spare} MB: left {there}" if wrong else None)
        folder = Path(temporary) / "training"
        trouble = ended(start([*VICTIM, "greedy", str(folder)])).trouble(1, "out of memory at batch 4", "batch=2")
        steps = [line for line in (folder / "log.jsonl").read_text().splitlines() if line]
        tally.add(trouble or (None if len(steps) == 10 else f"{len(steps)} steps are kept of 10"))
    return tally.outcome(f"{drawn} of {len(SPARE)} limits left enough to draw")


def until_it_says(process: subprocess.Popen, word: str) -> None:
    """Reads what a process says until it says that."""
    assert process.stdout
    for line in process.stdout:
        if word in line:
            return


def signals(asked: Asked) -> dict[str, Any]:
    """While sampling, and half-way through writing: an exit code that says so, the old picture whole, no other file."""
    tally, rng = Tally(), random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as temporary:
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            for name, word, count in (("sampling", "Loaded", 3), ("writing", "writing", 2)):
                for _ in range(count):
                    folder = Path(temporary) / str(tally.tried)
                    folder.mkdir()
                    (folder / "out.png").write_bytes(b"old")
                    arguments = (*SAMPLE, "out.png") if name == "sampling" else (*VICTIM, "slow", ".")
                    victim = start(arguments, {"PYTHONUNBUFFERED": "1"}, folder)
                    until_it_says(victim, word)
                    time.sleep(rng.uniform(0, 1))
                    victim.send_signal(number)
                    trouble = ended(victim, 60).trouble(code)
                    kept = [path.name for path in folder.iterdir()] == ["out.png"]
                    kept = kept and (folder / "out.png").read_bytes() == b"old"
                    told = f"{name}, {number.name}: {trouble or 'another picture, or a file left behind'}"
                    tally.add(None if kept and not trouble else told)
    return tally.outcome("exit codes 130 and 143, the old picture whole")
