"""What `make lab` opens, in a real browser: the first notebook, with its pictures."""

import shlex
import subprocess

import pytest

pytest.importorskip("playwright", reason="the browser tests need playwright: pip install -e '.[dev]'")

from experiments import browser  # noqa: E402
from experiments.results import ROOT  # noqa: E402

LOADED = "() => [...document.querySelectorAll('.jp-RenderedMarkdown img')].map(i => i.complete && i.naturalWidth)"


@pytest.mark.skipif(browser.browser_path() is None, reason="there is no Chromium or Chrome on this machine")
def test_make_lab_opens_the_first_notebook_with_its_pictures(tmp_path):
    """Pictures beside the notebooks' folder are served only if JupyterLab was started above both."""
    told = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(next(line for line in told.splitlines() if "/jupyter lab" in line))
    options = words[words.index("lab") + 1 :]
    errors: list[str] = []
    with browser.jupyter_lab(ROOT, tmp_path / "log", *options) as address, browser.page(errors) as sheet:
        sheet.goto(address)
        sheet.wait_for_selector(".jp-RenderedMarkdown img")
        sheet.wait_for_function(f"({LOADED})().every(width => width !== false)")
        widths = sheet.evaluate(LOADED)
    assert widths and all(widths), "the notebook's first picture is not served"
    assert errors == []
