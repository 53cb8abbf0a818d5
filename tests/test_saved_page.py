"""A notebook saved as a page: its explorers react with no kernel behind them."""

import pytest

pytest.importorskip("playwright", reason="the browser tests need playwright: pip install -e '.[dev]'")

from experiments import browser, notebooks  # noqa: E402


@pytest.mark.skipif(browser.browser_path() is None, reason="there is no Chromium or Chrome on this machine")
def test_the_explorer_of_a_saved_page_reacts_without_a_kernel(tmp_path):
    scripts = browser.widget_scripts(tmp_path)
    if scripts is None:
        pytest.skip("the saved page needs two scripts that npm fetches, and npm or its network is not there")
    notebook = next(path for path in notebooks.notebooks() if path.stem.startswith("07"))
    errors: list[str] = []
    with browser.page(errors, files=scripts) as sheet:
        sheet.goto(browser.saved_page(notebook, tmp_path).as_uri())
        sheet.wait_for_selector(".il-explorer .il-screen img")
        assert len(browser.moves(sheet, ".il-explorer", count=6)) == 6
    assert errors == []
