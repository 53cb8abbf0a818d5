"""Recipe evaluation: all metrics of the shipped cascade, in ten minutes of two cores, part by part.

    imagen-lite evaluate

What a part found is kept in the cache and read the next time, as long as the weights are the same. Smaller samples than
those of the model card, whose numbers are the ones to quote; the same numbers every time.
"""

import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from imagen_lite import data, weights
from imagen_lite.cascade import Cascade
from imagen_lite.evaluate.alignment import alignment
from imagen_lite.evaluate.alignment_report import CATEGORIES, cases, diversity, draw, interval, verdicts
from imagen_lite.evaluate.fidelity import consistency, frechet_distance, reader_features
from imagen_lite.scenes.clip_lite import kernel_distance
from imagen_lite.scenes.detail import read_details
from imagen_lite.scenes.drawbench import BenchPrompt, load_drawbench_lite
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.reader import read
from imagen_lite.scenes.reader_scores import reader_scores
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import SPLITS, sample_scene

USED = ("t5-lite-base", "reader", "clip-lite", "detail", "base64", "sr256", "sr1024")
Part = Callable[[Cascade, int], dict[str, Any]]


def pictures(cascade: Cascade, seed: int, each: int = 80, batch: int = 40) -> dict[str, Any]:
    """Alignment by category; the Fréchet and the kernel distance of all these pictures to renders of their scenes."""
    rows, drawn, real, weight = [], [], [], cascade.stages[64].sampling.guidance_weight
    for name in tqdm(CATEGORIES, desc="pictures of captions"):
        some = cases(name, "test", each)
        captions = [case.caption for case in some]
        parts = [images.cpu() for images in draw(cascade, captions, weight, seed, batch)]
        drawn, real = [*drawn, *parts], [*real, render([case.scene for case in some], 64).cpu()]
        hits = np.array([verdict.aligned for verdict in verdicts(parts, captions)], float)
        rows.append({"category": name, "n": each, "aligned": round(hits.mean(), 4), "interval": interval(hits)})
    a, b = torch.cat(drawn), torch.cat(real)
    distance = {
        "n": len(a), "frechet": round(frechet_distance(reader_features(a), reader_features(b)), 4),
        "kernel": round(kernel_distance(a, b), 2),
    }  # fmt: skip
    return {"alignment": rows, "distance": distance}


def variety(cascade: Cascade, seed: int, each: int = 16) -> dict[str, Any]:
    """The entropy of what captions leave open, at the cascade's own weight."""
    return diversity(cascade, cascade.stages[64].sampling.guidance_weight, each, seed, batch=each)


def bears(images: Tensor, means: str, detail: str) -> list[bool]:
    """Whether each picture (B, 3, 256, 256) bears the patterns or the letters (`detail`: "pattern", "letter") that are
    asked for, on things of the right kind and colour."""
    wanted = [spec for spec in parse(means).things if getattr(spec, detail)]
    found = []
    for image, things in zip(images, read(images), strict=True):
        read_as: list[bool] = []
        for spec in wanted:
            boxes = [(t.x, t.y, t.width, t.height) for t in things if (t.color, t.kind) == (spec.color, spec.kind)]
            words = read_details(image.expand(len(boxes), -1, -1, -1), boxes) if boxes else []
            read_as.append(any(word[detail] == getattr(spec, detail) for word in words))
        found.append(all(read_as))
    return found


def judged(cascade: Cascade, row: BenchPrompt, each: int, seed: int = 0) -> list[bool]:
    """Which of `each` pictures of a prompt show what it means; letters are looked for at 256 px."""
    size = 256 if row.category == "Text" else 64
    images = cascade.sample([row.prompt] * each, seed=seed, resolution=size).images
    hits = [verdict.aligned for verdict in alignment(images, [row.means] * each)]
    return [a and b for a, b in zip(hits, bears(images, row.means, "letter"), strict=True)] if size == 256 else hits


def drawbench(cascade: Cascade, seed: int, each: int = 4) -> dict[str, Any]:
    """DrawBench-lite: how many pictures show what is meant, by category, with intervals over prompts."""
    found: dict[str, list[float]] = {}
    for row in tqdm(load_drawbench_lite(), desc="DrawBench-lite"):
        if row.category != "Text" or 256 in cascade.stages:
            found.setdefault(row.category, []).append(float(np.mean(judged(cascade, row, each, seed))))
    return {
        "each": each,
        "rows": [
            {"category": name, "n": len(shares), "right": round(float(np.mean(shares)), 4),
             "interval": interval(np.array(shares))}
            for name, shares in found.items()
        ],
    }  # fmt: skip


def windows(images: Tensor, side: int = 64) -> Tensor:
    """The reader's features of all windows of pictures (B, 3, H, W): (B · windows, 192)."""
    parts = images.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    return reader_features(parts)


def enlarged(cascade: Cascade, seed: int, size: int, n: int) -> dict[str, Any]:
    """What super-resolution makes of `n` real small pictures: its Fréchet distance, by windows, against that of
    bicubic enlargement, and whether it is still the small picture (App. D.2)."""
    ways: dict[str, list[Tensor]] = {"real": [], "drawn": [], "bicubic": []}
    psnr: list[Tensor] = []
    for i in tqdm(range(n), desc=f"{size} px"):
        scene = sample_scene(SPLITS["test"].start + i)
        real = render([scene], size).cpu()
        small = F.interpolate(real, (size // 4, size // 4), mode="area")
        caption = data.caption_lists([scene])[0][0][0]
        drawn = cascade.sample(caption, low_res=small.to(cascade.device), seed=seed + i, resolution=size).images.cpu()
        large = F.interpolate(small, (size, size), mode="bicubic").clamp(-1, 1)
        for way, images in zip(ways, (real, drawn, large), strict=True):
            ways[way].append(windows(images))
        psnr.append(consistency(drawn, small))
    tables = {way: torch.cat(parts) for way, parts in ways.items()}
    far = {way: frechet_distance(tables[way], tables["real"]) for way in ("drawn", "bicubic")}
    return {
        "n": n, "windows": len(tables["real"]), "frechet": {way: round(value, 4) for way, value in far.items()},
        "ratio": round(far["drawn"] / far["bicubic"], 4), "psnr_db": round(float(torch.cat(psnr).mean()), 2),
    }  # fmt: skip


PARTS: dict[str, Part] = {
    "reader": lambda _, __: reader_scores(count=200),
    "pictures": pictures,
    "variety": variety,
    "drawbench": drawbench,
    "256": lambda cascade, seed: enlarged(cascade, seed, 256, 48),
    "1024": lambda cascade, seed: enlarged(cascade, seed, 1024, 8),
}


def evaluation(cascade: Cascade, seed: int = 0, fresh: bool = False) -> dict[str, Any]:
    """All parts that the cascade has stages for, each with the seconds it took; what is in the cache is not done again.

    Args:
        seed: of the pictures; captions and scenes are fixed. fresh: forget what is in the cache.
    """
    used = [
        weights.load_manifest(path)["sha256"] for name in USED if (path := weights.DATA / "weights" / name).is_dir()
    ]
    name = hashlib.sha256(" ".join([*used, cascade.describe(), str(seed)]).encode()).hexdigest()[:12]
    folder, found = data.cache_folder() / "evaluation" / name, {}
    for part, find in PARTS.items():
        if not part.isdigit() or int(part) in cascade.stages:
            found[part] = kept(folder / f"{part}.json", partial(find, cascade, seed), fresh)
    return found


def kept(path: Path, find: Callable[[], dict[str, Any]], fresh: bool = False) -> dict[str, Any]:
    """A part of a result, read from a file, or found now and kept there; with the seconds that it took."""
    if fresh or not path.exists():
        begun = time.monotonic()
        found = find()
        weights.write_atomic(path, json.dumps(found | {"seconds": round(time.monotonic() - begun, 1)}))
    return json.loads(path.read_text())


def format_evaluation(found: dict[str, Any]) -> str:
    """The parts as lines."""
    lines = []
    for part, result in found.items():
        lines.append(f"{part} ({result['seconds']:.0f} s)")
        for row in [*result.get("alignment", ()), *result.get("rows", ())]:
            low, high = row["interval"]
            right = row.get("aligned", row.get("right"))
            lines.append(f"  {row['category']:<16}{right:.2f} [{low:.2f}, {high:.2f}]  n = {row['n']}")
        rest = {k: v for k, v in (result | result.get("distance", {})).items() if isinstance(v, int | float | dict)}
        told = (f"{k} {v:g}" if isinstance(v, int | float) else f"{k} {_inline(v)}" for k, v in rest.items())
        lines.append("  " + ", ".join(line for line in told if not line.startswith(("seconds", "distance"))))
    return "\n".join(lines)


def _inline(values: dict[str, float]) -> str:
    return "(" + ", ".join(f"{name} {value:g}" for name, value in values.items()) + ")"
