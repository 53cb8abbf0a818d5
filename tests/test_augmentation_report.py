"""The sweep of augmentation against guidance: what its table says of pictures whose distance is known."""

import dataclasses

import numpy as np
import pytest
import torch

from experiments import augmentation
from experiments import twins as training
from experiments.augmentation import INPUTS, WEIGHTS
from experiments.results import load_result
from experiments.twins import HIGHEST, TWINS
from imagen_lite.recipes import evaluation

N, WINDOWS, D = 12, 4, 3


@pytest.fixture(params=TWINS)
def twins(request):
    return TWINS[request.param]


@pytest.fixture
def judged(twins):
    """Real features, and cells that lie off by known amounts: "without" by 2 from samples, all else by 0.5."""
    real = np.random.default_rng(0).normal(size=(N, WINDOWS, D))
    off = {(given, *way, w): 0.5 for given in INPUTS for way in twins.ways for w in WEIGHTS}
    off |= {(given, "bicubic"): 3.0 for given in INPUTS} | {(given, "real"): 0.0 for given in INPUTS}
    off |= {("samples", "without", 0.0, w): 2.0 for w in WEIGHTS}
    return augmentation.judge(twins, {key: real + shift for key, shift in off.items()})


def test_distances_are_those_of_the_shifts(judged):
    for row in judged["rows"]:
        shift = 2.0 if (row["input"], row["trained"]) == ("samples", "without") else 0.5
        assert row["frechet"] == pytest.approx(D * shift**2, rel=1e-3)
    assert judged["bicubic"] == {given: pytest.approx(27, rel=1e-3) for given in INPUTS}


def test_the_twins_difference_has_an_interval_around_it(judged):
    for gain in judged["gains"]:
        assert gain["nearer"] == pytest.approx(D * (4 - 0.25), rel=1e-3)
        assert gain["interval"][0] == pytest.approx(gain["interval"][1], rel=1e-2)  # the shift is everywhere the same


def test_each_twin_is_taken_at_its_own_best_weight():
    """One lies off by 1, 2, 3 (best 1), the other by 3, 2, 3 (best 2): nearer by D (2² − 1²), with D features."""
    real = np.random.default_rng(0).normal(size=(N, WINDOWS, D))
    one, other = (np.stack([real + shift for shift in shifts], 1) for shifts in ((1, 2, 3), (3, 2, 3)))
    assert augmentation.nearer_at_best(one, other, real) == pytest.approx(D * 3, rel=1e-3)
    assert augmentation.nearer_at_best(other, one, real) == pytest.approx(-D * 3, rel=1e-3)


def test_other_pictures_are_not_those_of_the_table(monkeypatch):
    def pairs(resolution, n, batch):
        yield from ((None, None, [], list(range(i, min(i + batch, n)))) for i in range(0, n, batch))

    monkeypatch.setattr(augmentation, "pairs", pairs)
    seen = [seed for *_, seeds in augmentation.inputs("renders", None, range(60, 90)) for seed in seeds]
    assert seen == list(range(60, 90))
    assert augmentation.OTHERS.start == load_result("augmentation_on")["n"]


def test_what_is_found_on_other_pictures_is_in_the_text(judged):
    gain = {"weight": 3.0, "nearer": 0.5, "interval": (0.25, 0.75)}
    again = {"n": 300, "gains": [gain], "at_best": gain}
    text = augmentation.as_text(
        TWINS["shipped"], judged | {"others": again, "seen": {"with": 1, "without": 1}, "hardware": "a machine"}
    )
    assert "on 300 other pictures: +0.5000 [+0.2500, +0.7500] at w = 3, +0.5000" in text


def test_windows_tile_the_picture(monkeypatch):
    monkeypatch.setattr(evaluation, "reader_features", lambda part: part.mean((2, 3)))
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 3, 2, 2).repeat_interleave(64, 2).repeat_interleave(64, 3)
    assert augmentation.window_features(image)[0, :, 0].tolist() == [0, 1, 2, 3]


def test_the_table_and_the_curves_show_every_cell(twins, judged):
    text = augmentation.as_text(twins, judged | {"seen": {"with": 64000, "without": 64000}, "hardware": "a machine"})
    cells = len(twins.ways) * len(WEIGHTS)
    assert text.count("0.7500") == 2 * cells - len(WEIGHTS) and "64,000 and 64,000" in text
    panels = augmentation.curves(twins, judged).axes
    assert [len(panel.get_lines()) for panel in panels] == [len(twins.ways) + 1] * 2


def test_what_is_kept_has_every_cell(twins):
    rows = load_result(twins.result)["rows"]
    cells = [(r["input"], r["trained"], r["level"], r["weight"]) for r in rows]
    assert cells == [(given, *way, w) for given in INPUTS for way in twins.ways for w in WEIGHTS]
    assert ("with", twins.level) in twins.ways and twins.figures[0].exists()


def test_twins_differ_in_augmentation_alone(monkeypatch, tmp_path):
    runs: list[tuple] = []
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(training.heed, "teach", lambda *given: runs.append(given))
    monkeypatch.setattr(training.super_resolution, "run", lambda *given, **to: runs.append((*given, to["out"])))
    for twins in TWINS.values():
        runs.clear()
        training.train(twins, 1.0)
        one, other = (row[0] for row in runs)
        assert (one.augmentation, other.augmentation) == tuple(HIGHEST.values())
        assert dataclasses.replace(one, augmentation=0.0) == other
        assert all(
            tmp_path in twins.folder(name).parents and twins.folder(name) in row
            for name, row in zip(HIGHEST, runs, strict=True)
        )


def test_twins_of_other_weights_lie_elsewhere(monkeypatch):
    before = {name: twins.folder("with") for name, twins in TWINS.items()}
    monkeypatch.setattr(training.weights, "load_manifest", lambda folder: {"sha256": "another " * 8})
    assert TWINS["shipped"].folder("with") != before["shipped"] and TWINS["nothing"].folder("with") == before["nothing"]
