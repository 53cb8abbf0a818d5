"""What stands in the texts and in data/ is what the shipped weights and the source say."""

import pytest

from experiments import refresh, thresholds
from experiments.results import ROOT, insert, load_result, weights_in_use


@pytest.mark.parametrize("name", ["drawn", "sweeps", "thresholds", "alignment"])
def test_results_were_made_from_the_shipped_weights(name):
    made_from = load_result(name)["weights"]
    assert made_from == weights_in_use(), "weights changed since: run make refresh"


def test_the_readme_shows_the_real_loop():
    text = (ROOT / "README.md").read_text()
    assert insert(text, "loop", refresh.loop()) == text
    assert len(refresh.loop().splitlines()) <= 22


def test_the_readme_says_what_the_shipped_model_reaches():
    text = (ROOT / "README.md").read_text()
    assert insert(text, "state", refresh.state()) == text


def test_the_model_card_shows_the_measured_tables():
    text = refresh.CARD.read_text()
    assert insert(text, "alignment", refresh.alignment_table()) == text
    assert insert(text, "thresholds", thresholds.as_text(load_result("thresholds"))) == text


def test_missing_markers_are_an_error():
    with pytest.raises(ValueError, match="no markers for 'loop'"):
        insert("nothing here", "loop", "text")
