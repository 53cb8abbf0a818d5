"""How a stage is best sampled: the base by alignment, super-resolution by its pictures, all on the validation split.

python -m experiments.samplers 64        # 100 captions; 25 minutes on 2 cores
python -m experiments.samplers 256       # 448 pictures, or windows for 1024; 25 minutes
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.results import save_result, table, with_interval
from experiments.superres import consistent, drawer, from_renders
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.evaluate.alignment_report import cases, draw, interval, training_captions, verdicts
from imagen_lite.stage import STAGES, Sampling

ANCESTRAL = {"method": "ddpm", "steps": 16}
SAMPLERS: dict[int, list[dict[str, Any]]] = {  # what differs from the stage's own, which comes first
    64: [
        {},
        {"spacing": "time"},
        {"steps": 8},
        {"steps": 24},
        {"lambda_start": -10.0},
        {"lambda_start": -6.0},
        {"method": "ddim"},
        {"method": "ddpm"},
        {"method": "ddpm", "steps": 256},
    ],
    256: [{}, {"spacing": "time"}, {"steps": 8}, {"lambda_start": -3.0}, {"method": "ddpm"}],
    1024: [{}, {"lambda_start": -2.0}, ANCESTRAL, ANCESTRAL | {"lambda_start": -2.0}],
}


def sampled(cascade: Cascade, resolution: int, changed: dict[str, Any]) -> tuple[Cascade, Sampling]:
    """The cascade with one stage sampled in another way, and that way."""
    stage = cascade.stages[resolution]
    sampling = dataclasses.replace(stage.sampling, **changed)
    stages = cascade.stages | {resolution: dataclasses.replace(stage, sampling=sampling)}
    return Cascade(cascade.text_encoder, stages, cascade.dtype), sampling


def base_rows(cascade: Cascade, n: int, batch: int = 50) -> list[dict[str, Any]]:
    """All samplers of the base: the share of captions with two things drawn right, and its difference to the first."""
    captions, rows = [case.caption for case in cases("two things", "val", n, training_captions())], []
    first = None
    for changed in SAMPLERS[64]:
        other, sampling = sampled(cascade, 64, changed)
        drawn = draw(other, captions, sampling.guidance_weight, 0, batch)
        hits = np.array([verdict.aligned for verdict in verdicts(drawn, captions)], float)
        first = hits if first is None else first
        rows.append({
            "sampling": dataclasses.asdict(sampling), "aligned": round(hits.mean(), 4), "interval": interval(hits),
            "difference": round((hits - first).mean(), 4), "difference_interval": interval(hits - first),
        })  # fmt: skip
        print(changed, rows[-1]["aligned"], flush=True)
    return rows


def base_text(result: dict[str, Any]) -> str:
    """The base's table as markdown."""
    rows = []
    for i, row in enumerate(result["rows"]):
        against = with_interval(row["difference"], row["difference_interval"], "+.3f") if i else ""
        cells = [*_name(row), with_interval(row["aligned"], row["interval"], ".3f"), against]
        rows.append([f"**{cell}**" if cell else "" for cell in cells] if i == 0 else cells)
    weight = result["rows"][0]["sampling"]["guidance_weight"]
    return table(["sampler", "first λ", "two things drawn right", "against the first, paired"], rows) + (
        f"\n\n{result['n']} validation captions, w = {weight:g}, seed 0; the first row is how the stage is sampled; "
        f"95 % bootstrap intervals; {result['hardware']}; `python -m experiments.samplers 64`."
    )


def _name(row: dict[str, Any]) -> tuple[str, str]:
    """A sampler in words, and its first log-SNR."""
    s = Sampling(**row["sampling"])
    return f"{s.method}, {s.steps} steps even in {'λ' if s.spacing == 'log_snr' else 't'}", f"{s.lambda_start:g}"


def measured(cascade: Cascade, resolution: int, changed: dict[str, Any], n: int) -> dict[str, Any]:
    """One sampler: Fréchet distances against bicubic's, fine detail, colour, and consistency on an eighth of `n`."""
    other, sampling = sampled(cascade, resolution, changed)
    found = from_renders(drawer(other, resolution), resolution, n, split="val")
    psnr = consistent(other, resolution, n // 8, split="val")
    return {"sampling": dataclasses.asdict(sampling), "consistency": psnr} | {
        key: found[key] for key in ("ratio", "power_of_fine_detail", "color_shift")
    }


def as_text(result: dict[str, Any]) -> str:
    """The table as markdown."""
    rows = []
    for i, row in enumerate(result["rows"]):
        psnr = row["consistency"]
        cells = [
            *_name(row), f"{row['ratio']['reader']:.3f}", f"{row['ratio']['random']:.3f}",
            f"{row['power_of_fine_detail']['drawn']:.2f}", f"{psnr['psnr_db']:.1f} dB ({psnr['least']:.1f})",
            f"{max(map(abs, row['color_shift']['drawn'])):.4f}",
        ]  # fmt: skip
        rows.append([f"**{cell}**" for cell in cells] if i == 0 else cells)
    head = ["sampler", "first λ", "drawn / bicubic, by the reader's features", "by random ones", "fine detail",
            "consistency (least)", "largest shift of a channel"]  # fmt: skip
    return table(head, rows) + (
        f"\n\n{result['resolution'] // 4} → {result['resolution']}, {result['n']} validation pictures or windows (an "
        f"eighth of them for consistency), w = 1, seed 0; the first row is how the stage is sampled; "
        f"{result['hardware']}; `python -m experiments.samplers {result['resolution']}`."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare samplers of a stage.")
    parser.add_argument("resolution", type=int, choices=list(SAMPLERS))
    parser.add_argument("-n", type=int, help="captions (by default 100), or pictures (448)")
    options = parser.parse_args(arguments)
    cascade, size = load_cascade(), options.resolution
    n = options.n or (100 if size == 64 else 448)
    rows = base_rows(cascade, n) if size == 64 else [measured(cascade, size, other, n) for other in SAMPLERS[size]]
    result = {"resolution": size, "n": n, "rows": rows}
    result = save_result(f"samplers{size}", result, models=["t5-lite-base", "reader", STAGES[size]])
    print(base_text(result) if size == 64 else as_text(result))


if __name__ == "__main__":
    main()
