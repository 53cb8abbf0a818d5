"""None, static and dynamic thresholding at growing guidance weights, from several starts of the noise range.

    python -m experiments.thresholds

The table decides where sampling starts (`lambda_start`): eps-prediction divides by alpha to get x0, so the noisier the
start, the wilder the first x0. It should leave "none" sound at w = 1, and let it fail as w grows.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.results import save_result, table
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.evaluate import alignment, colorfulness, outside_share, saturated_share
from imagen_lite.evaluate.alignment_report import PLAIN, cases, interval

STARTS = (-10.0, -8.0, -6.0)
WEIGHTS = (1.0, 3.0, 8.0, 15.0)
THRESHOLDS = ("none", "static", "dynamic")


def starting_at(cascade: Cascade, lambda_start: float) -> Cascade:
    """The same base stage, sampled from another log-SNR."""
    stage = cascade.stages[64]
    sampling = dataclasses.replace(stage.sampling, lambda_start=lambda_start)
    return Cascade(cascade.text_encoder, {64: dataclasses.replace(stage, sampling=sampling)}, cascade.dtype)


def cell(cascade: Cascade, captions: list[str], weight: float, threshold: str, seed: int) -> dict[str, Any]:
    """One cell: alignment, the share of raw x0 outside [-1, 1] at the last step and of values at the range's end."""
    last: list[Tensor] = []
    out = cascade.sample(
        captions, guidance_weight=weight, threshold=threshold, seed=seed, resolution=64,
        callback=lambda _, state: last.append(state.raw_x0) if state.index == state.steps - 1 else None,
    )  # fmt: skip
    hits = torch.tensor([float(v.aligned) for v in alignment(out.images, captions)]).numpy()
    return {
        "weight": weight, "threshold": threshold, "aligned": round(float(hits.mean()), 4), "interval": interval(hits),
        "outside": round(float(outside_share(last[-1]).mean()), 4),
        "at_the_end": round(float(saturated_share(out.images).mean()), 4),
        "colorfulness": round(float(colorfulness(out.images).mean()), 1),
        "finite": bool(last[-1].isfinite().all()),
    }  # fmt: skip


def run(n: int, seed: int = 0) -> dict[str, Any]:
    """The whole table, `n` validation captions a cell."""
    base = load_cascade()
    captions = [c.caption for name in PLAIN for c in cases(name, "val", -(-n // len(PLAIN)))][:n]
    rows = []
    for start in STARTS:
        cascade = starting_at(base, start)
        for weight in WEIGHTS:
            rows += [{"start": start} | cell(cascade, captions, weight, name, seed) for name in THRESHOLDS]
            print(start, weight, [(r["threshold"], r["aligned"], r["at_the_end"]) for r in rows[-3:]], flush=True)
    return {"n": n, "seed": seed, "steps": base.stages[64].sampling.steps, "rows": rows}


def as_text(result: dict[str, Any]) -> str:
    """The table as markdown: alignment, and the share of values at the range's end."""
    rows = []
    for start in STARTS:
        for name in THRESHOLDS:
            cells = [r for r in result["rows"] if (r["start"], r["threshold"]) == (start, name)]
            rows.append([f"{start:g}", name, *(f"{r['aligned']:.2f} ({r['at_the_end']:.0%})" for r in cells)])
    head = ["λ at the start", "threshold", *(f"w = {w:g}" for w in WEIGHTS)]
    return table(head, rows) + (
        f"\n\nAlignment, and in brackets the share of values at the ends of the range; n = {result['n']} validation "
        f"captions a cell, {result['steps']} steps, seed {result['seed']}, {result['hardware']}."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=24, help="captions a cell")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    print(as_text(save_result("thresholds", run(options.n), options.out)))
