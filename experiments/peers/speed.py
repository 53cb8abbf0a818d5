"""Seconds of a network call and of a training step, ours beside the peers', in turns.

A round measures every network once, each in a process of its own, so that whatever else the machine does hits all of
them alike; what is compared is of the same round. The first round does not count: in it each network finds the memory
format that suits it best.
"""

import statistics
from typing import Any

import torch
from tqdm.auto import tqdm

from experiments.peers import matching
from experiments.peers.worker import FORMATS, ask
from experiments.results import table
from imagen_lite.recipes.base64 import UNET

SIDE = 64
CASES = tuple(
    {"work": work, "batch": batch, "dtype": dtype, "repeats": repeats}
    for dtype in ("float32", "bfloat16")
    for work, batch, repeats in (("forward", 1, 15), ("forward", 8, 5), ("training", 16, 3))
)
THREADS = (1, 2)
PASSES = {"forward": 1, "training": 3}  # of a training step two more backwards, as is usual to count


def measure(rounds: int = 5, scale: float = 1.0, device: str = "cpu") -> dict[str, Any]:
    """All networks and cases; rows with the median over the rounds.

    Args:
        scale: of the repeats within a round.
    """
    networks = matching.matches(UNET, SIDE)
    threads = THREADS if device == "cpu" else THREADS[-1:]
    formats: dict[tuple[int, int, int], list[str]] = {}
    found: dict[tuple[int, int, int], list[float]] = {}
    turns = [(r, n, i) for r in range(rounds + 1) for n in threads for i in range(len(networks))]
    for r, n, i in tqdm(turns, desc="measuring"):
        keys = [(n, i, c) for c in range(len(CASES))]
        cases = [case | {"formats": formats.get(key, list(FORMATS))} for case, key in zip(CASES, keys, strict=True)]
        answers = ask("speed", n, row=networks[i], cases=cases, side=SIDE, scale=scale, device=device)["answers"]
        for key, answer in zip(keys, answers, strict=True):
            formats[key] = [answer["format"]]
            if r:
                found.setdefault(key, []).append(answer["seconds"])
    rows = [
        {"network": i, "threads": n, **CASES[c], "format": formats[n, i, c][0],
         **compared(seconds, found[n, 0, c], networks[i]["gflop"], networks[0]["gflop"], CASES[c])}
        for (n, i, c), seconds in found.items()
    ]  # fmt: skip
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {"device": name, "rounds": rounds, "n": SIDE, "networks": networks, "rows": rows}


def compared(
    seconds: list[float], ours: list[float], gflop: float, our_gflop: float, case: dict[str, Any]
) -> dict[str, float]:
    """The median over the rounds of the seconds, of those a GFLOP, and of how many times ours those are.

    Args:
        seconds, ours: of each round. gflop, our_gflop: of a network call for one picture.
    """
    calls = case["batch"] * PASSES[case["work"]]
    ratios = [(a / gflop) / (b / our_gflop) for a, b in zip(seconds, ours, strict=True)]
    middle = statistics.median(seconds)
    return {
        "seconds": round(middle, 5), "least": round(min(seconds), 5), "most": round(max(seconds), 5),
        "seconds_a_gflop": round(middle / (calls * gflop), 7), "times_ours": round(statistics.median(ratios), 3),
    }  # fmt: skip


def told(network: dict[str, Any]) -> str:
    """A network in a few words."""
    if network["library"] == "ours":
        return "ours"
    how = {"both": "", "parameters": ", same parameters alone", "gflop": ", same FLOP alone"}[network["same"]]
    return f"{network['library']}, {'folded' if network['shape']['patch'] > 1 else 'whole'} pixels{how}"


def as_text(result: dict[str, Any]) -> str:
    """Two tables: the networks, and seconds with, in brackets, milliseconds a GFLOP and how many times ours."""
    networks = result["networks"]
    sizes = [
        [told(n), f"{n['parameters']:.2f}", f"{n['gflop']:.2f}",
         _dashed(n["shape"]["channels"]), _dashed(n["shape"]["blocks"])]
        for n in networks
    ]  # fmt: skip
    kinds = list(dict.fromkeys((row["work"], row["batch"]) for row in result["rows"]))
    lines = []
    for threads, dtype in dict.fromkeys((row["threads"], row["dtype"]) for row in result["rows"]):
        for i, network in enumerate(networks):
            some = {
                (row["work"], row["batch"]): row
                for row in result["rows"]
                if (row["network"], row["threads"], row["dtype"]) == (i, threads, dtype)
            }
            lines.append(
                [str(threads), dtype, told(network), *(_cell(some[kind]) if kind in some else "" for kind in kinds)]
            )
    about = (
        f"{result['n']} px; networks have the parameters and FLOP of ours where not said otherwise; medians of "
        f"{result['rounds']} rounds, in brackets milliseconds a GFLOP and how many times ours those are; a training "
        f"step counts as three network calls."
    )
    return "\n\n".join([
        table(["network", "parameters, M", "GFLOP a picture", "channels", "blocks"], sizes),
        table(["threads", "dtype", "network", *(f"{work}, batch {batch}" for work, batch in kinds)], lines), about,
    ])  # fmt: skip


def _cell(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.3f} s ({1000 * row['seconds_a_gflop']:.2f}, × {row['times_ours']:.2f})"


def _dashed(values: int | list[int]) -> str:
    return str(values) if isinstance(values, int) else "-".join(map(str, values))
