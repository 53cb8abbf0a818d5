"""How a stage is best sampled: the base by alignment, super-resolution by its pictures, all on the validation split.

python -m experiments.samplers 64        # 400 captions; half an hour on 2 cores; it goes on where it was stopped
python -m experiments.samplers 256       # 448 pictures, or windows for 1024; 25 minutes
"""

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from experiments.claims.lab import side_by_side
from experiments.claims.results import folder_of
from experiments.distances import distance, nearer, numbers
from experiments.results import BASE, save_result, table, with_interval
from experiments.superres import consistent, drawer, from_renders
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.evaluate import alignment
from imagen_lite.evaluate.alignment_report import cases, interval, training_captions
from imagen_lite.evaluate.fidelity import reader_features
from imagen_lite.recipes.evaluation import kept
from imagen_lite.scenes.renderer import render
from imagen_lite.stage import STAGES, Sampling

BATCH = 50  # pictures drawn at once
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


def base_rows(n: int) -> list[dict[str, Any]]:
    """All samplers of the base: the share of captions with two things drawn right, the Fréchet distance to renders of
    the same scenes, and how both differ from the first's. What was drawn is kept, and read the next time."""
    some, stage = cases("two things", "val", n, training_captions()), load_cascade().stages[64]
    real = torch.cat([render([case.scene for case in some[i : i + BATCH]], 64).cpu() for i in range(0, n, BATCH)])
    like, captions = np.array(numbers(reader_features(real))), [case.caption for case in some]
    jobs = [
        partial(base_part, changed, captions[i : i + BATCH], i) for changed in SAMPLERS[64] for i in range(0, n, BATCH)
    ]
    parts, each = side_by_side(jobs), -(-n // BATCH)
    hits, features, rows = [], [], []
    for k, changed in enumerate(SAMPLERS[64]):
        own = parts[k * each : (k + 1) * each]
        hits.append(np.array([right for part in own for right in part["right"]], float))
        features.append(np.array([row for part in own for row in part["features"]]))
        more, first, last = hits[-1] - hits[0], features[0], features[-1]
        rows.append({
            "sampling": dataclasses.asdict(dataclasses.replace(stage.sampling, **changed)),
            "aligned": round(hits[-1].mean(), 4), "interval": interval(hits[-1]),
            "difference": round(more.mean(), 4), "difference_interval": interval(more),
            "frechet": round(distance(last, like), 4), "further": round(nearer(first, last, like), 4),
            "further_interval": interval(first, last, like, statistic=nearer, resamples=200),
        })  # fmt: skip
    return rows


def base_part(changed: dict[str, Any], captions: list[str], seed: int) -> dict[str, Any]:
    """Which captions one sampler draws right, and the reader's features of what it draws; picture i has seed + i."""

    def find() -> dict[str, Any]:
        weight = sampling.guidance_weight
        images = cascade.sample(captions, guidance_weight=weight, seed=seed, resolution=64).images.cpu()
        right = [verdict.aligned for verdict in alignment(images, captions)]
        return {"right": right, "features": numbers(reader_features(images))}

    cascade, sampling = sampled(load_cascade(), 64, changed)
    name = "-".join(map(str, dataclasses.astuple(sampling)))
    return kept(folder_of("samplers64") / f"{name}-{seed}-{len(captions)}.json", find)


def base_text(result: dict[str, Any]) -> str:
    """The base's table as markdown."""
    rows = []
    for i, row in enumerate(result["rows"]):
        cells = [
            *_name(row), with_interval(row["aligned"], row["interval"], ".3f"),
            with_interval(row["difference"], row["difference_interval"], "+.3f") if i else "", f"{row['frechet']:.3f}",
            with_interval(row["further"], row["further_interval"], "+.3f") if i else "",
        ]  # fmt: skip
        rows.append([f"**{cell}**" if cell else "" for cell in cells] if i == 0 else cells)
    head = ["sampler", "first λ", "two things drawn right", "against the first", "Fréchet distance",
            "against the first"]  # fmt: skip
    weight = result["rows"][0]["sampling"]["guidance_weight"]
    return table(head, rows) + (
        f"\n\n{result['n']} validation captions, w = {weight:g}, seed 0; the first row is how the stage is sampled; "
        f"the distance is that to renders of the same scenes, on the reader's features; differences are paired; 95 % "
        f"bootstrap intervals; {result['hardware']}; `python -m experiments.samplers 64`."
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
    parser.add_argument("-n", type=int, help="captions (by default 400), or pictures (448)")
    options = parser.parse_args(arguments)
    cascade, size = load_cascade(), options.resolution
    n = options.n or (400 if size == 64 else 448)
    rows = base_rows(n) if size == 64 else [measured(cascade, size, other, n) for other in SAMPLERS[size]]
    result = {"resolution": size, "n": n, "rows": rows}
    result = save_result(f"samplers{size}", result, models=[*BASE[:2], STAGES[size]])
    print(base_text(result) if size == 64 else as_text(result))


if __name__ == "__main__":
    main()
