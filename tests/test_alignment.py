"""Alignment: verdicts on things seen, without a network; captions of the categories; the report on a fake cascade."""

import importlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from imagen_lite.evaluate import alignment_report as table
from imagen_lite.evaluate.alignment import Verdict, judge
from imagen_lite.scenes.claims import Constraints, ThingSpec, placed
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.reader import Seen
from imagen_lite.scenes.words import TEXT_ONLY, split
from imagen_lite.scenes.world import HELD_OUT, sample_scene

CONE = Seen("cone", "red", x=0.3, depth=0.0)
HOUSE = Seen("house", "blue", x=0.7, depth=0.3, size="small")


def verdict(caption: str, *seen: Seen, setting=None) -> Verdict:
    return judge(parse(caption), seen, setting)


def test_right_pictures_are_aligned():
    right = verdict("a red cone to the left of a blue house", HOUSE, CONE)
    assert right.aligned
    assert right.reasons == ("red cone ✓", "blue house ✓", "red cone left of blue house ✓")
    assert verdict("a red cone", CONE).aligned
    assert verdict("two red cones", CONE, Seen("cone", "red", x=0.8)).aligned


@pytest.mark.parametrize(
    ("caption", "seen", "reason"),
    [
        ("a red cone and a blue house", (CONE, Seen("house", "green", x=0.7)), "blue house ✗ drawn green"),
        ("a red cone and a blue house", (CONE, Seen("cube", "blue", x=0.7)), "blue house ✗ drawn as a blue cube"),
        ("a red cone and a blue house", (CONE,), "blue house ✗ missing"),
        ("a red cone", (CONE, Seen("duck", "yellow")), "extra yellow duck ✗"),
        ("a red cone", (CONE, Seen("cone", "red", x=0.8)), "extra red cone ✗"),
        ("two red cones", (CONE,), "red cone ✗ missing"),
        ("a red cone right of a blue house", (CONE, HOUSE), "red cone right of blue house ✗"),
        ("a red cone behind a blue house", (CONE, HOUSE), "red cone behind blue house ✗"),
        ("a red cone on top of a blue house", (CONE, HOUSE), "red cone on top of blue house ✗"),
        ("a red cone", (), "red cone ✗ missing"),
        ("a red cone, there is no duck", (CONE, Seen("duck", "pink")), "no duck ✗"),
    ],
)
def test_wrong_pictures_are_not_and_the_reason_says_why(caption, seen, reason):
    wrong = verdict(caption, *seen)
    assert not wrong.aligned
    assert reason in wrong.reasons
    assert str(wrong).startswith("not aligned: ")


def test_swapped_colours_are_not_aligned_though_each_word_is_there():
    swapped = verdict("a red cone and a blue house", Seen("cone", "blue"), Seen("house", "red"))
    assert not swapped.aligned
    assert swapped.aspects["kind"] and swapped.aspects["color"] and swapped.aspects["count"]
    assert "red cone ✗ drawn blue" in swapped.reasons


def test_things_that_differ_by_a_relation_alone_still_give_a_reason():
    twins = (Seen("cube", "red", x=0.5, depth=0.0), Seen("cube", "red", x=0.52, depth=0.4))
    wrong = verdict("a red cube left of another red cube", *twins)
    assert not wrong.aligned and any("✗" in reason for reason in wrong.reasons)


def test_an_attribute_beside_is_reported_and_does_not_decide():
    v = verdict("a large shiny blue house on the grass at night", HOUSE, setting=("sand", "moon"))
    assert v.aligned
    assert v.aspects["size"] is False and v.aspects["finish"] is False
    assert v.aspects["surface"] is False and v.aspects["light"] is True
    assert v.aspects["pattern"] is None and v.aspects["relation"] is None


def test_a_caption_without_a_thing_is_not_aligned_and_says_so():
    assert judge(Constraints(), []).reasons == ("the caption names no thing of this world",)


@pytest.mark.parametrize("seed", range(40))
def test_a_scene_is_aligned_with_its_own_caption_and_not_with_another_things_caption(seed):
    case = table.cases(("one thing", "two things", "a relation")[seed % 3], "val", 14)[seed // 3]
    things = placed(case.scene)
    assert judge(parse(case.caption), things).aligned, case.caption
    assert not judge(parse(case.caption), things[:-1]).aligned
    assert judge(parse(case.caption), things[::-1]).aspects["count"]


def test_the_best_assignment_is_found_where_a_greedy_one_fails():
    specs = Constraints((ThingSpec(color="red"), ThingSpec(kind="cone", color="red")))
    assert judge(specs, [CONE, Seen("cube", "red")]).reasons == ("red thing ✓", "red cone ✓")


def test_cases_are_of_their_category_and_never_excluded():
    known = table.cases("one thing", "test", 5)
    others = table.cases("one thing", "test", 5, exclude=frozenset(c.caption for c in known))
    assert not {c.caption for c in known} & {c.caption for c in others}
    for case in table.cases("held-out one", "test", 20):
        (spec,) = parse(case.caption).things
        assert (spec.color, spec.kind) in HELD_OUT
    for case in table.cases("text-only word", "test", 20):
        assert set(split(case.caption)) & TEXT_ONLY.keys()
        (spec,) = parse(case.caption).things
        assert (spec.color, spec.kind) == (case.scene.things[0].color, case.scene.things[0].kind)
    with pytest.raises(ValueError, match="'three things'"):
        table.cases("three things", "test", 1)


def test_text_only_words_replace_a_word_with_its_article():
    scene = sample_scene(3, count=1)
    color = scene.things[0].color
    words = {table.unread(f"a {color} {scene.things[0].kind}", scene, random.Random(i)) for i in range(30)}
    assert all(w is None or parse(w) == parse(f"a {color} {scene.things[0].kind}") for w in words)
    blue = next(s for s in map(sample_scene, range(1000)) if s.things[0].color == "blue")
    caption = f"a blue {blue.things[0].kind}"
    told = {table.unread(caption, blue, random.Random(i)) for i in range(30)}
    assert f"an azure {blue.things[0].kind}" in told


def test_the_interval_covers_the_mean_and_narrows():
    coin = np.tile([0.0, 1.0], 50)
    low, high = table.interval(coin)
    assert low < 0.5 < high and 0.08 < high - 0.5 < 0.12  # 1.96 · 0.5 / 10
    wide, narrow = table.interval(coin[:20]), table.interval(np.tile(coin, 10))
    assert narrow[1] - narrow[0] < (high - low) / 2 < (wide[1] - wide[0]) / 2
    assert table.interval(coin, coin, statistic=lambda a, b: a.mean() - b.mean()) == (0, 0)


class Painter:
    """A cascade that is right when guided and guesses colours at w = 1. Its pictures are mere keys."""

    def __init__(self):
        self.seen: dict[int, list[Seen]] = {}

    def sample(self, prompts, *, guidance_weight, seed, resolution):
        images = torch.zeros(len(prompts), 3, resolution, resolution)
        for i, prompt in enumerate(prompts):
            key = len(self.seen) + 1
            images[i] += key
            guess = ("red", "blue")[(seed + i) % 2] if guidance_weight == 1 else None
            self.seen[key] = [
                Seen(s.kind, guess or s.color, x=0.2 + 0.3 * k) for k, s in enumerate(parse(prompt).things)
            ]
        return SimpleNamespace(images=images)


def test_the_report_prefers_the_weight_that_draws_right(monkeypatch):
    painter = Painter()

    def read(images, reader=None):
        return [painter.seen[int(image[0, 0, 0])] for image in images]

    def setting(images, reader=None):
        return [("sand", "noon")] * len(images)

    def render(scenes, size):
        captions = [f"a {s.things[0].color} {s.things[0].kind}" for s in scenes]
        return painter.sample(captions, guidance_weight=2, seed=0, resolution=size).images

    for name, fake in {"read": read, "read_setting": setting}.items():
        monkeypatch.setattr(importlib.import_module("imagen_lite.evaluate.alignment"), name, fake)
        monkeypatch.setattr(table, name, fake)
    monkeypatch.setattr(table, "render", render)
    monkeypatch.setattr(table, "load_manifest", lambda folder: {"sha256": "0", "scores": {"found": 1.0}})
    monkeypatch.setattr(table, "training_captions", frozenset)
    result = table.report(painter, n=20, weights=(1, 3), validation=9, each=4, batch=8, categories=("one thing",))
    (row,) = result["rows"]
    assert result["best_weight"] == 3 and row["aligned"] == row["ceiling"] == row["relative"] == 1.0
    assert row["at_w_1"] < 0.6 and row["gain_interval"][0] > 0
    assert "one thing" in table.format_report(result)
    with pytest.raises(ValueError, match="validation >= 3"):
        table.report(painter, validation=2)
