"""What things cost on this machine: medians of a few runs, after one that does not count."""

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from imagen_lite import scenes
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.stage import default_device
from imagen_lite.weights import WeightsError

PROMPT = "a shiny red cone next to a small blue house on the grass"
BATCH = 32  # of the training step
RENDERED = 16  # scenes


def run(repeats: int = 5, device: str | None = None) -> dict[str, Any]:
    """Measures import, rendering, and, where there are weights, sampling of each stage and a training step.

    Returns:
        JSON-able: the machine, and rows of name, seconds (the median), and what that is in other words.
    """
    where = default_device(device)
    rows = [_import_row(repeats), _render_row(repeats, where)]
    try:
        cascade = load_cascade(where)
    except WeightsError as error:
        rows.append({"name": "sampling and training", "note": f"not measured: {error}"})
    else:
        for size in cascade.stages:
            rows.append(_sample_row(cascade, size, repeats))
        rows.append(_training_row(cascade, repeats))
    machine = {
        "python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else f"{where} ({platform.machine()})",
    }  # fmt: skip
    return {"machine": machine, "repeats": repeats, "rows": rows}


def format_rows(result: dict[str, Any]) -> str:
    """The result as a small table."""
    machine = result["machine"]
    lines = [f"torch {machine['torch']} on {machine['device']}, {machine['threads']} threads"]
    for row in result["rows"]:
        seconds = f"{row['seconds']:8.3f} s" if "seconds" in row else " " * 10
        lines.append(f"  {row['name']:<28}{seconds}  {row['note']}")
    return "\n".join([*lines, f"  medians of {result['repeats']} runs, after one to warm up"])


def median_seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The median time of `work`, called once before for warmth."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times[1:]), 4)


def peak_memory(device: torch.device) -> float | None:
    """The most memory held so far, in GB: of the process, or on a GPU of its tensors. None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _import_row(repeats: int) -> dict[str, Any]:
    """In fresh interpreters, whose own start is taken off."""
    code = "import imagen_lite as il; il.load_cascade"
    python, cpu = [sys.executable, "-c"], torch.device("cpu")
    seconds = median_seconds(lambda: subprocess.run([*python, code], check=True), repeats, cpu)
    empty = median_seconds(lambda: subprocess.run([*python, "pass"], check=True), repeats, cpu)
    return {"name": "import, with torch", "seconds": round(seconds - empty, 4), "note": "il.load_cascade in sight"}


def _render_row(repeats: int, device: torch.device) -> dict[str, Any]:
    world = [scenes.sample_scene(seed) for seed in range(RENDERED)]
    seconds = median_seconds(lambda: scenes.render(world, 64, device=device), repeats, device)
    note = f"{RENDERED / seconds:.0f} pictures/s"
    return {"name": f"render {RENDERED} scenes, 64 px", "seconds": seconds, "note": note}


def _sample_row(cascade: Cascade, size: int, repeats: int) -> dict[str, Any]:
    seconds = median_seconds(lambda: cascade.sample([PROMPT], resolution=size), repeats, cascade.device)
    steps = "+".join(str(stage.sampling.steps) for own, stage in cascade.stages.items() if own <= size)
    note = f"{steps} steps, loaded" + (f"; peak memory {peak:.1f} GB" if (peak := peak_memory(cascade.device)) else "")
    return {"name": f"sample one picture, {size} px", "seconds": seconds, "note": note}


def _training_row(cascade: Cascade, repeats: int) -> dict[str, Any]:
    """Forward, backward and AdamW of the base model on noise, in the precision that training uses here."""
    stage = cascade.stages[min(cascade.stages)]
    unet = stage.unet.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-5)
    text = cascade.text_encoder([PROMPT] * BATCH).to(cascade.device)
    eps = torch.randn(BATCH, 3, stage.resolution, stage.resolution, device=cascade.device)
    t = torch.linspace(0.1, 0.9, BATCH, device=cascade.device)

    def step() -> None:
        with torch.autocast(cascade.device.type, cascade.dtype, enabled=cascade.dtype != torch.float32):
            loss = (unet(eps, t, text) - eps).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = median_seconds(step, repeats, cascade.device)
    return {"name": f"training step, batch {BATCH}", "seconds": seconds, "note": f"{BATCH / seconds:.0f} pictures/s"}
