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

from experiments.augmentation_report import as_text, by_weight, curves, parts
from experiments.claims.lab import side_by_side
from experiments.distances import distance, nearer
from experiments.results import BASE, is_current, load_result, save_result
from experiments.superres import TOLD, Draw, bearing, bicubic, drawer, pairs
from experiments.twins import HIGHEST, TWINS, WEIGHTS, Twins
from imagen_lite import viz, weights
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.data import to_images, to_uint8
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.recipes.evaluation import bears, windows
from imagen_lite.stage import load_stage

WINDOW = 64  # pixels a side of what features are averaged over: sixteen windows a picture
BATCH = 6  # pictures enlarged at once
TABLE = range(60)  # the pictures of the table
OTHERS = range(60, 360)  # pictures that are not in it
SHOWN = 6  # the picture of which the figure shows a part
FORGIVEN = (("without", 0.0), ("with", 0.0), ("with", 0.1), ("with", 0.3))  # what a figure shows of two JPEGs
QUALITY = 15  # of a JPEG, of 95 at most
ASKED = 200  # samples with a pattern, and as many with a letter
Way = tuple[str, float, float]  # a twin, its level and its weight
Ways = Sequence[tuple[str, float]]  # twins and their levels
Features = dict[tuple, np.ndarray]  # (n, windows, D) of each way, and of ("bicubic",) and ("real",)


def window_features(images: Tensor) -> Tensor:
    """The reader's features of each window of pictures (B, 3, H, W): (B, windows, D)."""
    return torch.stack([windows(image[None], WINDOW) for image in images])


def kept_as_jpeg(images: Tensor, quality: int = QUALITY) -> Tensor:
    """Pictures (B, 3, H, W) as a JPEG file gives them back: with blocks, and ripples at the edges."""
    found = []
    for picture in to_uint8(images).numpy():
        Image.fromarray(picture).save(file := io.BytesIO(), "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file)))
    return to_images(torch.from_numpy(np.stack(found)))


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


def enlarged(given: str, twins: Twins, ways: Ways, rows: range) -> tuple[Features, list[Tensor]]:
    """Features of what each way, at each weight, makes of `given`, and its pictures of one of them."""
    base = load_cascade()
    draws = drawers(base, twins, ((name, level, w) for name, level in ways for w in WEIGHTS))
    found: dict[tuple, list[Tensor]] = {way: [] for way in (*draws, ("bicubic",), ("real",))}
    shown = []
    for real, low_res, captions, seeds in tqdm(inputs(given, base, rows), total=-(-len(rows) // BATCH), desc=given):
        found["real",].append(window_features(real))
        found["bicubic",].append(window_features(bicubic(low_res, 256)))
        for way, draw in draws.items():
            images = draw(low_res, captions, seeds)
            found[way].append(window_features(images))
            shown += [images[seeds.index(SHOWN)]] if SHOWN in seeds else []
    return {key: torch.cat(value).numpy() for key, value in found.items()}, shown


def in_halves(given: str, twins: Twins, ways: Ways, rows: range) -> tuple[Features, list[Tensor]]:
    """The same, half of the pictures in each of two processes."""
    middle = rows.start + len(rows) // (2 * BATCH) * BATCH
    halves = range(rows.start, middle), range(middle, rows.stop)
    found = side_by_side([partial(enlarged, given, twins, ways, half) for half in halves])
    shown = [image for _, images in found for image in images]
    return {key: np.concatenate([features[key] for features, _ in found]) for key in found[0][0]}, shown


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


def forgiven(twins: Twins) -> Iterator[Tensor]:
    """Of some JPEGs: the bicubic, what is made of it without augmentation in training and with it, and the render,
    (2 + ways, 3, 256, 256)."""
    base = load_cascade()
    draws = drawers(base, twins, ((*way, 1.0) for way in FORGIVEN))
    for row in (3, 17):
        first = row // BATCH * BATCH
        real, low_res, captions, seeds = next(inputs("jpegs", base, range(first, first + BATCH)))
        one = slice(row - first, row - first + 1)
        drawn = [draw(low_res[one], captions[one], seeds[one]) for draw in draws.values()]
        yield torch.cat([bicubic(low_res[one], 256), *drawn, real[one]])


def run(twins: Twins) -> dict[str, Any]:
    """All that is not in the result yet, kept part by part."""
    models = (*BASE, "sr256", "detail") if twins.begin else BASE
    seen = {name: weights.load_manifest(twins.folder(name))["pictures_seen"] for name in HIGHEST}
    result = load_result(twins.result) if is_current(twins.result, models) else {}
    result = {"n": len(TABLE), "seen": seen, "rows": [], "bicubic": {}, "gains": {}, "others": {}, "asked": {}} | result

    for given in twins.inputs:
        if given in result["bicubic"]:
            continue
        features, shown = in_halves(given, twins, twins.ways, TABLE)
        found = judge(given, twins, features)
        result |= {"windows": features["real",].shape[1], "rows": result["rows"] + found["rows"]}
        result |= {key: result[key] | found[key] for key in ("bicubic", "gains")}
        if given == "samples":
            viz.save(parts(by_weight(twins, shown), len(twins.ways)), twins.figure("parts.jpg"))
        if given == "jpegs":
            viz.save(parts(torch.cat(list(forgiven(twins))), 2 + len(FORGIVEN)), twins.figure("jpegs.jpg"))
        result = save_result(twins.result, result, models=models)
    for given in twins.levels if twins.begin else ():
        if given not in result["others"]:
            result["others"][given] = others(given, twins)
            result = save_result(twins.result, result, models=models)
    if twins.begin and not result["asked"]:
        found = side_by_side([partial(asked, detail, twins, ASKED) for detail in TOLD])
        result["asked"] = dict(zip(TOLD, found, strict=True))
        result = save_result(twins.result, result, models=models)
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
