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
        assert name == "which colour is whose" or len(captions) in (2, 4, 8, 10)
        asked = {(spec.color, spec.kind) for spec in parse(captions[0]).things}
        assert not asked & HELD_OUT


def test_as_many_of_each_count_are_asked():
    counts = [len(scene.things) for scene, _ in itertools.islice(blind_spots.counts(), 60)]
    assert set(counts) == {1, 2, 3, 4} and min(map(counts.count, (1, 2, 3, 4))) >= 8


def test_who_knows_the_answer_gets_it_and_who_knows_nothing_gets_chance(monkeypatch):
    questions = list(itertools.islice(blind_spots.kinds(), 6))
    monkeypatch.setattr(blind_spots, "clip_scores", lambda image, captions: torch.eye(len(captions))[:1])
    monkeypatch.setattr(blind_spots, "render", lambda scenes, size: torch.zeros(1, 3, size, size))
    clip, reader = blind_spots.answered(questions)
    assert clip.tolist() == [1.0] * 6
    assert reader == pytest.approx([0.1] * 6)  # it sees nothing in a grey picture, and draws lots


def test_the_table_says_what_was_asked():
    row = {"question": "which kind", "n": 8, "chance": 0.1, "clip": {"right": 0.9, "interval": (0.8, 1.0)}}
    row |= {"reader": {"right": 1.0, "interval": (1.0, 1.0)}}
    counted = row | {"question": "how many, 1 to 4", "by_count": {"1": 0.9, "4": 0.2}}
    text = blind_spots.as_text({"n": 8, "rows": [row, counted], "hardware": "x"})
    assert "| which kind | 0.10 | 0.90 [0.80, 1.00] | 1.00 [1.00, 1.00] |" in text and "0.90 of 1, 0.20 of 4" in text
