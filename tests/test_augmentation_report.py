"""The sweep of augmentation against guidance: what its table says of pictures whose distance is known."""

import dataclasses

import numpy as np
import pytest
import torch

from experiments import augmentation
from experiments import twins as training
from experiments.augmentation_report import as_text, curves, nearer_by, sheet
from experiments.results import load_result
from experiments.twins import HIGHEST, TWINS, WEIGHTS
from imagen_lite.recipes import evaluation

N, WINDOWS, D = 12, 4, 3


@pytest.fixture(params=TWINS)
def twins(request):
    return TWINS[request.param]


@pytest.fixture
def judged(twins):
    """All cells lie off by 0.5 from the real features, but "without", from samples, by 2, and bicubic by 3."""
    real = np.random.default_rng(0).normal(size=(N, WINDOWS, D))
    result = {"n": N, "windows": WINDOWS, "rows": [], "bicubic": {}, "gains": {}}
    for given in twins.inputs:
        off = {(*way, w): 0.5 for way in twins.ways for w in WEIGHTS} | {("bicubic",): 3.0, ("real",): 0.0}
        if given == "samples":
            off |= {("without", 0.0, w): 2.0 for w in WEIGHTS}
        found = augmentation.judge(given, twins, {key: real + shift for key, shift in off.items()})
        result["rows"] += found["rows"]
        result |= {key: result[key] | found[key] for key in ("bicubic", "gains")}
    return result


def test_distances_are_those_of_the_shifts(twins, judged):
    for row in judged["rows"]:
        shift = 2.0 if (row["input"], row["trained"]) == ("samples", "without") else 0.5
        assert row["frechet"] == pytest.approx(D * shift**2, rel=1e-3)
    assert judged["bicubic"] == {given: pytest.approx(27, rel=1e-3) for given in twins.inputs}


def test_the_twins_difference_has_an_interval_around_it(twins, judged):
    assert set(judged["gains"]) == set(twins.levels)
    for gain in judged["gains"]["samples"]:
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
    assert not set(augmentation.OTHERS) & set(augmentation.TABLE)


def test_jpegs_are_the_same_pictures_a_little_harmed():
    picture = torch.linspace(-1, 1, 64).expand(2, 3, 64, 64) * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    small, smaller = augmentation.kept_as_jpeg(picture, 90), augmentation.kept_as_jpeg(picture)
    assert 0 < (small - picture).abs().mean() < (smaller - picture).abs().mean() < 0.1


def test_what_is_found_on_other_pictures_takes_the_place_of_what_the_table_says(judged, twins):
    gain = {"weight": 3.0, "nearer": 0.5, "interval": (0.25, 0.75)}
    again = judged | {"others": {"samples": {"n": 300, "gains": [gain], "at_best": gain}}}
    found = {told: (more, ends) for given, told, more, ends in nearer_by(twins, again) if given == "samples"}
    assert list(found.values()) == [(0.5, (0.25, 0.75))] * 2
    assert all("(n = 300)" in told for told in found) and "best" in list(found)[1]
    assert len([1 for given, *_ in nearer_by(twins, judged) if given == "samples"]) == len(WEIGHTS)


def test_windows_tile_the_picture(monkeypatch):
    monkeypatch.setattr(evaluation, "reader_features", lambda part: part.mean((2, 3)))
    image = torch.arange(4.0).view(1, 1, 2, 2).expand(1, 3, 2, 2).repeat_interleave(64, 2).repeat_interleave(64, 3)
    assert augmentation.window_features(image)[0, :, 0].tolist() == [0, 1, 2, 3]


def test_the_table_and_the_curves_show_every_cell(twins, judged):
    text = as_text(twins, judged | {"seen": {"with": 64000, "without": 64000}, "hardware": "a machine"})
    cells = len(twins.ways) * len(WEIGHTS)
    assert text.count(" 0.7500") == len(twins.inputs) * cells - len(WEIGHTS) and "64,000 and 64,000" in text
    panels = curves(twins, judged).axes
    assert [len(panel.get_lines()) for panel in panels] == [len(twins.ways) + 1] * len(twins.inputs)


@pytest.fixture
def kept(monkeypatch):
    """What is kept of twins whose weights are those that `result["twins"]` names."""
    result = load_result("augmentation_on")
    manifests = {name: {"sha256": sha256, "pictures_seen": 1} for name, sha256 in result["twins"].items()}
    monkeypatch.setattr(augmentation, "is_current", lambda *_: True)
    monkeypatch.setattr(augmentation.Twins, "folder", lambda _, name: name)
    monkeypatch.setattr(augmentation.weights, "load_manifest", manifests.get)
    return result


def test_an_interrupted_run_goes_on_with_what_is_missing(monkeypatch, kept):
    """Of the kept result the jpegs' other pictures and what captions ask are missing: these two are made, no more."""
    saved = []
    less = kept | {"others": {"samples": kept["others"]["samples"]}, "asked": {}}
    monkeypatch.setattr(augmentation, "load_result", lambda _: less)
    monkeypatch.setattr(augmentation, "save_result", lambda _, result, models: saved.append(result) or result)
    monkeypatch.setattr(augmentation, "sweep", lambda *_: pytest.fail("the table is there already"))
    monkeypatch.setattr(augmentation, "others", lambda given, _: kept["others"][given])
    monkeypatch.setattr(augmentation, "side_by_side", lambda jobs: [kept["asked"][job.args[0]] for job in jobs])
    assert augmentation.run(TWINS["shipped"]) == kept and len(saved) == 2


def test_a_result_of_other_twins_is_not_gone_on_with(monkeypatch, kept):
    assert augmentation.begun(TWINS["shipped"], ()) == kept
    monkeypatch.setattr(augmentation.weights, "load_manifest", lambda _: {"sha256": "others", "pictures_seen": 2})
    begun = augmentation.begun(TWINS["shipped"], ())
    assert begun["twins"] == {"with": "others", "without": "others"} and begun["rows"] == [] and not begun["others"]


def test_figures_show_what_is_drawn(twins):
    """Each picture that a sheet shows is one that `enlarged` makes: a way of the table, bicubic, or the render."""
    made = {(*way, w) for way in twins.ways for w in WEIGHTS} | {("bicubic",), ("real",)}
    for given in set(twins.inputs) & set(augmentation.SHOWN):
        lines = sheet(given, twins)[1]
        assert {way for line in lines for way in line} <= made and len({len(line) for line in lines}) == 1
        assert set(augmentation.SHOWN[given]) <= set(augmentation.TABLE)


def test_what_is_kept_has_every_cell(twins):
    rows = load_result(twins.result)["rows"]
    cells = [(r["input"], r["trained"], r["level"], r["weight"]) for r in rows]
    assert cells == [(given, *way, w) for given in twins.inputs for way in twins.ways for w in WEIGHTS]
    assert all(("with", level) in twins.ways for level in twins.levels.values()) and twins.figure("curves.png").exists()


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
