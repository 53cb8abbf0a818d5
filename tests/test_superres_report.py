"""The judge of super-resolution: what a perfect stage and plain interpolation would score."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments import superres
from imagen_lite import data
from imagen_lite.data import Pool, to_uint8
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene

N = 12
BEARING = list(itertools.islice(superres.bearing("pattern"), 20))


@pytest.fixture(scope="module")
def real():
    return render([sample_scene(seed) for seed in range(N)], 64)


@pytest.fixture
def judged(real, monkeypatch):
    """`from_renders` on twelve pictures of 64 px and their 16-px averages, with features of three numbers."""
    pictures = {256: real, 64: F.avg_pool2d(real, 4)}
    texts = [["a thing"] * data.CAPTIONS] * N

    def pool(count, *, split, size, window):
        assert split == "test" and window is None
        return Pool([to_uint8(pictures[size]).numpy()], texts, [[]] * N, list(range(N)))

    monkeypatch.setattr(data, "pool", pool)
    monkeypatch.setattr(superres, "FEATURES", {"spread": lambda x: x.diff(dim=3).std((2, 3))})
    return lambda draw: superres.from_renders(draw, 256, N)


def test_a_perfect_stage_is_at_no_distance(judged, real):
    result = judged(lambda low_res, captions, seeds: real[seeds])
    assert result["frechet"]["spread"]["drawn"] < 1e-4 < result["frechet"]["spread"]["bicubic"]
    assert result["ratio"]["spread"] < 0.01
    assert result["power_of_fine_detail"]["drawn"] == pytest.approx(1, abs=0.02)
    assert max(map(abs, result["color_shift"]["drawn"])) < 0.005  # 8 bits
    assert max(map(abs, result["color_shift"]["renders"])) < 0.005  # the small ones are averages


def test_interpolation_scores_as_itself_and_a_tint_is_seen(judged):
    result = judged(lambda low_res, captions, seeds: superres.bicubic(low_res, 64))
    assert result["ratio"]["spread"] == pytest.approx(1, abs=1e-6)
    assert result["power_of_fine_detail"]["drawn"] < 0.3
    tint = torch.tensor([0.1, 0, 0]).view(3, 1, 1)
    shift = judged(lambda low, *_: superres.bicubic(low, 64) + tint)["color_shift"]
    assert shift["drawn"][0] == pytest.approx(0.1, abs=0.01) and abs(shift["renders"][0]) < 0.005


def test_both_interpolations_keep_what_they_enlarge(real):
    low_res = F.avg_pool2d(real, 4)
    for enlarge in (superres.bicubic, superres.lanczos):
        large = enlarge(low_res, 64)
        assert large.shape == real.shape
        assert (F.avg_pool2d(large, 4) - low_res).abs().mean() < 0.02


@pytest.mark.parametrize("detail", ["pattern", "letter"])
def test_captions_of_details_tell_them(detail):
    for scene, caption in itertools.islice(superres.bearing(detail), 20):
        thing, told = scene.things[0], parse(caption).things
        assert len(scene.things) == len(told) == 1
        assert (told[0].color, told[0].kind) == (thing.color, thing.kind)
        assert getattr(told[0], detail) == getattr(thing, detail) not in ("", "plain")


def test_only_what_is_misread_when_small_is_asked_for(monkeypatch):
    """A judge to whom all that is bright is right: renders are misread, and so is a picture drawn without text."""
    bright = lambda images, scenes, detail: (images.mean((1, 2, 3)) > 0.9).tolist()  # noqa: E731
    monkeypatch.setattr(superres, "right", bright)

    def drawer(cascade, resolution, aug_level, weight):
        return lambda low_res, captions, seeds: torch.full((len(seeds), 3, 8, 8), 1.0 if weight else -1.0)

    monkeypatch.setattr(superres, "drawer", drawer)
    result = superres.by_caption_alone(None, "pattern", 10, weight=2.0, aug_level=0.1)
    assert result == {
        "n": 10,
        "weight": 2.0,
        "aug_level": 0.1,
        "with": 1.0,
        "without": 0.0,
        "gain": 1.0,
        "interval": (1.0, 1.0),
    }
    monkeypatch.setattr(superres, "right", lambda images, scenes, detail: [True] * len(scenes))
    monkeypatch.setattr(superres, "bearing", lambda detail, split: itertools.islice(BEARING, 20))
    assert list(superres.unread("pattern")) == []


def test_a_pair_of_the_test_split_belongs_together(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(data, "SHARD", 2)
    monkeypatch.setattr(superres, "WINDOW", {128: 32})
    (real, low_res, captions, seeds), *more = superres.pairs(128, 2)
    assert not more and seeds == [0, 1] and all(isinstance(text, str) for text in captions)
    assert real.shape == (2, 3, 32, 32) and low_res.shape == (2, 3, 8, 8)
    difference = (F.avg_pool2d(real, 4) - low_res).abs().mean((1, 2, 3))
    assert (difference < (F.avg_pool2d(real, 4) - low_res.flip(0)).abs().mean((1, 2, 3))).all()
    assert np.isfinite(difference.numpy()).all()


def test_after_a_new_base_only_the_stages_are_measured_again(monkeypatch, capsys):
    kept = {"from_renders": "as it was", "stages": "of the old base"}
    monkeypatch.setattr(superres, "load_cascade", lambda: SimpleNamespace(stages={64: None, 256: None}))
    monkeypatch.setattr(superres, "after_each_stage", lambda cascade, size, n: f"{n} prompts to {size}")
    monkeypatch.setattr(superres, "load_result", lambda name: dict(kept))
    monkeypatch.setattr(superres, "save_result", lambda name, result, models: saved.append((name, result, models)))
    saved: list = []
    monkeypatch.setattr(superres, "is_current", lambda name, models: "base64" not in models)
    superres.main(["256", "-n", "200", "--stages"])
    (name, result, models), *rest = saved
    assert not rest and name == "sr256" and {"base64", "sr256", "detail"} <= set(models)
    assert result == {"from_renders": "as it was", "stages": "20 prompts to 256"}
    monkeypatch.setattr(superres, "is_current", lambda name, models: False)
    with pytest.raises(SystemExit):
        superres.main(["256", "--stages"])
    assert "is not the one that was measured" in capsys.readouterr().err


def test_details_alone_are_measured_again_where_nothing_has_changed(monkeypatch, capsys):
    monkeypatch.setattr(superres, "load_cascade", lambda: SimpleNamespace(stages={64: None, 256: None}))
    monkeypatch.setattr(superres, "by_caption_alone", lambda cascade, detail, n, *told: f"{n} of a {detail} at {told}")
    monkeypatch.setattr(superres, "load_result", lambda name: {"stages": "as they were", "letter": "of fewer"})
    monkeypatch.setattr(superres, "save_result", lambda name, result, models: saved.append((name, result)))
    saved: list = []
    monkeypatch.setattr(superres, "is_current", lambda name, models: "base64" in models)
    superres.main(["256", "-n", "200", "--details", "letter"])
    assert saved == [("sr256", {"stages": "as they were", "letter": "50 of a letter at (3.0, 0.5)"})]
    monkeypatch.setattr(superres, "is_current", lambda name, models: "base64" not in models)
    for size, why in (("256", "is not the one that was measured"), ("1024", "details are judged at 256 px")):
        with pytest.raises(SystemExit):
            superres.main([size, "--details", "pattern"])
        assert why in capsys.readouterr().err


def test_all_of_a_stage_is_measured_side_by_side(monkeypatch):
    monkeypatch.setattr(superres, "load_cascade", lambda: SimpleNamespace(stages={64: None, 256: None}))
    monkeypatch.setattr(superres, "pools", lambda size, n: rendered.append((size, n)))
    monkeypatch.setattr(superres, "side_by_side", lambda jobs: [job() for job in jobs])
    monkeypatch.setattr(superres, "drawer", lambda cascade, size: size)
    for name in ("from_renders", "consistent", "by_caption_alone", "after_each_stage"):
        monkeypatch.setattr(superres, name, lambda *given, name=name: (name, *given[1:]))
    monkeypatch.setattr(superres, "save_result", lambda name, result, models: saved.append((name, result)))
    rendered, saved = [], []
    superres.main(["256", "-n", "200"])
    assert rendered == [(256, 200)]
    assert saved == [("sr256", {
        "from_renders": ("from_renders", 256, 200), "consistency": ("consistent", 256, 16),
        "pattern": ("by_caption_alone", "pattern", 50, 8.0, 0.1),
        "letter": ("by_caption_alone", "letter", 50, 3.0, 0.5), "stages": ("after_each_stage", 256, 20),
    })]  # fmt: skip
