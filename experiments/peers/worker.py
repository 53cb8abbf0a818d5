"""What one process measures: a request as JSON on standard input, the answer as JSON on the last line that it prints.

A process of its own for each measurement, so that it has the threads that it should, and no other library in memory.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from experiments.peers.networks import LENGTH, Shape, build, inputs
from experiments.results import ROOT
from imagen_lite.recipes.stages import precision
from imagen_lite.unet import UNetConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FORMATS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}
JOBS = {"speed": "worker", "machine": "machine", "user": "user"}  # module of this package


def ask(job: str, threads: int, **request: Any) -> dict[str, Any]:
    """Has a process of so many threads do a job (the function of that name); its answer.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "experiments.peers.worker"], input=json.dumps({"job": job, **request}),
        capture_output=True, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"measuring {job} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def seconds(work: Callable[[], object], repeats: int, device: torch.device, warm: int = 1) -> float:
    """The median time of `work`, called so often before for warmth."""
    times = []
    for _ in range(warm + repeats):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm:])


def speed(
    row: dict[str, Any], cases: list[dict[str, Any]], side: int, scale: float, device: str = "cpu"
) -> dict[str, Any]:
    """Seconds of each case, {"work", "batch", "dtype", "repeats", "formats"}, in the format that is faster there.

    Args:
        row: of `matching.matches`. scale: of the repeats.
    """
    where = torch.device(device)
    ours = row["library"] == "ours"
    shape = UNetConfig.from_dict(row["shape"]) if ours else Shape.from_dict(row["shape"])
    answers = []
    for case in cases:
        found = {}
        for name in case["formats"]:
            torch.manual_seed(0)
            model = build(shape, LENGTH).to(where, memory_format=FORMATS[name])  # pyright: ignore
            make = training if case["work"] == "training" else forward
            work = make(model, case["batch"], side, DTYPES[case["dtype"]], FORMATS[name])
            found[name] = seconds(work, max(1, round(scale * case["repeats"])), where)
        best = min(found, key=lambda name: found[name])
        answers.append({"format": best, "seconds": found[best]})
    return {"answers": answers}


def forward(
    model: torch.nn.Module, batch: int, side: int, dtype: torch.dtype, memory: torch.memory_format
) -> Callable[[], object]:
    """A network call, as a sampler makes it."""
    model.eval().requires_grad_(False)
    device = next(model.parameters()).device
    x_t, t, text = inputs(batch, side, device)
    x_t = x_t.contiguous(memory_format=memory)

    def work() -> None:
        with torch.inference_mode(), precision(device, dtype):
            model(x_t, t, text)

    return work


def training(
    model: torch.nn.Module, batch: int, side: int, dtype: torch.dtype, memory: torch.memory_format
) -> Callable[[], object]:
    """A training step: the mean squared error of eps, backwards, AdamW."""
    optimizer = torch.optim.AdamW(model.train().parameters(), 1e-5, fused=True)
    device = next(model.parameters()).device
    x_t, t, text = inputs(batch, side, device)
    x_t = x_t.contiguous(memory_format=memory)

    def work() -> None:
        with precision(device, dtype):
            loss = (model(x_t, t, text) - x_t).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


def main() -> None:
    """One request."""
    request = json.load(sys.stdin)
    job = request.pop("job")
    function = speed if job == "speed" else getattr(importlib.import_module(f"experiments.peers.{JOBS[job]}"), job)
    print(json.dumps(function(**request)))


if __name__ == "__main__":
    main()
