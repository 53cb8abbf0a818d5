"""Noise conditioning augmentation: its level against the guidance weight, with it and without it in training.

    python -m experiments.twins --max-minutes 30    # first: twins, alike but for that
    python -m experiments.augmentation              # the table and its figures; goes on where it was interrupted

The paper's Figs. A.11 and A.12, for 64 to 256 px: enlarged are real 64-px renders, the same with the fine flaws of a
JPEG, and what the base model draws of the same captions. They are judged as there by how near to real pictures they
come, and by what the captions say: a pattern, or a letter. What the table says of the distance is tried on five times
as many pictures that it has not seen. Twins that were trained from nothing (`--begin nothing`) have the table alone.
"""

import argparse
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from experiments.augmentation_report import as_text, curves, parts, sheet
from experiments.claims.lab import side_by_side
from experiments.distances import distance, nearer
from experiments.results import BASE, is_current, load_result, save_result
from experiments.superres import TOLD, Draw, bearing, bicubic, drawer, from_pil, pairs
from experiments.twins import HIGHEST, TWINS, WEIGHTS, Twins
from imagen_lite import viz, weights
from imagen_lite.cascade import Cascade, load_cascade, to_pil
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.recipes.evaluation import bears, windows
from imagen_lite.stage import load_stage

WINDOW = 64  # pixels a side of what features are averaged over: sixteen windows a picture
BATCH = 6  # pictures enlarged at once
TABLE = range(60)  # the pictures of the table
OTHERS = range(60, 360)  # pictures that are not in it
SHOWN = {"jpegs": (3, 17), "samples": (6,)}  # the pictures of which a figure shows parts
QUALITY = 15  # of a JPEG, of 95 at most
ASKED = 200  # samples with a pattern, and as many with a letter
Way = tuple[str, float, float]  # a twin, its level and its weight
Ways = Sequence[tuple[str, float]]  # twins and their levels
Shown = dict[tuple[tuple, int], Tensor]  # by way and picture: (3, 256, 256)
Features = dict[tuple, np.ndarray]  # (n, windows, D) of each way, and of ("bicubic",) and ("real",)


def window_features(images: Tensor) -> Tensor:
    """The reader's features of each window of pictures (B, 3, H, W): (B, windows, D)."""
    return torch.stack([windows(image[None], WINDOW) for image in images])


def kept_as_jpeg(images: Tensor, quality: int = QUALITY) -> Tensor:
    """Pictures (B, 3, H, W) as a JPEG file gives them back: with blocks, and ripples at the edges."""
    files = [io.BytesIO() for _ in images]
    for picture, file in zip(to_pil(images), files, strict=True):
        picture.save(file, "JPEG", quality=quality)
    return from_pil([Image.open(file) for file in files])


def inputs(given: str, base: Cascade, rows: range) -> Iterator[tuple[Tensor, Tensor, list[str], list[int]]]:
    """Real 256-px pictures, the 64-px pictures to enlarge (of `twins.TITLES`), captions and seeds."""
    for real, low_res, captions, seeds in itertools.islice(pairs(256, rows.stop, BATCH), rows.start // BATCH, None):
        if given == "samples":
            low_res = base.sample(captions, seed=seeds, resolution=64).images.cpu()
        yield real, kept_as_jpeg(low_res) if given == "jpegs" else low_res, captions, seeds


def drawers(base: Cascade, twins: Twins, ways: Iterable[Way]) -> dict[Way, Draw]:
    """How each twin enlarges pictures, at a level and a weight."""
    cascades = {
        name: Cascade(base.text_encoder, {256: load_stage(twins.folder(name), base.device)}, base.dtype)
        for name in HIGHEST
    }
    return {(name, level, w): drawer(cascades[name], 256, aug_level=level, weight=w) for name, level, w in ways}


def enlarged(given: str, twins: Twins, ways: Ways, rows: range) -> tuple[Features, Shown]:
    """Features of what each way, at each weight, makes of `given`, and some of the pictures."""
    base = load_cascade()
    draws = drawers(base, twins, ((name, level, w) for name, level in ways for w in WEIGHTS))
    found: dict[tuple, list[Tensor]] = {way: [] for way in (*draws, ("bicubic",), ("real",))}
    shown: Shown = {}
    for real, low_res, captions, seeds in tqdm(inputs(given, base, rows), total=-(-len(rows) // BATCH), desc=given):
        made = {way: draw(low_res, captions, seeds) for way, draw in draws.items()}
        made |= {("bicubic",): bicubic(low_res, 256), ("real",): real}
        for way, images in made.items():
            found[way].append(window_features(images))
            shown |= {(way, row): images[seeds.index(row)] for row in SHOWN.get(given, ()) if row in seeds}
    return {way: torch.cat(value).numpy() for way, value in found.items()}, shown


def in_halves(given: str, twins: Twins, ways: Ways, rows: range) -> tuple[Features, Shown]:
    """The same, half of the pictures in each of two processes."""
    middle = rows.start + len(rows) // (2 * BATCH) * BATCH
    halves = range(rows.start, middle), range(middle, rows.stop)
    (one, shown), (other, more) = side_by_side([partial(enlarged, given, twins, ways, half) for half in halves])
    return {way: np.concatenate([one[way], other[way]]) for way in one}, shown | more


def sweep(given: str, twins: Twins) -> dict[str, Any]:
    """The table's part on `given`; draws the figure that belongs to it."""
    features, shown = in_halves(given, twins, twins.ways, TABLE)
    if given in SHOWN:
        name, lines = sheet(given, twins)
        drawn = [shown[way, row] for row in SHOWN[given] for line in lines for way in line]
        viz.save(parts(torch.stack(drawn), columns=len(lines[0])), twins.figure(name))
    return judge(given, twins, features)


def judge(given: str, twins: Twins, features: Features) -> dict[str, Any]:
    """Distances of all ways and weights, and how much nearer it comes with augmentation than without."""
    real = features["real",]
    rows = [
        {"input": given, "trained": name, "level": level, "weight": w,
         "frechet": round(distance(features[name, level, w], real), 5)}
        for name, level in twins.ways for w in WEIGHTS
    ]  # fmt: skip
    found = {"rows": rows, "bicubic": {given: round(distance(features["bicubic",], real), 5)}}
    return found | {"gains": {given: gains(twins.levels[given], features)} if given in twins.levels else {}}


def gains(level: float, features: Features) -> list[dict[str, Any]]:
    """How much nearer to real pictures the twin with augmentation comes, at each weight, with its interval."""
    found = []
    for w in WEIGHTS:
        cells = features["with", level, w], features["without", 0.0, w], features["real",]
        ends = interval(*cells, statistic=nearer, resamples=200)
        found.append({"weight": w, "nearer": round(nearer(*cells), 5), "interval": ends})
    return found


def others(given: str, twins: Twins) -> dict[str, Any]:
    """How much nearer it comes with augmentation, on other pictures: at each weight, and each twin at its best."""
    ways = (("with", twins.levels[given]), ("without", 0.0))
    features, _ = in_halves(given, twins, ways, OTHERS)
    cells = [np.stack([features[(*way, w)] for w in WEIGHTS], 1) for way in ways]
    cells.append(features["real",])
    ends = interval(*cells, statistic=nearer_at_best, resamples=200)
    best = {"nearer": round(nearer_at_best(*cells), 5), "interval": ends}
    return {"n": len(OTHERS), "gains": gains(twins.levels[given], features), "at_best": best}


def nearer_at_best(a: np.ndarray, b: np.ndarray, real: np.ndarray) -> float:
    """By how much `a` is nearer to the real pictures than `b`, (n, weights, windows, D), each at its best weight."""
    far = [min(distance(features[:, i], real) for i in range(features.shape[1])) for features in (b, a)]
    return far[0] - far[1]


def asked(detail: str, twins: Twins, n: int, batch: int = 8) -> dict[str, Any]:
    """How many of the base model's samples, enlarged, bear the pattern or the letter that their captions tell.

    With augmentation at the weight and level of `TOLD`, without it at each weight: compared with the best of these.
    """
    base, (weight, level) = load_cascade(), TOLD[detail]
    ways = [("with", level, weight), *(("without", 0.0, w) for w in WEIGHTS)]
    draws = drawers(base, twins, ways) | {("bicubic", 0.0, 1.0): lambda low_res, *_: bicubic(low_res, 256)}
    hits: dict[Way, list[bool]] = {way: [] for way in draws}
    scenes = itertools.islice(bearing(detail), n)
    for _ in tqdm(range(0, n, batch), desc=detail):
        some = list(itertools.islice(scenes, batch))
        captions, seeds = [caption for _, caption in some], [scene.seed for scene, _ in some]
        low_res = base.sample(captions, seed=seeds, resolution=64).images.cpu()
        for way, draw in draws.items():
            images = draw(low_res, captions, seeds)
            hits[way] += [bears(image[None], said, detail)[0] for image, said in zip(images, captions, strict=True)]
    right = {way: np.array(found, float) for way, found in hits.items()}
    best = max(ways[1:], key=lambda way: right[way].mean())
    gain = right[ways[0]] - right[best]
    rows = [{"trained": t, "level": level, "weight": w, "right": round(right[t, level, w].mean(), 4)}
            for t, level, w in right]  # fmt: skip
    return {"n": len(gain), "rows": rows, "gain": round(gain.mean(), 4), "interval": interval(gain)}


def begun(twins: Twins, models: Sequence[str]) -> dict[str, Any]:
    """What is measured already of these very twins; or nothing, where others were."""
    manifests = {name: weights.load_manifest(twins.folder(name)) for name in HIGHEST}
    of = {name: manifest["sha256"] for name, manifest in manifests.items()}
    if is_current(twins.result, models) and (result := load_result(twins.result)).get("twins") == of:
        return result
    seen = {name: manifest["pictures_seen"] for name, manifest in manifests.items()}
    empty = {"rows": [], "bicubic": {}, "gains": {}, "others": {}, "asked": {}}
    return {"n": len(TABLE), "windows": (256 // WINDOW) ** 2, "twins": of, "seen": seen} | empty


def run(twins: Twins) -> dict[str, Any]:
    """All that is not in the result yet, kept part by part."""
    models = (*BASE, "sr256", "detail") if twins.begin else BASE
    keep, result = partial(save_result, twins.result, models=models), begun(twins, models)
    for given in twins.inputs:
        if given not in result["bicubic"]:
            found = sweep(given, twins)
            result |= {"rows": result["rows"] + found["rows"]}
            result = keep(result | {key: result[key] | found[key] for key in ("bicubic", "gains")})
    for given in twins.levels if twins.begin else ():
        if given not in result["others"]:
            result = keep(result | {"others": result["others"] | {given: others(given, twins)}})
    if twins.begin and not result["asked"]:
        found = side_by_side([partial(asked, detail, twins, ASKED) for detail in TOLD])
        result = keep(result | {"asked": dict(zip(TOLD, found, strict=True))})
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The sweep of augmentation level against guidance weight.")
    parser.add_argument("--begin", choices=TWINS, default="shipped", help="what the twins are trained from")
    twins = TWINS[parser.parse_args().begin]
    result = run(twins)
    curves(twins, result).savefig(twins.figure("curves.png"), dpi=110)
    print(as_text(twins, result))


if __name__ == "__main__":
    main()
