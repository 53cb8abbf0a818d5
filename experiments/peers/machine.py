"""Our network against the machine: the whole against the sum of its parts, each timed alone; and the measured peak.

The parts are the operations below autocast, with the very tensors, dtypes and memory formats that the network gave
them. Its layers are convolutions, linear layers, attention and norms; the rest is activations, sums and copies.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from experiments.peers.networks import inputs
from experiments.peers.worker import DTYPES, ask, seconds
from experiments.results import table
from imagen_lite import sampler, weights
from imagen_lite.guidance import guided
from imagen_lite.recipes.stages import precision
from imagen_lite.sampler import keyed_noise, time_grid
from imagen_lite.stage import Stage, load_stage
from imagen_lite.thresholding import dynamic_threshold

KINDS = {  # part of an operation's name -> what it belongs to
    "convolution": "convolution", "conv2d": "convolution", "linear": "linear", "addmm": "linear", "mm": "linear",
    "bmm": "linear", "scaled_dot_product": "attention", "group_norm": "norm", "layer_norm": "norm",
}  # fmt: skip
LAYERS = ("convolution", "linear", "attention", "norm")
BATCHES = (2, 16)
THREADS = (1, 2)
Call = tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Recorder(TorchDispatchMode):
    """Keeps every operation with its arguments, in `calls`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Does what was asked, and keeps it unless it only looks at a tensor in another way."""
        if not func.is_view:
            self.calls.append((kind(func.overloadpacket.__name__), func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def kind(name: str) -> str:
    """Which of `LAYERS` an operation belongs to, or "rest"."""
    name = name.removeprefix("native_").lstrip("_")
    return next((told for part, told in KINDS.items() if name == part or (len(part) > 5 and part in name)), "rest")


def parts(work: Callable[[], object], repeats: int, device: torch.device) -> dict[str, float]:
    """Seconds of all operations of `work`, each alone and warm, summed by their kinds."""
    with torch.no_grad(), Recorder() as recorder:
        work()
    sums = dict.fromkeys((*LAYERS, "rest"), 0.0)
    with torch.inference_mode():
        for what, func, args, kwargs in recorder.calls:
            sums[what] += seconds(lambda f=func, a=args, k=kwargs: f(*a, **k), repeats, device)
    return {what: round(value, 6) for what, value in sums.items()}


def guided_step(stage: Stage, pictures: int, dtype: torch.dtype, repeats: int) -> float:
    """Seconds of a guided step of the sampler, both halves of guidance, threshold and solver: all steps by their
    number. The text is embedded before."""
    device = next(stage.unet.parameters()).device
    size, own = stage.resolution, stage.sampling
    text = inputs(pictures, size, device)[2]
    levels = time_grid(own.steps, stage.schedule, spacing=own.spacing, lambda_start=own.lambda_start)

    def unet(x_t: Tensor, t: Tensor, *conditions: Any) -> Tensor:
        with precision(device, dtype):
            return stage.unet(x_t, stage.schedule.angle(t), *conditions)

    def work() -> None:
        noise = keyed_noise(0, (pictures, 3, size, size), device)
        predict = guided(unet, text, own.guidance_weight, kind=stage.kind)
        for _ in sampler.sample(predict, noise, levels, threshold=dynamic_threshold, step=sampler.STEPS[own.method]):
            pass

    return seconds(work, repeats, device) / own.steps


def peak(dtype: torch.dtype, repeats: int, device: torch.device) -> float:
    """GFLOP/s of the best of three large convolutions 3×3."""
    best = 0.0
    for channels in (128, 256, 512):
        x = torch.randn(16, channels, 32, 32, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        w = w.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            took = seconds(lambda x=x, w=w: F.conv2d(x, w, padding=1), repeats, device)
        best = max(best, 2 * 9 * channels**2 * x[:, 0].numel() / took / 1e9)
    return best


def machine(dtype: str, scale: float, device: str = "cpu") -> dict[str, Any]:
    """In a process of its own: all of it in one dtype."""
    where, number = torch.device(device), DTYPES[dtype]
    stage = load_stage(weights.DATA / "weights" / "base64", where)
    times = max(1, round(10 * scale))
    rows = []
    for batch in BATCHES:
        x = inputs(batch, stage.resolution, where)

        def work(x: Any = x) -> None:
            with precision(where, number):
                stage.unet(*x)

        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work()
        with torch.inference_mode():
            whole = seconds(work, times, where)
        rows.append({
            "batch": batch, "gflop": round(counter.get_total_flops() / 1e9, 3), "whole": round(whole, 6),
            "parts": parts(work, times, where),
            "guided_step": round(guided_step(stage, batch // 2, number, max(1, times // 4)), 6),
        })  # fmt: skip
    return {"peak": round(peak(number, times, where), 1), "rows": rows}


def measure(rounds: int = 3, scale: float = 1.0, device: str = "cpu") -> dict[str, Any]:
    """All threads and dtypes in turns; medians over the rounds."""
    rows = []
    for threads in THREADS if device == "cpu" else THREADS[-1:]:
        answers = {
            d: [ask("machine", threads, dtype=d, scale=scale, device=device) for _ in range(rounds)] for d in DTYPES
        }
        for dtype, some in answers.items():
            for i, first in enumerate(some[0]["rows"]):
                each = [answer["rows"][i] for answer in some]
                middle = {k: statistics.median(row["parts"][k] for row in each) for k in first["parts"]}
                layers = sum(middle[k] for k in LAYERS)
                whole, step = (statistics.median(row[k] for row in each) for k in ("whole", "guided_step"))
                rows.append({
                    "threads": threads, "dtype": dtype, "batch": first["batch"], "gflop": first["gflop"],
                    "whole": whole, "guided_step": step, "parts": middle, "layers": round(layers, 6),
                    "peak": statistics.median(answer["peak"] for answer in some),
                    "forward_share": round(layers / whole, 3), "step_share": round(layers / step, 3),
                })  # fmt: skip
    return {"rounds": rounds, "n": 64, "rows": rows}


def as_text(result: dict[str, Any]) -> str:
    """A row for each threads, dtype and batch."""
    head = ["threads", "dtype", "batch", "layers alone, ms", "convolutions", "network call", "guided step",
            "layers / call", "layers / step", "GFLOP/s, call; peak"]  # fmt: skip
    lines = [
        [str(r["threads"]), r["dtype"], str(r["batch"]), f"{1000 * r['layers']:.1f}",
         f"{r['parts']['convolution'] / r['layers']:.0%}", f"{1000 * r['whole']:.1f}", f"{1000 * r['guided_step']:.1f}",
         f"{r['forward_share']:.0%}", f"{r['step_share']:.0%}", f"{r['gflop'] / r['whole']:.0f}; {r['peak']:.0f}"]
        for r in result["rows"]
    ]  # fmt: skip
    return table(head, lines) + f"\n\nMedians of {result['rounds']} rounds; a guided step has half as many pictures."
