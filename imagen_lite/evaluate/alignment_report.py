"""The alignment table of a cascade: how often its pictures show what their captions say, by category and weight.

w is chosen on captions of the validation split; the numbers come from captions of the test split. The ceiling is the
reader's own score on real renders of the same captions.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from imagen_lite import data, processes
from imagen_lite.evaluate.alignment import ASPECTS, Verdict, alignment
from imagen_lite.scenes.captions import evaluation_caption
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.reader import read, read_setting
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.words import PICTURE_WORDS, article, text_only_words
from imagen_lite.scenes.world import SPLITS, WORLD_VERSION, Scene, sample_scene
from imagen_lite.weights import DATA, load_manifest

# Category -> the least alignment relative to the ceiling that base64 is to reach.
CATEGORIES = {"one thing": 0.95, "two things": 0.85, "a relation": 0.70, "held-out one": 0.75, "text-only word": 0.65}
PLAIN = ("one thing", "two things", "a relation")  # of which the validation captions are
OPEN = (  # captions that leave all but colour and kind open
    "a red cone", "a blue house", "a yellow sphere", "a green tree", "a purple cube", "a pink mushroom",
    "a white rocket", "an orange duck",
)  # fmt: skip


class Sampler(Protocol):
    """What draws: a `Cascade`, or anything that answers like one."""

    def sample(self, prompts: list[str], *, guidance_weight: float, seed: int, resolution: int) -> Any:
        """Pictures as `.images`, (B, 3, resolution, resolution) in [-1, 1]; picture i drawn with `seed + i`."""
        ...


@dataclass(frozen=True)
class Case:
    """A caption and the scene it was written for."""

    caption: str
    scene: Scene


def cases(category: str, split: str, n: int, exclude: frozenset[str] = frozenset()) -> list[Case]:
    """`n` captions of a category with their scenes, the same every time; none of `exclude`, and no two alike.

    Raises:
        ValueError: unknown category or split.
    """
    if category not in CATEGORIES or split not in SPLITS:
        known = f"{', '.join(CATEGORIES)}, and {', '.join(SPLITS)}"
        raise ValueError(f"category {category!r} or split {split!r} is unknown; choose from {known}")
    combinations = "held-out" if category == "held-out one" else "training"
    count = 2 if category in ("two things", "a relation") else 1
    found: dict[str, Case] = {}
    seeds = iter(SPLITS[split])
    while len(found) < n:
        scene = sample_scene(next(seeds), combinations=combinations, count=count)
        rng = random.Random(f"{category} {scene.seed}")
        text = evaluation_caption(scene, rng, relation=category == "a relation")
        if category == "text-only word":
            text = unread(text, scene, rng) or ""
        if text and text not in exclude and bool(parse(text).relations) == (category == "a relation"):
            found.setdefault(text, Case(text, scene))
    return list(found.values())


def unread(caption: str, scene: Scene, rng: random.Random) -> str | None:
    """The caption with its colour or kind told by a text-only word; None where that would change what it says."""
    thing = scene.things[0]
    options = [(a, v, w) for a, v in (("color", thing.color), ("kind", thing.kind)) for w in text_only_words(a, v)]
    attribute, value, word = rng.choice(options)
    names = sorted(PICTURE_WORDS[attribute][value], key=len, reverse=True)
    text = re.sub(rf"\b({'|'.join(names)})\b", word, caption, count=1)
    text = re.sub(rf"\ban? ({word}\b)", lambda match: article(match[1]), text)
    return text if text != caption and parse(text) == parse(caption) else None


def training_captions() -> frozenset[str]:
    """The captions of the training pictures in the cache; empty where none were rendered."""
    folder = data.cache_folder() / "pictures" / f"{WORLD_VERSION}-64-training-train"
    texts: set[str] = set()
    for path in sorted(folder.glob("*.json")):
        shard = json.loads(path.read_text())
        texts.update(c for name in ("captions", "mirrored") for row in shard[name] for c in row)
    return frozenset(texts)


def draw(sampler: Sampler, captions: Sequence[str], weight: float, seed: int, batch: int) -> list[Tensor]:
    """64-px pictures of the captions in batches; picture i is drawn with seed + i whatever the batch.

    Of several processes each draws its share of the batches, and all get all of them.
    """
    rank, count = processes.place()
    starts = tqdm(range(0, len(captions), batch)[rank::count], desc=f"w = {weight:g}", leave=False)
    drawn = [
        sampler.sample(list(captions[i : i + batch]), guidance_weight=weight, seed=seed + i, resolution=64).images
        for i in starts
    ]
    return drawn if count == 1 else processes.gather([images.cpu() for images in drawn])


def verdicts(images: Sequence[Tensor], captions: Sequence[str]) -> list[Verdict]:
    """A verdict on each picture of some batches."""
    found: list[Verdict] = []
    for part in images:
        found += alignment(part, captions[len(found) : len(found) + len(part)])
    return found


def interval(*samples: np.ndarray, statistic=np.mean, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """The 95 % bootstrap interval of a statistic of paired samples, each (n,)."""
    rng = np.random.default_rng(seed)
    n = len(samples[0])
    values = []
    for _ in range(resamples):
        rows = rng.integers(0, n, n)
        values.append(statistic(*(s[rows] for s in samples)))
    low, high = np.percentile(values, (2.5, 97.5))
    return round(float(low), 4), round(float(high), 4)


def _ratio(drawn: np.ndarray, rendered: np.ndarray) -> float:
    return float(drawn.mean() / max(rendered.mean(), 1e-9))


def _gain(high: np.ndarray, low: np.ndarray) -> float:
    return float(high.mean() - low.mean())


def _aligned(found: Sequence[Verdict]) -> np.ndarray:
    return np.array([v.aligned for v in found], dtype=float)


def _aspect_rates(found: Sequence[Verdict]) -> dict[str, tuple[float, int]]:
    """Aspect -> (share right, of how many pictures whose caption speaks of it)."""
    rates = {}
    for name in ASPECTS:
        told = [float(right) for v in found if (right := v.aspects[name]) is not None]
        if told:
            rates[name] = (round(float(np.mean(told)), 4), len(told))
    return rates


def _category(
    sampler: Sampler, name: str, n: int, weight: float, seed: int, batch: int, exclude: frozenset[str]
) -> dict:
    """One row of the table: at the best weight, at w = 1, and on real renders."""
    chosen = cases(name, "test", n, exclude)
    captions = [case.caption for case in chosen]
    renders = [render([c.scene for c in chosen[i : i + 100]], 64).cpu() for i in range(0, n, 100)]
    found = verdicts(draw(sampler, captions, weight, seed, batch), captions)
    best, ceiling = _aligned(found), _aligned(verdicts(renders, captions))
    plain = best if weight == 1 else _aligned(verdicts(draw(sampler, captions, 1.0, seed, batch), captions))
    return {
        "category": name, "n": n, "needed": CATEGORIES[name],
        "aligned": round(best.mean(), 4), "interval": interval(best, seed=seed),
        "ceiling": round(ceiling.mean(), 4),
        "relative": round(_ratio(best, ceiling), 4),
        "relative_interval": interval(best, ceiling, statistic=_ratio, seed=seed),
        "at_w_1": round(plain.mean(), 4),
        "gain": round(_gain(best, plain), 4), "gain_interval": interval(best, plain, statistic=_gain, seed=seed),
        "aspects": _aspect_rates(found),
    }  # fmt: skip


def diversity(sampler: Sampler, weight: float, each: int, seed: int, batch: int) -> dict:
    """The entropy in bits of what `OPEN` captions leave open: size, finish, pattern, surface, light and place (a third
    of the picture's width), each over `each` pictures a caption, averaged over captions and attributes."""
    tables: list[np.ndarray] = []  # per caption: (pictures, attributes) of words
    for k, caption in enumerate(OPEN):
        rows = []
        for images in draw(sampler, [caption] * each, weight, seed + k * each, batch):
            for seen, setting in zip(read(images), read_setting(images), strict=True):
                thing = seen[0] if seen else None
                own = (thing.size, thing.finish, thing.pattern, str(int(3 * thing.x))) if thing else ("nothing",) * 4
                rows.append((*own, *setting))
        tables.append(np.array(rows))
    names = ("size", "finish", "pattern", "place", "surface", "light")
    bits = {name: round(float(np.mean([_entropy(t[:, i]) for t in tables])), 4) for i, name in enumerate(names)}

    def mean_bits(rows: np.ndarray) -> float:
        return float(np.mean([_entropy(t[rows, i]) for t in tables for i in range(len(names))]))

    ends = interval(np.arange(each), statistic=mean_bits, seed=seed, resamples=300)
    return {"weight": weight, "bits": round(mean_bits(np.arange(each)), 4), "interval": ends, "of": bits}


def _entropy(words: np.ndarray) -> float:
    """Entropy of the empirical distribution, in bits."""
    shares = np.array(list(Counter(words.tolist()).values())) / len(words)
    return float(-(shares * np.log2(shares)).sum())


def report(
    cascade: Sampler, *, n: int = 500, weights: Sequence[float] = (1, 2, 3, 5, 8), validation: int = 300,
    each: int = 32, seed: int = 0, batch: int = 64, categories: Sequence[str] = tuple(CATEGORIES),
) -> dict:  # fmt: skip
    """Choose w on validation captions, then measure each category on test captions, and diversity at every weight.

    Args:
        cascade: what draws.
        n: captions a category; 500 for numbers worth quoting.
        weights: guidance weights to choose from.
        validation: captions to choose w on, one thing, two things and a relation in equal parts.
        each: pictures an open caption and weight for diversity.
        seed: of the pictures (the captions are fixed).
        batch: pictures drawn at once.

    Returns:
        JSON-able rows; `format_report` prints them.

    Raises:
        ValueError: no weights, or a count below what its parts need.
    """
    if not weights or n < 1 or validation < len(PLAIN) or each < 1:
        raise ValueError(f"need weights, n >= 1, validation >= 3, each >= 1; got {weights}, {n}, {validation}, {each}")
    exclude = training_captions()
    captions = [c.caption for name in PLAIN for c in cases(name, "val", validation // len(PLAIN), exclude)]
    chosen = []
    for weight in weights:
        hits = _aligned(verdicts(draw(cascade, captions, weight, seed, batch), captions))
        chosen.append({"weight": weight, "aligned": round(hits.mean(), 4), "interval": interval(hits, seed=seed)})
    best = max(chosen, key=lambda row: row["aligned"])["weight"]
    return {
        "seed": seed, "best_weight": best, "validation": {"n": len(captions), "rows": chosen},
        "rows": [_category(cascade, name, n, best, seed, batch, exclude) for name in categories],
        "diversity": {"n": each * len(OPEN), "rows": [diversity(cascade, w, each, seed, batch) for w in weights]},
        "training_captions_excluded": len(exclude),
        "reader": {k: v for k, v in load_manifest(DATA / "weights" / "reader").items() if k in ("sha256", "scores")},
    }  # fmt: skip


def format_report(result: dict) -> str:
    """The report as text: w on the validation captions, the table, the aspects, diversity, the reader's error."""
    lines = [f"Choosing w on {result['validation']['n']} validation captions (seed {result['seed']}):"]
    lines += [
        f"  w {r['weight']:<4g} aligned {_with(r['aligned'], r['interval'])}" for r in result["validation"]["rows"]
    ]
    lines += [f"\nAligned at w = {result['best_weight']:g}, test captions, 95 % intervals:"]
    lines += [f"  {'':<16}{'n':>5}  {'drawn':<20}{'renders':<9}{'relative':<20}{'needed':<8}{'w = 1':<8}gain"]
    for r in result["rows"]:
        relative = _with(r["relative"], r["relative_interval"])
        lines.append(
            f"  {r['category']:<16}{r['n']:>5}  {_with(r['aligned'], r['interval']):<20}{r['ceiling']:<9.3f}"
            f"{relative:<20}{r['needed']:<8.2f}{r['at_w_1']:<8.3f}{_with(r['gain'], r['gain_interval'])}"
        )
    lines.append("\nOf what the captions say, drawn right:")
    for r in result["rows"]:
        told = ", ".join(f"{name} {share:.2f}" for name, (share, _) in r["aspects"].items())
        lines.append(f"  {r['category']:<16}{told}")
    open_ = result["diversity"]
    lines.append(f"\nDiversity: entropy of what {len(OPEN)} captions leave open, {open_['n']} pictures a weight:")
    for r in open_["rows"]:
        own = ", ".join(f"{name} {bits:.2f}" for name, bits in r["of"].items())
        lines.append(f"  w {r['weight']:<4g} {_with(r['bits'], r['interval'])} bits  ({own})")
    scores = result["reader"].get("scores", {})
    told = ", ".join(f"{k} {v:.3f}" for k, v in scores.items() if isinstance(v, float))
    lines.append(f"\nThe reader on {scores.get('pictures', 0)} fresh renders: {told}")
    return "\n".join(lines)


def _with(value: float, ends: Sequence[float]) -> str:
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"
