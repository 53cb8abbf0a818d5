"""What a user feels, beyond what `imagen-lite bench` tells: encoding, a sweep of weights, prompts, a cold start."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from experiments.peers.worker import ask, seconds
from experiments.results import table
from imagen_lite import scenes
from imagen_lite.bench import PROMPT
from imagen_lite.cascade import load_cascade
from imagen_lite.stage import default_dtype

WEIGHTS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
PROMPTS = 64


def user(repeats: int, device: str = "cpu", sizes: tuple[int, ...] = (64, 256, 1024)) -> dict[str, Any]:
    """In a process of its own: what is felt, name and seconds."""
    where = torch.device(device)
    cascade = load_cascade(where)
    scene = scenes.sample_scene(0)
    sweep = torch.tensor(WEIGHTS, device=where)
    many = [f"{PROMPT}, {i}" for i in range(PROMPTS)]
    works: dict[str, Any] = {
        "load the cascade": lambda: load_cascade(where),
        "encode a prompt": lambda: cascade.text_encoder([PROMPT]),
        f"encode {PROMPTS} prompts": lambda: cascade.text_encoder(many),
        "render a scene, 1024 px": lambda: scenes.render([scene], 1024, device=where),
        f"{len(WEIGHTS)} guidance weights in one call, 64 px": lambda: cascade.sample(
            [PROMPT] * len(WEIGHTS), guidance_weight=sweep, seed=[0] * len(WEIGHTS), resolution=64
        ),
        f"{PROMPTS} prompts, 64 px": lambda: cascade.sample(many, resolution=64),
    }
    works |= {f"prompt to {s} px": lambda s=s: cascade.sample([PROMPT], resolution=s) for s in sizes}
    works["prompt to a file of the largest size, from a cold start"] = lambda: cold(device, max(sizes))
    found = {name: round(seconds(work, repeats, where), 4) for name, work in works.items()}
    return {"found": found, "dtype": str(default_dtype(where)).removeprefix("torch.")}


def cold(device: str, size: int) -> None:
    """What `make demo` runs, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out.png")
        command = [sys.executable, "-m", "imagen_lite.cli", "sample", PROMPT, "-o", out, "--device", device]
        subprocess.run([*command, "--resolution", str(size)], check=True, capture_output=True)


def measure(rounds: int = 3, scale: float = 1.0, device: str = "cpu") -> dict[str, Any]:
    """Medians over rounds, with all cores."""
    threads, repeats = os.cpu_count() or 1, max(1, round(2 * scale))
    answers = [ask("user", threads, repeats=repeats, device=device) for _ in range(rounds)]
    rows = [
        {"name": name, "seconds": statistics.median(answer["found"][name] for answer in answers)}
        for name in answers[0]["found"]
    ]
    return {"rounds": rounds, "n": 1, "threads": threads, "dtype": answers[0]["dtype"], "rows": rows}


def as_text(result: dict[str, Any]) -> str:
    """A row for each."""
    lines = [[row["name"], f"{row['seconds']:.3f} s"] for row in result["rows"]]
    about = f"Medians of {result['rounds']} rounds, {result['threads']} threads, {result['dtype']}."
    return table(["what", "measured"], lines) + f"\n\n{about}"
