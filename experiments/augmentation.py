"""Noise conditioning augmentation: its level against the guidance weight, with it and without it in training.

    python -m experiments.twins --max-minutes 30    # first: twins, alike but for that
    python -m experiments.augmentation              # the table and its figures
    python -m experiments.augmentation --others     # only the distance, once more, on other pictures

The paper's Figs. A.11 and A.12, for 64 to 256 px: enlarged are real 64-px renders, and what the base model draws of
the same captions. They are judged as there by how near to real pictures they come, and by what the captions say: a
pattern, or a letter. What the table says of their distance is tried on five times as many pictures that it has not
seen. Twins that were trained from nothing (`--begin nothing`) have the table alone.
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from experiments.claims.lab import side_by_side
from experiments.distances import distance, nearer
from experiments.results import BASE, is_current, load_result, save_result, table
from experiments.superres import TOLD, Draw, bearing, bicubic, drawer, pairs
from experiments.twins import HIGHEST, TWINS, Twins
from imagen_lite import viz, weights
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.recipes.evaluation import bears, windows
from imagen_lite.stage import load_stage

TITLES = {"renders": "real 64-px renders", "samples": "the base model's samples"}
INPUTS = tuple(TITLES)
WEIGHTS = (1.0, 3.0, 8.0)
WINDOW = 64  # pixels a side of what features are averaged over: sixteen windows a picture
SHOWN = 6  # the picture of which the figure shows a part
BATCH = 6  # pictures enlarged at once
OTHERS = range(60, 360)  # pictures that are not in the table
ASKED = 200  # samples with a pattern, and as many with a letter
Way = tuple[str, float, float]  # a twin, its level and its weight
Ways = Sequence[tuple[str, float]]  # twins and their levels


def window_features(images: Tensor) -> Tensor:
    """The reader's features of each window of pictures (B, 3, H, W): (B, windows, D)."""
    return torch.stack([windows(image[None], WINDOW) for image in images])


def inputs(given: str, base: Cascade, rows: range) -> Iterator[tuple[Tensor, Tensor, list[str], list[int]]]:
    """Real 256-px pictures, the 64-px pictures to enlarge, rendered or drawn, captions and seeds."""
    for real, low_res, captions, seeds in itertools.islice(pairs(256, rows.stop, BATCH), rows.start // BATCH, None):
        if given == "samples":
            low_res = base.sample(captions, seed=seeds, resolution=64).images.cpu()
        yield real, low_res, captions, seeds


def drawers(base: Cascade, twins: Twins, ways: Iterable[Way]) -> dict[Way, Draw]:
    """How each twin enlarges pictures, at a level and a weight."""
    cascades = {
        name: Cascade(base.text_encoder, {256: load_stage(twins.folder(name), base.device)}, base.dtype)
        for name in HIGHEST
    }
    return {(name, level, w): drawer(cascades[name], 256, aug_level=level, weight=w) for name, level, w in ways}


def enlarged(given: str, twins: Twins, ways: Ways, rows: range) -> tuple[dict[tuple, np.ndarray], list[Tensor]]:
    """Features (n, windows, D) of what each way and weight makes of `given`, and its pictures of one of them."""
    base = load_cascade()
    draws = drawers(base, twins, ((name, level, w) for name, level in ways for w in WEIGHTS))
    found: dict[tuple, list[Tensor]] = {(given, *way): [] for way in (*draws, ("bicubic",), ("real",))}
    shown = []
    for real, low_res, captions, seeds in tqdm(inputs(given, base, rows), total=-(-len(rows) // BATCH), desc=given):
        found[given, "real"].append(window_features(real))
        found[given, "bicubic"].append(window_features(bicubic(low_res, 256)))
        for way, draw in draws.items():
            images = draw(low_res, captions, seeds)
            found[given, *way].append(window_features(images))
            shown += [images[seeds.index(SHOWN)]] if SHOWN in seeds else []
    return {key: torch.cat(value).numpy() for key, value in found.items()}, shown


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


def run(twins: Twins, n: int) -> tuple[dict[str, Any], Tensor]:
    """The table, and what all ways at all weights make of one sample: (ways * weights, 3, 256, 256)."""
    (features, _), (more, shown) = side_by_side(
        [partial(enlarged, given, twins, twins.ways, range(n)) for given in INPUTS]
    )
    result = judge(twins, features | more)
    if twins.begin:
        result["others"] = others(twins, OTHERS)
        found = side_by_side([partial(asked, detail, twins, ASKED) for detail in TOLD])
        result["asked"] = dict(zip(TOLD, found, strict=True))
    return result, torch.stack(shown)


def judge(twins: Twins, features: dict[tuple, np.ndarray]) -> dict[str, Any]:
    """Distances of all cells, and how much nearer samples come with augmentation than without, with its interval."""
    real = features["samples", "real"]
    rows = [
        {"input": given, "trained": name, "level": level, "weight": w,
         "frechet": round(distance(features[given, name, level, w], real), 5)}
        for given in INPUTS for name, level in twins.ways for w in WEIGHTS
    ]  # fmt: skip
    plain = {given: round(distance(features[given, "bicubic"], real), 5) for given in INPUTS}
    found = {"n": len(real), "windows": real.shape[1], "rows": rows, "bicubic": plain}
    return found | {"gains": gains(twins, features)}


def gains(twins: Twins, features: dict[tuple, np.ndarray]) -> list[dict[str, Any]]:
    """How much nearer samples come with augmentation than without, at each weight, with its interval."""
    found, real = [], features["samples", "real"]
    for w in WEIGHTS:
        cells = features["samples", "with", twins.level, w], features["samples", "without", 0.0, w], real
        ends = interval(*cells, statistic=nearer, resamples=200)
        found.append({"weight": w, "nearer": round(nearer(*cells), 5), "interval": ends})
    return found


def others(twins: Twins, rows: range) -> dict[str, Any]:
    """How much nearer samples come with augmentation, on other pictures: at each weight, and each twin at its best."""
    middle = rows.start + len(rows) // (2 * BATCH) * BATCH
    ways, halves = (("with", twins.level), ("without", 0.0)), (range(rows.start, middle), range(middle, rows.stop))
    found = side_by_side([partial(enlarged, "samples", twins, ways, half) for half in halves])
    features = {key: np.concatenate([half[key] for half, _ in found]) for key in found[0][0]}
    cells = [np.stack([features["samples", *way, w] for w in WEIGHTS], 1) for way in ways]
    cells.append(features["samples", "real"])
    ends = interval(*cells, statistic=nearer_at_best, resamples=200)
    best = {"nearer": round(nearer_at_best(*cells), 5), "interval": ends}
    return {"n": len(rows), "gains": gains(twins, features), "at_best": best}


def nearer_at_best(a: np.ndarray, b: np.ndarray, real: np.ndarray) -> float:
    """By how much `a` is nearer to the real pictures than `b`, (n, weights, windows, D), each at its best weight."""
    far = [min(distance(features[:, i], real) for i in range(features.shape[1])) for features in (b, a)]
    return far[0] - far[1]


def curves(twins: Twins, result: dict[str, Any]) -> Figure:
    """The distance to real pictures against the guidance weight, a line each of the ways; a panel each input."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for panel, given in zip(panels, INPUTS, strict=True):
        for (name, level), shade in zip(twins.ways, (0.85, 0.65, 0.45, 0.25, 0.0), strict=True):
            line = [r for r in result["rows"] if (r["input"], r["trained"], r["level"]) == (given, name, level)]
            style = {"color": pyplot.get_cmap("viridis")(shade), "marker": "o"} if name == "with" else {
                "color": "crimson", "marker": "s", "linestyle": "--"
            }  # fmt: skip
            panel.plot([r["weight"] for r in line], [r["frechet"] for r in line], **style,
                       label=f"trained {name}, level {level:g}")  # fmt: skip
        panel.axhline(result["bicubic"][given], color="gray", linewidth=1, label="bicubic")
        panel.set(title=f"from {TITLES[given]}", xlabel="guidance weight w", yscale="log")
    panels[0].set_ylabel("Fréchet distance to renders")
    panels[1].legend(fontsize=8)
    return figure


def parts(twins: Twins, drawn: Tensor) -> Image.Image:
    """The middle of what all ways (across) at all weights (down) make of one sample."""
    by_weight = drawn.unflatten(0, (len(twins.ways), len(WEIGHTS))).transpose(0, 1).flatten(0, 1)
    return viz.grid(by_weight[:, :, 64:192, 64:192], columns=len(twins.ways), gap=4)


def as_text(twins: Twins, result: dict[str, Any]) -> str:
    """The table as markdown, and what it says of samples."""
    rows = []
    for name, level in twins.ways:
        cells = [r for given in INPUTS for r in result["rows"]
                 if (r["input"], r["trained"], r["level"]) == (given, name, level)]  # fmt: skip
        rows.append([name, f"{level:g}", *(f"{r['frechet']:.4f}" for r in cells)])
    head = ["augmentation in training", "level", *(f"{given}, w = {w:g}" for given in INPUTS for w in WEIGHTS)]
    seen = " and ".join(f"{count:,}" for count in result["seen"].values())
    return table(head, rows) + (
        f"\n\nFréchet distance to real renders, on the reader's features of windows; bicubic: "
        f"{result['bicubic']['renders']:.4f} from renders, {result['bicubic']['samples']:.4f} from samples. From the "
        f"base model's samples, trained with augmentation (level {twins.level:g}) is nearer than without by "
        f"{by(result)}. n = {result['n']} pictures of {result['windows']} windows, 95 % bootstrap intervals over "
        f"pictures; the twins have seen {seen} crops; {result['hardware']}."
        + (f"\n\nThe same on {again['n']} other pictures: {by(again)}." if (again := result.get("others")) else "")
        + "".join(f"\n\n{told} {gain:+.4f} [{low:+.4f}, {high:+.4f}]." for told, gain, (low, high) in heeded(result))
    )


def nearer_by(result: dict[str, Any]) -> list[tuple[str, float, Sequence[float]]]:
    """At which weight, and by how much samples come nearer with augmentation, with the interval."""
    found = [(f"at w = {g['weight']:g}", g["nearer"], g["interval"]) for g in result["gains"]]
    if best := result.get("at_best"):
        found.append(("with each twin at its best w", best["nearer"], best["interval"]))
    return found


def by(result: dict[str, Any]) -> str:
    """The same in one line."""
    return ", ".join(f"{more:+.4f} [{low:+.4f}, {high:+.4f}] {at}" for at, more, (low, high) in nearer_by(result))


def heeded(result: dict[str, Any]) -> list[tuple[str, float, Sequence[float]]]:
    """What captions were heeded of, in words, and how much more with augmentation, with the interval."""
    found = []
    for detail, row in result.get("asked", {}).items():
        own = next(r for r in row["rows"] if r["trained"] == "with")
        best = max((r for r in row["rows"] if r["trained"] == "without"), key=lambda r: r["right"])
        told = (
            f"{detail}s as told (n = {row['n']}): {own['right']:.2f} (w = {own['weight']:g}, level "
            f"{own['level']:g}), without at most {best['right']:.2f} (w = {best['weight']:g}): more by"
        )
        found.append((told, row["gain"], row["interval"]))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The sweep of augmentation level against guidance weight.")
    parser.add_argument("--begin", choices=TWINS, default="shipped", help="what the twins are trained from")
    parser.add_argument("-n", type=int, default=OTHERS.start, help="pictures of the table")
    parser.add_argument("--others", action="store_true", help="only the distance on other pictures, into the result")
    options = parser.parse_args()
    twins = TWINS[options.begin]
    models = (*BASE, "sr256", "detail") if twins.begin else BASE
    if options.others:
        if not is_current(twins.result, models):
            raise SystemExit(f"{twins.result}.json is of other weights; run this without --others")
        result = load_result(twins.result) | {"others": others(twins, OTHERS)}
    else:
        result, drawn = run(twins, options.n)
        result["seen"] = {name: weights.load_manifest(twins.folder(name))["pictures_seen"] for name in HIGHEST}
        viz.save(parts(twins, drawn), twins.figures[1])
        curves(twins, result).savefig(twins.figures[0], dpi=110)
    print(as_text(twins, save_result(twins.result, result, models=models)))


if __name__ == "__main__":
    main()
