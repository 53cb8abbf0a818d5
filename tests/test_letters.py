"""Teaching letters: what is looked at, and what heed of a caption is."""

import dataclasses

import pytest
import torch

from experiments import letters
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene
from imagen_lite.train import keyed_normal


def test_windows_look_at_the_letter_alike_at_both_sizes():
    seeds = letters.lettered("val", 4)
    for scene in map(sample_scene, seeds):
        top, left, side, _ = letters.window_on(scene)
        assert letters.window_on(scene, 64) == (top // 4, left // 4, side // 4, side // 4) and side == letters.SIDE
        x, y, *_ = letters.box_of(scene, letters.bearers(scene)[0])
        assert left <= 256 * x <= left + side and top <= 256 * y <= top + side
        large, small = (render([scene], size, window=letters.window_on(scene, size)) for size in (256, 64))
        made_small = torch.nn.functional.avg_pool2d(large, 4)
        off = [(made_small - small.roll(by, 3)).abs().mean() for by in (0, -1, 1)]
        assert off[0] < 0.6 * min(off[1:])


def test_captions_tell_the_letter_and_another_if_asked():
    for scene in map(sample_scene, letters.lettered("val", 20)):
        letter = scene.things[letters.bearers(scene)[0]].letter
        for text in letters.said(scene):
            assert letter in [thing.letter for thing in parse(text).things], text
        assert parse(letters.told(scene, "Z")).things[0].letter == "Z"


@pytest.fixture
def held(monkeypatch, tmp_path):
    """Four validation windows with letters, and their captions, encoded."""
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(letters, "side_by_side", lambda jobs: [job() for job in jobs])
    encoder = letters.load_text_encoder(letters.ENCODER, letters.CPU)
    return letters.Pairs(letters.windows("val", 4), encoder, letters.CLOSE, letters.CPU), encoder


def test_windows_with_letters_are_as_noisy_as_the_recipe_allows(held):
    class Watching(torch.nn.Module):
        def forward(self, x_t, t, text, low_res, level):
            self.level = level
            return torch.zeros_like(x_t)

    for highest in (1.0, 0.5, 0.0):
        model, pairs = Watching(), held[0]
        pairs.recipe = dataclasses.replace(pairs.recipe, augmentation=highest)
        letters.OnlyTold(model, pairs, 0, torch.float32)(0)
        low, high = (highest * end for end in letters.LEVELS)
        assert len(model.level) == pairs.recipe.train.batch
        assert low <= model.level.min() and model.level.max() <= high and (low == high or len(set(model.level)) > 1)


def test_a_network_that_is_deaf_heeds_nothing(held):
    held, encoder = held
    scenes = [sample_scene(seed) for seed in letters.lettered("val", 4)]

    class Hearing(torch.nn.Module):
        def __init__(self, deaf):
            super().__init__()
            self.deaf = deaf

        def forward(self, x_t, t, text, low_res, level):
            own = keyed_normal(12345, 0, torch.arange(len(x_t)), tuple(x_t.shape[1:]), stream=3)
            right = encoder([letters.told(scene) for scene in scenes]).tokens
            wrong = (text.tokens - right).abs().mean((1, 2)).view(-1, 1, 1, 1)
            return own + 0.1 + (0 if self.deaf else wrong)

    assert letters.heed(Hearing(True), encoder, held, scenes) == {"0.1": 1.0, "0.5": 1.0, "0.9": 1.0}
    assert min(letters.heed(Hearing(False), encoder, held, scenes).values()) > 1.01
