"""The detail reader: it looks where it is told, learns, and is asked only for what can be seen."""

import dataclasses

import numpy as np
import pytest
import torch

from imagen_lite import data
from imagen_lite.data import Pool, to_uint8
from imagen_lite.recipes import detail
from imagen_lite.scenes.detail import DETAILS, DetailReader, crops_of, read_details
from imagen_lite.scenes.reader import box_of
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene
from imagen_lite.train import TrainConfig


def test_a_crop_is_the_square_around_the_box():
    """A picture whose values are its coordinates says where the crop's corners lie."""
    at = (torch.arange(256) + 0.5) / 256
    image = torch.stack([at.expand(256, 256), at[:, None].expand(256, 256), torch.zeros(256, 256)])[None]
    crop = crops_of(image, [(0.5, 0.4, 0.2, 0.1)])[0]
    side = 1.15 * 0.2
    assert crop.shape == (3, 64, 64)
    assert crop[0, 0, 0].item() == pytest.approx(0.5 - side / 2 * 63 / 64, abs=2e-3)
    assert crop[1, -1, 0].item() == pytest.approx(0.4 + side / 2 * 63 / 64, abs=2e-3)
    assert crop[:2].mean((1, 2)).tolist() == pytest.approx([0.5, 0.4], abs=1e-3)


def test_hidden_things_are_not_asked_for():
    scene = next(s for seed in range(100) if len((s := sample_scene(seed)).things) == 2)
    assert [t for t, _ in detail.asked(scene, np.array([0.9, 0.3, 0, 0]))] == [scene.things[0]]
    assert detail.asked(scene, np.array([0.9, 0.3, 0, 0]))[0][1] == box_of(scene, 0)


@pytest.fixture(scope="module")
def pool():
    """Eight scenes of the training split, at 128 px: enough to learn by heart."""
    seeds = [seed for seed in range(60) if any(t.pattern != "plain" for t in sample_scene(seed).things)][:8]
    pictures = to_uint8(render([sample_scene(seed) for seed in seeds], 128)).numpy()
    return Pool([pictures], [["a thing"] * data.CAPTIONS] * 8, [[]] * 8, seeds)


def test_it_learns_what_it_is_shown_and_is_read_back(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "pool", lambda *args, **kwargs: pool)
    config = TrainConfig(batch=16, lr=3e-3, warmup=5, steps=120, decay_from=60, ema=0.9)
    scores = detail.run(device="cpu", out=tmp_path / "out", run_folder=tmp_path / "run", config=config)
    assert scores["pattern"] >= 0.8  # shown 120 × 16 times; by chance 1/4
    known = detail.views(pool, torch.device("cpu"))
    from imagen_lite.scenes.detail import load_detail_reader

    model = load_detail_reader(tmp_path / "out")
    images = data.to_images(known.pictures[known.index])
    words = read_details(images, known.boxes.tolist(), model)
    right = [w["pattern"] == DETAILS["pattern"][int(label)] for w, label in zip(words, known.labels[:, 0], strict=True)]
    assert np.mean(right) >= 0.8


def test_lettered_things_are_looked_at_more_often(pool):
    known = detail.views(pool, torch.device("cpu"))
    labels = known.labels.clone()
    labels[:, 1], labels[0, 1] = 0, 5
    weight = torch.where(labels[:, 1] > 0, 8.0, 1.0)
    known = dataclasses.replace(known, labels=labels, weight=weight)
    config = TrainConfig(batch=64)
    seen = torch.cat([known.batch(config, step)[1] for step in range(20)])
    share = float((seen[:, 1] == 5).float().mean())
    assert share == pytest.approx(8 / (len(labels) + 7), abs=0.05)


def test_one_box_a_picture():
    with pytest.raises(ValueError, match="2 images but 1 boxes"):
        read_details(torch.zeros(2, 3, 256, 256), [(0.5, 0.5, 0.2, 0.2)], DetailReader())
