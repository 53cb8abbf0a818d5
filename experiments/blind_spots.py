"""What a CLIP score knows of a picture and what it does not, on ground truth: renders whose captions are known.

    python -m experiments.blind_spots

CLIP-lite is shown real renders of scenes that were held out, and chooses among captions of which one is true: what
thing, which colour, how many, and, of two, which is which and where. Beside it the reader, asked the same. The paper
names counting as CLIP's weakness (§3).
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from experiments.results import save_result, table, with_interval
from imagen_lite.evaluate import alignment
from imagen_lite.evaluate.alignment_report import interval
from imagen_lite.scenes.claims import relation_holds
from imagen_lite.scenes.clip_lite import clip_scores
from imagen_lite.scenes.reader import visible_shares
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.words import article, plural
from imagen_lite.scenes.world import COLORS, HELD_OUT, KINDS, SPLITS, Scene, Thing, sample_scene

Question = tuple[Scene, list[str]]  # a scene, and captions of which the first is true
NUMBERS = ("", "two", "three", "four")
VISIBLE = 0.6  # the least share of each thing that is seen


def phrase(thing: Thing) -> str:
    """ "a red cone" """
    return article(f"{thing.color} {thing.kind}")


def scenes(count: int) -> Iterator[Scene]:
    """Scenes of the test split with so many things."""
    return (sample_scene(seed, count=count) for seed in SPLITS["test"])


def colors() -> Iterator[Question]:
    """Which of eight colours one thing has; no caption names a combination that was held out."""
    for scene in scenes(1):
        color, kind = scene.things[0].color, scene.things[0].kind
        others = [c for c in COLORS if c != color and (c, kind) not in HELD_OUT]
        yield scene, [article(f"{c} {kind}") for c in (color, *others)]


def kinds() -> Iterator[Question]:
    """Which of ten kinds one thing is, likewise."""
    for scene in scenes(1):
        color, kind = scene.things[0].color, scene.things[0].kind
        others = [k for k in KINDS if k != kind and (color, k) not in HELD_OUT]
        yield scene, [article(f"{color} {k}") for k in (kind, *others)]


def counts() -> Iterator[Question]:
    """How many there are, one to four alike, all on the table and well in sight."""
    for number, scene in enumerate(s for group in zip(*(scenes(n) for n in (1, 2, 3, 4)), strict=False) for s in group):
        n, first = number % 4 + 1, scene.things[0]
        alike = tuple(dataclasses.replace(t, color=first.color, kind=first.kind, letter="") for t in scene.things)
        alike = dataclasses.replace(scene, things=alike)
        if (
            any(t.on is not None for t in scene.things)
            or visible_shares([alike])[0, : len(alike.things)].min() < VISIBLE
        ):
            continue
        told = [phrase(first), *(f"{word} {first.color} {plural(first.kind)}" for word in NUMBERS[1:])]
        yield alike, sorted(told, key=lambda text: text != told[n - 1])


def bindings() -> Iterator[Question]:
    """Of two things, which has which of two colours."""
    for scene in scenes(2):
        a, b = scene.things
        swapped = (dataclasses.replace(a, color=b.color), dataclasses.replace(b, color=a.color))
        if a.color != b.color and a.kind != b.kind and not {(t.color, t.kind) for t in swapped} & HELD_OUT:
            yield scene, [f"{phrase(x)} and {phrase(y)}" for x, y in ((a, b), swapped)]


def places() -> Iterator[Question]:
    """Of two things, which is on the left."""
    for scene in scenes(2):
        a, b = scene.things
        if relation_holds(scene, 0, "left", 1) and (a.color, a.kind) != (b.color, b.kind):
            yield scene, [f"{phrase(x)} to the left of {phrase(y)}" for x, y in ((a, b), (b, a))]


QUESTIONS: dict[str, Callable[[], Iterator[Question]]] = {
    "which colour": colors, "which kind": kinds, "how many, 1 to 4": counts,
    "which colour is whose": bindings, "which is on the left": places,
}  # fmt: skip


def answered(questions: list[Question]) -> tuple[np.ndarray, np.ndarray]:
    """Whether CLIP-lite and the reader choose the true caption, (n,) each; who finds several right must draw lots."""
    clip, reader = [], []
    for scene, captions in tqdm(questions, leave=False):
        image = render([scene], 64)
        scores = clip_scores(image, captions)[0]
        best = scores == scores.max()
        clip.append(float(best[0]) / max(1, int(best.sum())))
        right = [v.aligned for v in alignment(image.expand(len(captions), -1, -1, -1), captions)]
        reader.append(right[0] / sum(right) if any(right) else 1 / len(right))
    return np.array(clip), np.array(reader)


def run(n: int) -> dict[str, Any]:
    """All questions, `n` scenes each."""
    rows = []
    for name, source in QUESTIONS.items():
        questions = [question for _, question in zip(range(n), source(), strict=False)]
        clip, reader = answered(questions)
        chance = float(np.mean([1 / len(captions) for _, captions in questions]))
        row: dict[str, Any] = {"question": name, "n": n, "chance": chance}
        for judge, hits in (("clip", clip), ("reader", reader)):
            row[judge] = {"right": round(float(hits.mean()), 4), "interval": interval(hits)}
        if name.startswith("how many"):
            shown = np.array([len(scene.things) for scene, _ in questions])
            row["by_count"] = {str(k): round(float(clip[shown == k].mean()), 4) for k in (1, 2, 3, 4)}
        rows.append(row)
        print(row, flush=True)
    return {"n": n, "rows": rows}


def as_text(result: dict[str, Any]) -> str:
    """The table as markdown."""
    rows = [
        [r["question"], f"{r['chance']:.2f}"]
        + [with_interval(r[judge]["right"], r[judge]["interval"]) for judge in ("clip", "reader")]
        for r in result["rows"]
    ]
    counted = next(r["by_count"] for r in result["rows"] if "by_count" in r)
    told = ", ".join(f"{share:.2f} of {n}" for n, share in counted.items())
    return table(["the true caption among others", "chance", "CLIP-lite", "the reader"], rows) + (
        f"\n\nCounts right by CLIP-lite: {told}. Real renders of held-out scenes, {result['n']} a row, 95 % bootstrap "
        f"intervals; {result['hardware']}; `python -m experiments.blind_spots`."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What CLIP-lite can tell apart.")
    parser.add_argument("-n", type=int, default=300, help="scenes a question")
    print(as_text(save_result("blind_spots", run(parser.parse_args(arguments).n), models=("reader", "clip-lite"))))


if __name__ == "__main__":
    main()
