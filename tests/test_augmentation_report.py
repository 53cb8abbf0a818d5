"""The sweep of augmentation against guidance: what its table says of pictures whose distance is known."""

import numpy as np
import pytest
import torch

from experiments import augmentation
from experiments.augmentation import INPUTS, ROWS, WEIGHTS
from imagen_lite.recipes import evaluation

N, WINDOWS, D = 12, 4, 3


@pytest.fixture(scope="module")
def judged():
    """Real features, and cells that lie off by known amounts: "without" by 2 from samples, all else by 0.5."""
    real = np.random.default_rng(0).normal(size=(N, WINDOWS, D))
    off = {(given, *row, w): 0.5 for given in INPUTS for row in ROWS for w in WEIGHTS}
    off |= {(given, "bicubic"): 3.0 for given in INPUTS}
    off |= {("samples", "without", 0.0, w): 2.0 for w in WEIGHTS}
    return augmentation.judge({key: real + shift for key, shift in off.items()}, real)


def test_distances_are_those_of_the_shifts(judged):
    for row in judged["rows"]:
        shift = 2.0 if (row["input"], row["trained"]) == ("samples", "without") else 0.5
        assert row["frechet"] == pytest.approx(D * shift**2, rel=1e-3)
    assert judged["bicubic"] == {given: pytest.approx(27, rel=1e-3) for given in INPUTS}


def test_the_twins_difference_has_an_interval_around_it(judged):
    for gain in judged["gains"]:
        assert gain["nearer"] == pytest.approx(D * (4 - 0.25), rel=1e-3)
        assert gain["interval"][0] == pytest.approx(gain["interval"][1], rel=1e-2)  # the shift is everywhere the same


def test_windows_tile_the_picture(monkeypatch):
    monkeypatch.setattr(evaluation, "reader_features", lambda part: part.mean((2, 3)))
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 3, 2, 2).repeat_interleave(64, 2).repeat_interleave(64, 3)
    assert augmentation.window_features(image)[0, :, 0].tolist() == [0, 1, 2, 3]


def test_the_table_and_the_curves_show_every_cell(judged):
    text = augmentation.as_text(judged | {"seen": {"with": 64000, "without": 64000}, "hardware": "a machine"})
    assert text.count("0.7500") == 2 * len(ROWS) * len(WEIGHTS) - len(WEIGHTS) and "64,000 and 64,000" in text
    panels = augmentation.curves(judged).axes
    assert [len(panel.get_lines()) for panel in panels] == [len(ROWS) + 1] * 2
