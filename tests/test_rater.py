"""Rating pairs: sides are hidden and random, answers come out as whose they are, and shares have intervals."""

import json

import numpy as np
import pytest

from imagen_lite.data import to_uint8
from imagen_lite.evaluate.rating import QUESTIONS, Pair, in_random_order, reader_answers, win_rates
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene
from imagen_lite.widgets import DrawBenchRater


def pairs(n: int = 12) -> list[Pair]:
    """Pairs in two categories; the first model's pictures are black, the second's white."""
    black, white = (np.full((2, 64, 64, 3), value, np.uint8) for value in (0, 255))
    return [Pair("Colors" if i % 2 else "Counting", f"prompt {i}", "a red cone", black, white) for i in range(n)]


def rate(rater: DrawBenchRater, **answers: str) -> None:
    """Answer both questions and go on."""
    for key, answer in answers.items():
        rater.answers[key].value = answer
    rater.next.click()


def test_order_and_sides_are_random_and_repeatable():
    one, again, other = (in_random_order(pairs(40), seed) for seed in (0, 0, 1))
    prompts = [pair.prompt for pair, _ in one]
    assert prompts == [pair.prompt for pair, _ in again] != [pair.prompt for pair, _ in other]
    assert sorted(prompts) == sorted(pair.prompt for pair in pairs(40))
    assert 10 < sum(turned for _, turned in one) < 30


def test_whoever_prefers_the_white_set_prefers_the_second_model(tmp_path):
    rater = DrawBenchRater(pairs(), ("black", "white"), tmp_path / "ratings.json")
    while len(rater.ratings) < 12:
        _, left, right = rater._sides()
        assert rater.next.disabled
        white = "A" if left.mean() > right.mean() else "B"
        rate(rater, fidelity=white, alignment="indifferent")
    assert {r["fidelity"] for r in rater.ratings} == {"second"}
    assert "All rated" in rater.page.value and "black to white" in rater.table.value
    rows = win_rates(rater.ratings, "fidelity")
    assert [r["category"] for r in rows][-1] == "all" and all(r["share"] == 0 for r in rows)
    assert win_rates(rater.ratings, "alignment")[-1] == {
        "category": "all",
        "n": 12,
        "share": 0.5,
        "interval": (0.5, 0.5),
    }


def test_one_answer_is_not_enough_and_what_is_shown_tells_no_names():
    rater = DrawBenchRater(pairs(), ("black", "white"))
    rater.answers["fidelity"].value = "A"
    assert rater.next.disabled and "black" not in rater.page.value and rater.table.value == ""
    rater.answers["alignment"].value = "B"
    assert not rater.next.disabled
    rater.next.click()
    assert rater.next.disabled and [a.value for a in rater.answers.values()] == [None, None]


def test_answers_are_taken_up_again_and_those_of_others_refused(tmp_path):
    path = tmp_path / "ratings.json"
    first = DrawBenchRater(pairs(), ("a", "b"), path)
    rate(first, fidelity="A", alignment="A")
    second = DrawBenchRater(pairs(), ("a", "b"), path)
    assert second.ratings == first.ratings == json.loads(path.read_text())
    rate(second, fidelity="B", alignment="A")
    assert len(json.loads(path.read_text())) == 2
    with pytest.raises(ValueError, match="give another file"):
        DrawBenchRater(pairs(), ("a", "b"), path, seed=1)


def test_shares_count_halves_and_have_intervals():
    rows = [
        {"category": "Colors", "fidelity": answer} for answer in ["first"] * 6 + ["indifferent"] * 2 + ["second"] * 2
    ]
    row = win_rates(rows, "fidelity")[0]
    assert row["share"] == pytest.approx(0.7) and 0.3 < row["interval"][0] < 0.7 < row["interval"][1] <= 1
    assert win_rates([], "fidelity") == [] and set(QUESTIONS) == {"fidelity", "alignment"}


def test_the_reader_prefers_what_shows_what_is_meant():
    scene = next(s for s in map(sample_scene, range(100)) if len(s.things) == 1)
    true = to_uint8(render([scene, scene], 64)).numpy()
    means = f"a {scene.things[0].color} {scene.things[0].kind}"
    empty = np.full_like(true, 120)
    assert reader_answers(Pair("c", means, means, true, empty)) == "first"
    assert reader_answers(Pair("c", means, means, empty, true)) == "second"
    assert reader_answers(Pair("c", means, means, true, true)) == "indifferent"
