"""Keeps what a run of base64 looked like on its way: its milestones' pictures in one sheet, and its losses.

python -m experiments.milestones        # from the run in the user's cache
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.results import save_result
from imagen_lite import data, viz, weights
from imagen_lite.recipes.base64 import GPU, PROMPTS

SHEET = weights.DATA / "readme" / "milestones.jpg"
SHOWN = (0, 1, 2, 4, 12, 10, 13, 8)  # of `PROMPTS`
COLUMNS, SIDE, POINTS = 8, 64, 200  # of a milestone's grid, pixels of each picture, points of the curve


def sheet(folder: Path, first: int = 128_000) -> tuple[Image.Image, list[int]]:
    """The pictures of `SHOWN`, a row each milestone from `first` on, and how many pictures each had seen."""
    paths = [path for path in sorted(folder.glob("*.png")) if int(path.stem) >= first]
    rows = []
    for path in paths:
        drawn = Image.open(path).convert("RGB")
        side = (drawn.width + 2) // COLUMNS - 2
        row = Image.new("RGB", (len(SHOWN) * (SIDE + 2) - 2, SIDE), "white")
        for i, prompt in enumerate(SHOWN):
            top, left = (k * (side + 2) for k in divmod(prompt, COLUMNS))
            picture = drawn.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            row.paste(picture, (i * (SIDE + 2), 0))
        rows.append(np.pad(np.array(row), ((0, 2), (0, 0), (0, 0)), constant_values=255))
    return Image.fromarray(np.concatenate(rows)[:-2]), [int(path.stem) for path in paths]


def curve(log: Path) -> dict[str, list]:
    """The losses of a run's log: (pictures, training loss) thinned out, and (pictures, validation loss)."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    losses = sorted({r["pictures"]: r["loss"] for r in rows if "loss" in r}.items())
    held = sorted({r["milestone"]: r["validation_loss"] for r in rows if "milestone" in r}.items())
    chosen = np.unique(np.geomspace(1, len(losses), POINTS).round().astype(int)) - 1
    return {"training": [losses[i] for i in chosen], "validation": held}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Keep the milestones of a run of base64.")
    parser.add_argument("--run", type=Path, default=data.cache_folder() / "runs" / "base64", help="the run's folder")
    run = parser.parse_args().run
    drawn, seen = sheet(run / "milestones")
    viz.save(drawn, SHEET)
    losses = curve(run / "log.jsonl")
    whole = [[GPU.small_pictures, losses["training"][-1][0]]]  # when it saw 64-px pictures, not 32-px ones
    told = {"seen": seen, "prompts": [PROMPTS[i] for i in SHOWN], "whole": whole}
    save_result("milestones", told | losses)
    print(f"{SHEET}: {len(seen)} milestones, {drawn.width}×{drawn.height}")


if __name__ == "__main__":
    main()
