"""The questions that judges are asked: one true caption each, and scores that are chance for who knows nothing."""

import itertools

import pytest
import torch

from experiments import blind_spots
from imagen_lite.scenes import parse
from imagen_lite.scenes.claims import satisfied
from imagen_lite.scenes.world import HELD_OUT, SPLITS


@pytest.mark.parametrize("name", blind_spots.QUESTIONS)
def test_the_first_caption_is_true_and_no_other(name):
    for scene, captions in itertools.islice(blind_spots.QUESTIONS[name](), 12):
        true = [not satisfied(parse(caption), scene, exact=True) for caption in captions]
        assert true == [True] + [False] * (len(captions) - 1), (captions, scene)
        assert scene.seed in SPLITS["test"] and len(set(captions)) == len(captions)
        sizes = {"which colour": (6, 7, 8), "which kind": (8, 9, 10), "how many, 1 to 4": (4,)}
        assert len(captions) in sizes.get(name, (2,))
        asked = {(spec.color, spec.kind) for caption in captions for spec in parse(caption).things}
        assert not asked & HELD_OUT


def test_as_many_of_each_count_are_asked():
    counts = [len(scene.things) for scene, _ in itertools.islice(blind_spots.counts(), 60)]
    assert set(counts) == {1, 2, 3, 4} and min(map(counts.count, (1, 2, 3, 4))) >= 8


def test_who_knows_the_answer_gets_it_and_who_knows_nothing_gets_chance(monkeypatch):
    questions = list(itertools.islice(blind_spots.kinds(), 6))
    monkeypatch.setattr(blind_spots, "render", lambda scenes, size: torch.zeros(1, 3, size, size))
    chance = [1 / len(captions) for _, captions in questions]
    for knows, expected in ((lambda n: torch.eye(n)[:1], [1.0] * 6), (lambda n: torch.zeros(1, n), chance)):
        monkeypatch.setattr(blind_spots, "clip_scores", lambda _, captions, knows=knows: knows(len(captions)))
        clip, reader = blind_spots.answered(questions)
        assert clip == pytest.approx(expected)
        assert reader == pytest.approx(chance)  # it sees nothing in a grey picture, and draws lots


def test_the_table_says_what_was_asked():
    row = {"question": "which kind", "n": 8, "chance": 0.1, "clip": {"right": 0.9, "interval": (0.8, 1.0)}}
    row |= {"reader": {"right": 1.0, "interval": (1.0, 1.0)}}
    counted = row | {"question": "how many, 1 to 4", "by_count": {"1": 0.9, "4": 0.2}}
    text = blind_spots.as_text({"n": 8, "rows": [row, counted], "hardware": "x"})
    assert "| which kind | 0.10 | 0.90 [0.80, 1.00] | 1.00 [1.00, 1.00] |" in text and "0.90 of 1, 0.20 of 4" in text
