"""Teaching heed of captions: what is looked at, and what heed is."""

import dataclasses

import pytest
import torch

from experiments import heed
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene
from imagen_lite.train import keyed_normal

DETAILS = pytest.mark.parametrize("detail", heed.WORDS)


@DETAILS
def test_windows_look_at_the_detail_alike_at_both_sizes(detail):
    for scene in map(sample_scene, heed.bearing(detail, "val", 4)):
        thing = heed.bearers(scene, detail)[0]
        top, left, side, _ = heed.window_on(scene, thing)
        at_64 = heed.window_on(scene, thing, 64)
        assert at_64 == (top // 4, left // 4, side // 4, side // 4) and side == heed.SIDE
        x, y, *_ = heed.box_of(scene, thing)
        assert left <= 256 * x <= left + side and top <= 256 * y <= top + side
        large, small = (render([scene], size, window=heed.window_on(scene, thing, size)) for size in (256, 64))
        made_small = torch.nn.functional.avg_pool2d(large, 4)
        off = [(made_small - small.roll(by, 3)).abs().mean() for by in (0, -1, 1)]
        assert off[0] < 0.6 * min(off[1:])


@DETAILS
def test_captions_tell_the_detail_and_another_if_asked(detail):
    for scene in map(sample_scene, heed.bearing(detail, "val", 20)):
        word = getattr(scene.things[heed.bearers(scene, detail)[0]], detail)
        for text in heed.said(scene, detail):
            assert word in [getattr(thing, detail) for thing in parse(text).things], text
        others = [heed.another(word, detail, i) for i in range(len(heed.WORDS[detail]) - 1)]
        assert {word, *others} == set(heed.WORDS[detail]) and word not in others
        for other in others:
            assert getattr(parse(heed.told(scene, detail, other)).things[0], detail) == other


@pytest.mark.parametrize("lesson", heed.LESSONS)
def test_batches_look_at_details_as_often_as_the_lesson_says(lesson):
    _, shares = heed.LESSONS[lesson]
    looks = [heed.looked_at(k / 1000, shares) for k in range(1000)]
    for detail in heed.WORDS:
        assert looks.count(detail) == pytest.approx(1000 * shares.get(detail, 0), abs=1)
    assert looks.count(None) == pytest.approx(1000 * (1 - sum(shares.values())), abs=1)


@pytest.fixture(params=heed.WORDS)
def held(request, monkeypatch, tmp_path):
    """Which detail, four validation windows of it, and their captions, encoded."""
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(heed, "side_by_side", lambda jobs: [job() for job in jobs])
    encoder = heed.load_text_encoder(heed.ENCODER, heed.CPU)
    windows = heed.windows(request.param, "val", 4)
    return request.param, heed.Pairs(windows, encoder, heed.CLOSE, heed.CPU), encoder


def test_windows_with_details_are_as_noisy_as_the_recipe_allows(held):
    class Watching(torch.nn.Module):
        def forward(self, x_t, t, text, low_res, level):
            self.level = level
            return torch.zeros_like(x_t)

    for highest in (1.0, 0.5, 0.0):
        model, pairs = Watching(), held[1]
        pairs.recipe = dataclasses.replace(pairs.recipe, augmentation=highest)
        heed.OnlyTold(model, pairs, 0, torch.float32)(0)
        low, high = (highest * end for end in heed.LEVELS)
        assert len(model.level) == pairs.recipe.train.batch
        assert low <= model.level.min() and model.level.max() <= high and (low == high or len(set(model.level)) > 1)


def test_a_network_that_is_deaf_heeds_nothing(held):
    detail, held, encoder = held
    scenes = [sample_scene(seed) for seed in heed.bearing(detail, "val", 4)]

    class Hearing(torch.nn.Module):
        def __init__(self, deaf):
            super().__init__()
            self.deaf = deaf

        def forward(self, x_t, t, text, low_res, level):
            own = keyed_normal(12345, 0, torch.arange(len(x_t)), tuple(x_t.shape[1:]), stream=3)
            right = encoder([heed.told(scene, detail) for scene in scenes]).tokens
            wrong = (text.tokens - right).abs().mean((1, 2)).view(-1, 1, 1, 1)
            return own + 0.1 + (0 if self.deaf else wrong)

    assert heed.heed(Hearing(True), encoder, held, scenes, detail) == {"0.1": 1.0, "0.5": 1.0, "0.9": 1.0}
    assert min(heed.heed(Hearing(False), encoder, held, scenes, detail).values()) > 1.01
