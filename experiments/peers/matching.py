"""Sizes at which a peer's U-Net has as many parameters, and takes as many FLOP, as one of ours.

Both counts are as good as quadratic in the channels of the sizes: some networks are measured, the rest calculated from
them, the one that looks best is measured, and so on.
"""

import dataclasses
import json
import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from experiments.peers import environment, networks
from experiments.peers.networks import PEERS, Shape, Size
from imagen_lite import data
from imagen_lite.recipes.evaluation import kept
from imagen_lite.unet import UNetConfig

CLOSE = 0.10  # by how much parameters and FLOP may differ and still be called the same
BLOCKS, TRIES = (1, 2), 8
STEP, WIDEST, STEEPEST = 16, 320, 3  # channels; of one size against the one before
HEADS = {  # channels a head, and heads of imagen-pytorch's; the next only if no shape with the one before fits
    "diffusers": ((32, 4), (16, 4)),
    "imagen-pytorch": ((32, 4), (32, 2), (32, 8)),
}
LEVELS = {1: 4, 2: 3}  # by patch: on whole pixels there is one size more
TEXT_GROUPS = 32  # of `diffusers`' norm of the text, which is as wide as the coarsest size
Measure = Callable[[Shape], Size]


def widths(library: str, levels: int, head: int) -> list[tuple[int, ...]]:
    """All channels that are looked at.

    They do not fall towards the coarse sizes, and are whole multiples: of the norms' groups, in `diffusers` of an
    attention head where there is attention, in imagen-pytorch of the first.
    """
    steps = range(STEP, WIDEST + 1, STEP)
    found = []
    for channels in product(steps, repeat=levels):
        units = [STEP] * (levels - 2) + [head, TEXT_GROUPS]
        units = units if library == "diffusers" else [channels[0]] * levels
        gentle = all(a <= b <= STEEPEST * a for a, b in zip(channels, channels[1:], strict=False))
        if gentle and all(c % unit == 0 for c, unit in zip(channels, units, strict=True)):
            found.append(channels)
    return found


def calculated(all_channels: Sequence[tuple[int, ...]], known: dict[tuple[int, ...], Size]) -> np.ndarray:
    """Millions of parameters, and GFLOP, of each, (n, 2), from those that are known."""
    table = np.stack([[size.parameters, size.gflop] for size in known.values()])
    solution = np.linalg.lstsq(_terms(list(known)), table, rcond=None)[0]
    return _terms(all_channels) @ solution


def _terms(all_channels: Sequence[tuple[int, ...]]) -> np.ndarray:
    """1, every width, every product of two, in units of 100 channels; and what falls away where two are the same."""
    c = np.array(all_channels, dtype=float) / 100
    i, j = np.triu_indices(c.shape[1])
    same = (c[:, :-1] == c[:, 1:]) * c[:, :-1] ** 2
    return np.concatenate([np.ones((len(c), 1)), c, c[:, i] * c[:, j], same], axis=1)


def off(size: Size, target: Size) -> dict[str, float]:
    """By what factor a size is off its target, as a logarithm: in parameters, in GFLOP, and the worse of "both"."""
    one, other = abs(math.log(size.parameters / target.parameters)), abs(math.log(size.gflop / target.gflop))
    return {"both": max(one, other), "parameters": one, "gflop": other}


def search(shape: Shape, target: Size, measure: Measure) -> dict[Shape, Size]:
    """Shapes like this one but for their channels, near the target, measured."""
    grid = widths(shape.library, LEVELS[shape.patch], shape.head)
    first = random.Random(0).sample(grid, min(len(grid), _terms(grid[:1]).shape[1] + 4))
    known = {c: measure(dataclasses.replace(shape, channels=c)) for c in first}
    for _ in range(TRIES):
        table = calculated(grid, known).clip(1e-6)
        order = sorted(range(len(grid)), key=lambda k: off(Size(*table[k]), target)["both"])
        best = next((grid[k] for k in order if grid[k] not in known), None)
        if best is not None:
            known[best] = measure(dataclasses.replace(shape, channels=best))
    return {dataclasses.replace(shape, channels=c): size for c, size in known.items()}


def matched(library: str, patch: int, target: Size, measure: Measure) -> list[dict[str, Any]]:
    """The peer's shape that is nearest to the target; if none has both its parameters and its FLOP, the one with each
    that is nearest in the other."""
    found: dict[Shape, Size] = {}
    ways: dict[Shape, dict[str, float]] = {}
    best, limit = {}, math.log1p(CLOSE)
    for heads, blocks in product(HEADS[library], BLOCKS):
        if blocks == BLOCKS[0] and best and ways[best["both"]]["both"] < limit:
            break
        found |= search(Shape(library, (), blocks, patch, *heads), target, measure)
        ways = {shape: off(size, target) for shape, size in found.items()}
        best = {"both": min(ways, key=lambda shape: ways[shape]["both"])}
    if ways[best["both"]]["both"] > limit:
        near = {what: [s for s in ways if ways[s][what] < limit] for what in ("parameters", "gflop")}
        best = {what: min(some, key=lambda shape: ways[shape]["both"]) for what, some in near.items() if some}
    return [
        {"library": library, "same": what, "shape": dataclasses.asdict(shape), **dataclasses.asdict(found[shape])}
        for what, shape in best.items()
    ]


def matches(config: UNetConfig, side: int) -> list[dict[str, Any]]:
    """Our U-Net, and the peers that are installed at its size, on whole and on folded pixels; found once and kept.

    Raises:
        RuntimeError: neither peer is installed.
    """
    there = [library for library in PEERS if environment.missing(library) is None]
    if not there:
        raise RuntimeError(environment.missing(PEERS[0]))
    target = networks.measure(config, side)
    rows = [{"library": "ours", "same": "", "shape": dataclasses.asdict(config), **dataclasses.asdict(target)}]
    measure = partial(networks.measure, side=side)
    for library in there:
        for patch in LEVELS:
            version = environment.versions()[library]
            name = f"{library}-{version}-{patch}-{side}-{target.parameters:.4f}-{target.gflop:.4f}"
            path = data.cache_folder() / "runs" / "peers" / "matches" / f"{name}.json"
            rows += kept(path, partial(_rows, library, patch, target, measure))["rows"]
    return json.loads(json.dumps(rows))  # lists for tuples, as in a result that was read


def _rows(library: str, patch: int, target: Size, measure: Measure) -> dict[str, Any]:
    return {"rows": matched(library, patch, target, measure)}
