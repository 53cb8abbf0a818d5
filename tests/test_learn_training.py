"""Notebook 05: plausible wrong answers to its exercises, for test_learn, and its small world."""

import torch

from imagen_lite import learn
from imagen_lite.learn.training import EPS, SCHEDULE, X0, eps_loss
from imagen_lite.prediction import loss_weight
from imagen_lite.recipes.stages import denoising_loss
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.small import small_scenes
from imagen_lite.scenes.world import HELD_OUT
from imagen_lite.text import TextEmbedding
from imagen_lite.train import Ema


def errors(predict, x0, t, eps, schedule):
    return (predict(schedule.add_noise(x0, t, eps), t) - eps).square().mean((1, 2, 3))


WRONG = {
    "loss": [
        (lambda p, x0, t, eps, s: errors(p, x0, t, eps, s) / s.alpha(t) ** 2, "one number"),
        (lambda p, x0, t, eps, s: (p(x0, t) - eps).square().mean(), "clean picture"),
        (lambda p, x0, t, eps, s: (p(x0 + eps, t) - eps).square().mean(), "something else than x_t"),
        (lambda p, x0, t, eps, s: errors(lambda x, _: p(x, 0 * t), x0, t, eps, s).mean(), "must be told the t"),
        (lambda p, x0, t, eps, s: (p(s.add_noise(x0, t, eps), t) - x0).square().mean(), "not the picture"),
        (lambda p, x0, t, eps, s: errors(p, x0, t, eps, s).mean(), "right but for the weight"),
        (lambda p, x0, t, eps, s: errors(p, x0, t, eps, s).mean() * (1 / s.alpha(t) ** 2).mean(), "averaged apart"),
        (lambda p, x0, t, eps, s: (errors(p, x0, t, eps, s).sqrt() / s.alpha(t) ** 2).mean(), "squared"),
        (lambda p, x0, t, eps, s: (errors(p, x0, t, eps, s) / s.alpha(t.flip(0)) ** 2).mean(), "other picture"),
        (lambda p, x0, t, eps, s: (errors(p, x0, t, eps, s) / s.alpha(t)).mean(), "over its alpha²"),
    ],
    "EMA": [
        (lambda a, w, d: (1 - d) * a + d * w, "turned round"),
        (lambda a, w, d: (a + w) / 2, "half of the past"),
        (lambda a, w, d: d * a + w, "without end"),
        (lambda a, w, d: d * a, "nothing may change"),
        (lambda a, w, d: d**2 * a + (1 - d**2) * w, "decay · average"),
        (lambda a, w, d: (d * a + (1 - d) * w).mean(), "shape"),
    ],
}


def test_the_loss_is_the_one_that_the_recipes_minimise():
    t = torch.tensor([0.3, 0.6])
    text = TextEmbedding(torch.zeros(2, 1, 4), torch.ones(2, 1, dtype=torch.bool))
    network = lambda x_t, angle, text: 0.5 * x_t + angle.view(-1, 1, 1, 1)  # noqa: E731
    weight = loss_weight(SCHEDULE.log_snr(t), "eps", "snr+1")
    theirs = denoising_loss(network, SCHEDULE, X0, t, EPS, weight, text)
    mine = eps_loss(lambda x_t, at: network(x_t, SCHEDULE.angle(at), text), X0, t, EPS, SCHEDULE)
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(weight, 1 / SCHEDULE.alpha(t) ** 2)


def test_the_average_is_the_one_that_training_keeps():
    model = torch.nn.Linear(3, 2)
    kept = Ema(model, 0.9)
    before = kept.shadow["weight"].clone()
    with torch.no_grad():
        model.weight += 1
    kept.update(model, 1000)
    expected = learn.EXERCISES["EMA"].solution(before, model.weight.detach(), 0.9)
    torch.testing.assert_close(kept.shadow["weight"], expected)


def test_the_small_world_shows_what_it_says_and_nothing_held_out():
    scenes, captions = small_scenes(60)
    for scene, caption in zip(scenes, captions, strict=True):
        (thing,), (told,) = scene.things, parse(caption).things
        assert (told.color, told.kind) == (thing.color, thing.kind) and (thing.color, thing.kind) not in HELD_OUT
    assert small_scenes(60) == (scenes, captions) != small_scenes(60, seed=1)
    assert len(set(captions)) > 15
    image = render(scenes[:2], 32)
    assert image.shape == (2, 3, 32, 32) and image.std() > 0.2
