"""The lecture page in a real browser: six steps, a prediction, a show of hands, a revelation."""

import pytest

pytest.importorskip("playwright", reason="the browser tests need playwright: pip install -e '.[dev]'")

from experiments import browser  # noqa: E402
from experiments.results import ROOT  # noqa: E402


@pytest.mark.skipif(browser.browser_path() is None, reason="there is no Chromium or Chrome on this machine")
def test_the_lecture_asks_counts_hands_and_reveals(tmp_path):
    errors: list[str] = []
    with browser.voila(ROOT / "explorer" / "lecture.ipynb", tmp_path / "log") as address, browser.page(errors) as sheet:
        sheet.goto(address)
        root = sheet.locator(".il-lecture")
        root.wait_for()
        for number, title in enumerate(("w = 1", "Raise w", "x0 leaves", "Static", "Dynamic", "Then it grows"), 1):
            root.get_by_role("button", name=f"{number}. ").click()
            root.locator("h2", has_text=title).wait_for()
            assert root.locator(".il-told").count() == 0  # nothing is given away
            root.locator("input[type=number]").first.fill("12")
            root.get_by_role("button", name="reveal", exact=True).click()
            root.locator(".il-told").wait_for()
            root.locator(".il-screen img").first.wait_for()
    assert errors == []
