"""The reader against eyes: pictures that the shipped model drew, labelled without sight of their captions.

    python -m experiments.eyes draw       # 200 pictures, their captions, and sheets to look at
    python -m experiments.eyes            # how far the reader and the labels agree

`data/labels/labels.json` holds one line a picture, "red cone, blue house"; "?" stands for a colour or a kind that
cannot be made out, and "" for a picture without things.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.results import save_result
from imagen_lite import data, viz, weights
from imagen_lite.cascade import load_cascade
from imagen_lite.evaluate.alignment_report import cases, interval
from imagen_lite.scenes import read
from imagen_lite.scenes.world import COLORS, KINDS

FOLDER = weights.DATA / "labels"
SHARES = {"one thing": 70, "two things": 60, "a relation": 40, "text-only word": 30}
COLUMNS = 20
Thing = tuple[str, str]


def draw(sheets: Path, seed: int = 5000) -> None:
    """Pictures of test captions in mixed order, at the default guidance weight; sheets enlarged, with numbers only."""
    captions = [case.caption for name, n in SHARES.items() for case in cases(name, "test", n)]
    order = np.random.default_rng(seed).permutation(len(captions))
    captions = [captions[i] for i in order]
    cascade = load_cascade()
    images = torch.cat(
        [cascade.sample(captions[i : i + 50], seed=seed + i, resolution=64).images for i in range(0, 200, 50)]
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    viz.save(viz.grid(images, COLUMNS, gap=0), FOLDER / "pictures.png")
    made = {"weights": weights.load_manifest(weights.DATA / "weights" / "base64")["sha256"], "captions": captions}
    weights.write_atomic(FOLDER / "captions.json", json.dumps(made, indent=0) + "\n")
    for start in range(0, len(images), 40):
        sheet = viz.grid(images[start : start + 40], 8, gap=4)
        viz.save(
            sheet.resize((sheet.width * 3, sheet.height * 3), Image.Resampling.BICUBIC), sheets / f"{start:03d}.png"
        )


def pictures() -> torch.Tensor:
    """The labelled pictures, (200, 3, 64, 64)."""
    sheet = torch.from_numpy(np.array(Image.open(FOLDER / "pictures.png").convert("RGB")))
    rows = sheet.unfold(0, 64, 64).unfold(1, 64, 64)  # (rows, columns, 3, 64, 64)
    return data.to_images(rows.flatten(0, 1).permute(0, 2, 3, 1))


def labelled(line: str) -> list[Thing]:
    """The things of one label.

    Raises:
        ValueError: a word that is neither a colour nor a kind of this world, nor "?".
    """
    things = []
    for name in filter(None, (part.strip() for part in line.split(","))):
        color, _, kind = name.partition(" ")
        if color not in (*COLORS, "?") or kind not in (*KINDS, "?"):
            raise ValueError(f"{name!r} is not a colour and a kind of this world; write ? for what cannot be told")
        things.append((color, kind))
    return things


def alike(a: Thing, b: Thing) -> bool:
    """Same colour and kind, as far as they can be told."""
    return all(x == y or "?" in (x, y) for x, y in zip(a, b, strict=True))


def matched(eyes: list[Thing], reader: list[Thing]) -> int:
    """How many things the two have in common; certain labels are matched first."""
    rest, count = list(reader), 0
    for thing in sorted(eyes, key=lambda t: t.count("?")):
        found = next((other for other in rest if alike(thing, other)), None)
        if found:
            rest.remove(found)
            count += 1
    return count


def measure() -> dict:
    """Agreement picture by picture and thing by thing, with 95 % intervals over pictures."""
    lines = json.loads((FOLDER / "labels.json").read_text())
    eyes = [labelled(line) for line in lines]
    seen = [[(s.color, s.kind) for s in things] for things in read(pictures())]
    common = np.array([matched(a, b) for a, b in zip(eyes, seen, strict=True)], float)
    by_eye, by_reader = (np.array([len(t) for t in things], float) for things in (eyes, seen))
    same = (common == by_eye) & (common == by_reader)
    ratio = lambda x, y: float(x.sum() / max(y.sum(), 1))  # noqa: E731
    return {
        "pictures": len(lines), "agree": round(float(same.mean()), 4), "interval": interval(same.astype(float)),
        "things": int(by_eye.sum()), "unclear": sum("?" in t for things in eyes for t in things),
        "of_eyes_things_read": round(ratio(common, by_eye), 4),
        "of_eyes_things_interval": interval(common, by_eye, statistic=ratio),
        "of_readers_things_seen": round(ratio(common, by_reader), 4),
        "of_readers_things_interval": interval(common, by_reader, statistic=ratio),
        "disagree_most_on": Counter(
            f"{len(a)} things, reader {len(b)}" if len(a) != len(b) else "a colour or a kind"
            for a, b, ok in zip(eyes, seen, same, strict=True) if not ok
        ).most_common(4),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["draw", "measure"], default="measure")
    parser.add_argument("--sheets", type=Path, default=Path("sheets"), help="folder of the sheets to look at")
    options = parser.parse_args()
    if options.what == "draw":
        options.sheets.mkdir(parents=True, exist_ok=True)
        draw(options.sheets)
    else:
        print(json.dumps(save_result("eyes", measure()), indent=1))
