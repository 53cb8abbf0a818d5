"""The shipped model on DrawBench-lite, by category: eight pictures a prompt, as the paper shows its raters (§3).

    python -m experiments.drawbench

The reader judges whether a picture shows what the prompt means; letters are read at 256 px by the detail reader.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from experiments.results import BASE, save_result, table, with_interval
from experiments.samplers import sampled
from experiments.superres import TOLD
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.recipes.evaluation import judged
from imagen_lite.scenes.drawbench import BenchPrompt, load_drawbench_lite


def run(prompts: Sequence[BenchPrompt], each: int) -> dict[str, Any]:
    """Shares right by category, with intervals over prompts."""
    cascade = load_cascade()
    shares = [float(np.mean(judged(cascade, row, each))) for row in tqdm(prompts)]
    rows = []
    for category in dict.fromkeys(row.category for row in prompts):
        own = np.array([share for share, row in zip(shares, prompts, strict=True) if row.category == category])
        rows.append({
            "category": category, "prompts": len(own), "right": round(float(own.mean()), 4), "interval": interval(own),
            "never": [row.prompt for share, row in zip(shares, prompts, strict=True)
                      if row.category == category and share == 0],
        })  # fmt: skip
    weight = cascade.stages[64].sampling.guidance_weight
    return {
        "each": each, "seed": 0, "weight": weight, "rows": rows, "right": round(float(np.mean(shares)), 4),
        "told": told(cascade, [row for row in prompts if row.category == "Text"], each),
    }  # fmt: skip


def told(cascade: Cascade, prompts: Sequence[BenchPrompt], each: int) -> dict[str, Any]:
    """The same of prompts with letters, where sr256 is asked for them as `superres` asks it, by the caption alone."""
    weight, aug_level = TOLD["letter"]
    asking, _ = sampled(cascade, 256, {"guidance_weight": weight, "aug_level": aug_level})
    right = np.array([np.mean(judged(asking, row, each)) for row in tqdm(prompts, desc="letters")])
    return {
        "weight": weight, "aug_level": aug_level,
        "prompts": len(right), "right": round(float(right.mean()), 4), "interval": interval(right),
    }  # fmt: skip


def as_text(result: dict[str, Any]) -> str:
    """The table as markdown."""
    rows = [
        [r["category"], str(r["prompts"]), with_interval(r["right"], r["interval"]), "; ".join(r["never"])]
        for r in result["rows"]
    ]
    last = result["told"]
    name = f"Text, sr256 at level {last['aug_level']:g}, w = {last['weight']:g}"
    rows.append([name, str(last["prompts"]), with_interval(last["right"], last["interval"]), ""])
    return table(["category", "prompts", "pictures right", "never right"], rows) + (
        f"\n\n{result['each']} pictures a prompt, seeds 0 to {result['each'] - 1}, w = {result['weight']:g}; 95 % "
        f"bootstrap intervals over prompts; {result['hardware']}; `python -m experiments.drawbench`."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="DrawBench-lite, judged.")
    parser.add_argument("--each", type=int, default=8, help="pictures a prompt")
    result = run(load_drawbench_lite(), parser.parse_args(arguments).each)
    print(as_text(save_result("drawbench", result, models=(*BASE, "detail", "sr256"))))


if __name__ == "__main__":
    main()
