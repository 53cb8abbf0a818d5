"""DrawBench-lite asks what its categories say, in words that the judge knows; the real list is read as it comes."""

import itertools
from collections import Counter

import pytest

from experiments import drawbench as experiment
from experiments import superres
from imagen_lite.recipes import evaluation
from imagen_lite.scenes import drawbench, parse, render
from imagen_lite.scenes.drawbench import load_drawbench, load_drawbench_lite
from imagen_lite.scenes.words import TEXT_ONLY, split, unknown_words
from imagen_lite.scenes.world import HELD_OUT, LETTERS, PATTERNS

PROMPTS = load_drawbench_lite()
BY_CATEGORY = {row.category: [r for r in PROMPTS if r.category == row.category] for row in PROMPTS}


def specs(row):
    return {(spec.color, spec.kind) for spec in parse(row.means).things}


def test_there_are_about_110_and_no_two_alike():
    assert len(PROMPTS) == 110 and len({row.prompt for row in PROMPTS}) == 110
    assert min(Counter(row.category for row in PROMPTS).values()) >= 10
    card = (drawbench.LITE.parent / "README.md").read_text()
    for category, rows in BY_CATEGORY.items():
        assert f"| {category} | {len(rows)} |" in card


def test_the_judge_knows_every_word_of_what_is_meant():
    for row in PROMPTS:
        assert not unknown_words(row.means) and parse(row.means).things, row
        assert not set(split(row.means)) & TEXT_ONLY.keys(), row


def test_only_conflicting_prompts_ask_for_what_was_held_out():
    assert all(specs(row) <= HELD_OUT for row in BY_CATEGORY["Conflicting"])
    assert not any(specs(row) & HELD_OUT for row in PROMPTS if row.category != "Conflicting")


def test_each_category_asks_what_it_says():
    counts = [sum(s.count for s in parse(r.means).things) for r in BY_CATEGORY["Counting"]]
    assert {1, 2, 3, 4} <= set(counts) and max(counts) <= 4
    assert all(parse(r.means).relations for r in BY_CATEGORY["Positional"])
    assert all(set(split(r.prompt)) & TEXT_ONLY.keys() for r in BY_CATEGORY["Rare Words"])
    assert all(unknown_words(r.prompt) for r in BY_CATEGORY["Misspellings"])
    assert all(parse(r.means).things[0].letter for r in BY_CATEGORY["Text"])
    assert sum(len(parse(r.means).things) >= 2 for r in BY_CATEGORY["Colors"]) >= 15
    said = [row for row in PROMPTS if row.prompt != row.means]
    assert {row.category for row in said} == {"Descriptions", "Rare Words", "Misspellings"}


def test_the_real_list_is_read_from_its_csv(tmp_path):
    path = tmp_path / "DrawBench Prompts.csv"
    path.write_text('Prompts,Category\n"A red colored car, parked.",Colors\nTcennis rpacket.,Misspellings\n')
    rows = load_drawbench(path)
    assert [row.category for row in rows] == ["Colors", "Misspellings"] and rows[
        0
    ].prompt == "A red colored car, parked."
    path.write_text("text,label\na,b\n")
    with pytest.raises(ValueError, match="columns Prompts and Category"):
        load_drawbench(path)


def test_a_hub_out_of_reach_is_told_in_a_sentence(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr(drawbench, "hub_failure", lambda *_: TimeoutError("no answer"))
    with pytest.raises(ValueError, match="check the name and the network"):
        load_drawbench()


def test_the_hub_gives_the_same_rows(monkeypatch):
    datasets = pytest.importorskip("datasets")
    labels = datasets.Features(
        prompts=datasets.Value("string"), category=datasets.ClassLabel(names=["Colors", "Counting"])
    )
    table = datasets.Dataset.from_list([{"prompts": "Five cars on the street.", "category": 1}], labels)
    monkeypatch.setattr(drawbench, "hub_failure", lambda *_: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda source, split: table)
    assert load_drawbench("some/one")[0] == drawbench.BenchPrompt("Counting", *["Five cars on the street."] * 2)


@pytest.mark.parametrize(("detail", "first"), [("letter", 0), ("pattern", 1)])  # 0: a sphere, read as a mushroom
def test_details_are_read_on_things_of_the_right_colour(detail, first):
    scenes = [scene for scene, _ in itertools.islice(superres.bearing(detail), first, first + 4)]
    for image, scene in zip(render(scenes, 256), scenes, strict=True):
        thing, words = scene.things[0], LETTERS if detail == "letter" else PATTERNS[1:]
        other = words[words.index(getattr(thing, detail)) - 1]
        told = "a {} cube with the letter {}" if detail == "letter" else f"a {{1}} {{0}} {thing.kind}"
        color = "red" if thing.color != "red" else "blue"
        said = [(thing.color, getattr(thing, detail)), (thing.color, other), (color, getattr(thing, detail))]
        read = [evaluation.bears(image[None], told.format(of, has), detail) for of, has in said]
        assert read == [[True], [False], [False]]


def test_shares_are_of_pictures_and_intervals_of_prompts(monkeypatch):
    rows = [drawbench.BenchPrompt("Colors", str(i), "a red cone") for i in range(4)]
    levels = []

    def judged(cascade, row, each):
        levels.append(cascade.stages[256].sampling.aug_level)
        return [k < int(row.prompt) for k in range(each)]

    monkeypatch.setattr(experiment, "judged", judged)
    result = experiment.run([*rows, drawbench.BenchPrompt("Text", "1", "a cube with the letter A on it")], 4)
    row, text = result["rows"]
    assert row["right"] == 0.375 and row["never"] == ["0"] and row["interval"][0] < 0.375 < row["interval"][1]
    assert "| Colors | 4 | 0.38 [" in experiment.as_text(result | {"hardware": "x"})
    assert text["right"] == result["told"]["right"] == 0.25 and levels == [0.0] * 5 + [0.5]
