"""How a super-resolution stage is best sampled: some samplers on pictures, or windows, of the validation split.

python -m experiments.samplers 256 -n 448      # or 1024; 25 minutes on 2 cores
"""

import argparse
import dataclasses
from typing import Any

from experiments.results import save_result, table
from experiments.superres import consistent, drawer, from_renders
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.stage import STAGES, Sampling

ANCESTRAL = {"method": "ddpm", "steps": 16}
SAMPLERS: dict[int, list[dict[str, Any]]] = {  # what differs from the stage's own, which comes first
    256: [{}, {"spacing": "time"}, {"steps": 8}, {"lambda_start": -3.0}, {"method": "ddpm"}],
    1024: [{}, {"lambda_start": -2.0}, ANCESTRAL, ANCESTRAL | {"lambda_start": -2.0}],
}


def measured(cascade: Cascade, resolution: int, changed: dict[str, Any], n: int) -> dict[str, Any]:
    """One sampler: Fréchet distances against bicubic's, fine detail, colour, and consistency on an eighth of `n`."""
    stage = cascade.stages[resolution]
    sampling = dataclasses.replace(stage.sampling, **changed)
    stages = cascade.stages | {resolution: dataclasses.replace(stage, sampling=sampling)}
    other = Cascade(cascade.text_encoder, stages, cascade.dtype)
    found = from_renders(drawer(other, resolution), resolution, n, split="val")
    psnr = consistent(other, resolution, n // 8, split="val")
    return {"sampling": dataclasses.asdict(sampling), "consistency": psnr} | {
        key: found[key] for key in ("ratio", "power_of_fine_detail", "color_shift")
    }


def as_text(result: dict[str, Any]) -> str:
    """The table as markdown."""
    rows = []
    for i, row in enumerate(result["rows"]):
        s, psnr = Sampling(**row["sampling"]), row["consistency"]
        cells = [
            f"{s.method}, {s.steps} steps even in {'λ' if s.spacing == 'log_snr' else 't'}", f"{s.lambda_start:g}",
            f"{row['ratio']['reader']:.3f}", f"{row['ratio']['random']:.3f}",
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare samplers of a super-resolution stage.")
    parser.add_argument("resolution", type=int, choices=list(SAMPLERS))
    parser.add_argument("-n", type=int, default=448, help="pictures")
    options = parser.parse_args()
    cascade = load_cascade()
    rows = [measured(cascade, options.resolution, changed, options.n) for changed in SAMPLERS[options.resolution]]
    result = {"resolution": options.resolution, "n": options.n, "rows": rows}
    used = ["t5-lite-base", "reader", STAGES[options.resolution]]
    print(as_text(save_result(f"samplers{options.resolution}", result, models=used)))


if __name__ == "__main__":
    main()
