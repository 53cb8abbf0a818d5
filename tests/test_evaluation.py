"""All metrics in one command: parts are kept and read again, new weights begin anew, tables say what was found."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.recipes import evaluation
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene


@pytest.fixture(scope="module")
def cascade():
    """The shipped cascade, sampled in two steps: only that it draws matters here."""
    whole = load_cascade("cpu")
    quick = {
        size: dataclasses.replace(stage, sampling=dataclasses.replace(stage.sampling, steps=2))
        for size, stage in whole.stages.items()
        if size <= 256
    }
    return Cascade(whole.text_encoder, quick, torch.float32)


@pytest.fixture
def parts(monkeypatch, tmp_path):
    """Three parts in the place of the real ones, which count how often they are asked; an empty cache."""
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    asked: list[str] = []
    row = {"category": "Colors", "right": 0.5, "interval": (0.2, 0.8), "n": 4}
    found = {"reader": {"found": 0.97}, "drawbench": {"each": 4, "rows": [row]}, "1024": {"ratio": 0.3}}
    for name, value in found.items():
        monkeypatch.setitem(evaluation.PARTS, name, lambda _, seed, n=name, v=value: asked.append(f"{n} {seed}") or v)
    monkeypatch.setattr(evaluation, "PARTS", {name: evaluation.PARTS[name] for name in found})
    return asked


def test_parts_are_found_once_and_stages_that_are_not_there_are_left_out(cascade, parts):
    first = evaluation.evaluation(cascade, seed=3)
    again = evaluation.evaluation(cascade, seed=3)
    assert parts == ["reader 3", "drawbench 3"] and first == again
    assert json.loads(json.dumps(first)) == first and first["reader"]["seconds"] >= 0
    evaluation.evaluation(cascade, seed=3, fresh=True)
    evaluation.evaluation(cascade, seed=4)
    assert parts[2:] == ["reader 3", "drawbench 3", "reader 4", "drawbench 4"]


def test_what_stopped_goes_on(cascade, parts, monkeypatch):
    monkeypatch.setitem(evaluation.PARTS, "drawbench", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluation.evaluation(cascade)
    monkeypatch.setitem(evaluation.PARTS, "drawbench", lambda *_: {"each": 1, "rows": []})
    assert set(evaluation.evaluation(cascade)) == {"reader", "drawbench"} and parts == ["reader 0"]


def test_other_weights_are_measured_anew(cascade, parts, monkeypatch):
    evaluation.evaluation(cascade)
    monkeypatch.setattr(evaluation.weights, "load_manifest", lambda _: {"sha256": "another"})
    evaluation.evaluation(cascade)
    assert parts.count("reader 0") == 2


def test_the_lines_tell_the_numbers(cascade, parts):
    text = evaluation.format_evaluation(evaluation.evaluation(cascade))
    assert "Colors          0.50 [0.20, 0.80]  n = 4" in text and "found 0.97" in text


def test_perfect_enlargement_is_at_no_distance_and_consistent(monkeypatch):
    """A stage that returns the render itself."""

    class Perfect:
        device, stages = torch.device("cpu"), {256: None}

        def sample(self, caption, low_res, seed, resolution):
            image = render([sample_scene(evaluation.SPLITS["test"].start + seed)], resolution)
            return type("Out", (), {"images": image})

    found = evaluation.enlarged(Perfect(), 0, 256, 26)  # pyright: ignore
    assert found["windows"] == 26 * 16 and found["frechet"]["drawn"] < 1e-3 < found["frechet"]["bicubic"]
    assert found["ratio"] < 0.01 and found["psnr_db"] > 60


def test_windows_cover_a_picture_once():
    images = torch.arange(2.0)[:, None, None, None].expand(2, 3, 128, 192) - 0.5
    assert evaluation.windows(images).shape == (12, 192)
    features = evaluation.windows(images)
    assert np.allclose(features[:6], features[0]) and not np.allclose(features[0], features[6])


def test_real_pictures_are_judged_at_once(cascade):
    found = evaluation.drawbench(cascade, seed=0, each=1)
    assert {row["category"] for row in found["rows"]} >= {"Colors", "Text"}
    assert sum(row["n"] for row in found["rows"]) == 110
