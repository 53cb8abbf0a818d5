"""What stands in the texts and in data/ is what the shipped weights and the source say."""

import pytest

from experiments import costs, refresh, results, superres, thresholds
from experiments.claims import ledger
from experiments.claims.results import FOLDER, load
from experiments.results import ROOT, insert, is_current, load_result, weights_in_use
from imagen_lite import weights
from imagen_lite.stage import STAGES

MADE = [
    "drawn",
    "sweeps",
    "thresholds",
    "alignment",
    "samplers64",
    "drawbench",
    *(f"sr{size}" for size in superres.WINDOW),
]


@pytest.mark.parametrize("name", MADE)
def test_results_were_made_from_the_shipped_weights(name):
    made_from = load_result(name)["weights"]
    assert "base64" in made_from
    assert made_from == weights_in_use(list(made_from)), "weights changed since: run make refresh"


def test_the_blind_spots_are_those_of_the_shipped_clip_lite():
    assert is_current("blind_spots", ["reader", "clip-lite"])


@pytest.mark.parametrize("name", ["drawn", "sweeps"])
def test_every_stage_that_is_shipped_has_drawn(name):
    used = load_result(name)["weights"]
    wanted = [
        s for size, s in STAGES.items() if (size == 256 or name == "sweeps") and (weights.DATA / "weights" / s).is_dir()
    ]
    assert [stage for stage in wanted if stage not in used] == [], "run make refresh"


def test_the_readme_shows_the_real_loop():
    text = (ROOT / "README.md").read_text()
    assert insert(text, "loop", refresh.loop()) == text
    assert len(refresh.loop().splitlines()) <= 22


def test_the_readme_says_what_the_shipped_model_reaches():
    text = (ROOT / "README.md").read_text()
    assert insert(text, "state", refresh.state()) == text


def test_the_page_on_speed_shows_what_was_measured():
    text = refresh.SPEED.read_text()
    assert insert(insert(text, "peers", refresh.show()), "h100", refresh.on_gpu()) == text


def test_the_model_card_shows_the_measured_tables():
    text = refresh.CARD.read_text()
    assert insert(text, "alignment", refresh.alignment_table()) == text
    assert insert(text, "thresholds", thresholds.as_text(load_result("thresholds"))) == text
    for name, as_text in refresh.TABLES.items():
        assert insert(text, name, as_text(load_result(name))) == text
    reports = {size: load_result(f"sr{size}") for size in superres.WINDOW}
    assert insert(text, "superres", superres.as_text(reports)) == text


def test_the_cost_model_rests_on_what_was_measured():
    text = refresh.SCALE.read_text()
    assert insert(text, "costs", costs.as_text(load_result("costs"))) == text


def test_the_ledger_says_what_was_found_with_the_shipped_weights():
    text = refresh.CLAIMS.read_text()
    assert insert(text, "claims", ledger.as_text()) == text
    for path in FOLDER.glob("*.json"):
        result = load(path.stem)
        assert result["claim"] in {claim.name for claim in ledger.CLAIMS}
        assert result["weights"] == weights_in_use(list(result["weights"])), f"try {path.stem} again"
        assert result["commit"] and result["hardware"] and result["seconds"] >= 0


def test_what_other_weights_made_is_not_current(monkeypatch):
    assert is_current("thresholds") and not is_current("never made")
    monkeypatch.setattr(results, "weights_in_use", lambda models: dict.fromkeys(models, "another"))
    assert not is_current("thresholds")


def test_missing_markers_are_an_error():
    with pytest.raises(ValueError, match="no markers for 'loop'"):
        insert("nothing here", "loop", "text")


def test_refresh_measures_again_what_other_weights_made(monkeypatch):
    """After a new base: the tables of it, and of super-resolution the alignment by stages alone."""
    done: list[object] = []
    monkeypatch.setattr(refresh.superres, "main", lambda arguments: done.append(arguments))
    monkeypatch.setattr(refresh, "MADE_BY", {name: lambda _, n=name: done.append(n) for name in refresh.TABLES})
    refresh.measure_again(everything=False)
    assert done == []
    monkeypatch.setattr(refresh, "is_current", lambda name, models: "base64" not in models)
    refresh.measure_again(everything=False)
    assert done == [["256", "--stages"], ["1024", "--stages"], "samplers64", "drawbench"]
    done.clear()
    refresh.measure_again(everything=True)
    assert done == [["256"], ["1024"], "samplers64", "blind_spots", "drawbench"]
