"""JupyterLab and the lecture page in a real browser: the system's Chromium, driven by Playwright, nothing outside it.

python -m experiments.browser        # how fast the explorers answer (data/results/browser.json), and three screenshots
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import ConsoleMessage, Page, Route, sync_playwright

from experiments import site
from experiments.results import ROOT, save_result
from imagen_lite.scenes.world import COLORS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
README = ROOT / "data" / "readme"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
OUTSIDE = ("ERR_F", "favicon", "404")  # complaints about what lies outside the page, which is closed to it here
SAVED = {"@jupyter-widgets/html-manager@1.0.15": ["dist/embed-amd.js"], "requirejs@2.3.7": ["require.js"]}
FILES = {
    "embed-amd.js": "embed-amd.js",
    "require.min.js": "require.js",
}  # what a saved page asks for -> what it is given
PATIENCE = 90  # seconds until something that never came is given up
RATER = """
import numpy as np
from imagen_lite import load_cascade, widgets
from imagen_lite.evaluate.rating import Pair
prompt = "a green cube on top of a yellow cylinder"
sides = [load_cascade().sample([prompt] * 8, guidance_weight=w, seed=0, resolution=64).pil() for w in (3.0, 1.0)]
pair = Pair("Positional", prompt, prompt, *(np.stack([np.asarray(picture) for picture in side]) for side in sides))
widgets.DrawBenchRater([pair], ("w = 3", "w = 1"))
"""
# Presses a key on the slider and waits for another picture to be there: milliseconds, by the page's own clock.
MOVE = """async ([selector, key]) => {
  const root = document.querySelector(selector), handle = root.querySelector('.noUi-handle');
  const shown = () => root.querySelector('.il-screen img')?.src;
  const before = shown(), begun = performance.now();
  handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
  while (performance.now() - begun < 5000) {
    await new Promise(requestAnimationFrame);
    const picture = root.querySelector('.il-screen img');
    if (picture && picture.src !== before && picture.complete) return performance.now() - begun;
  }
  return null;
}"""
# Waits until an element is (or is no longer) seen: milliseconds since the call, by the page's own clock.
SEEN = """async ([selector, wanted]) => {
  const begun = performance.now();
  const seen = () => {
    const found = document.querySelector(selector);
    return !!found && getComputedStyle(found).visibility !== 'hidden';
  };
  while (performance.now() - begun < 60000) {
    if (seen() === wanted) return performance.now() - begun;
    await new Promise(requestAnimationFrame);
  }
  return null;
}"""


def browser_path() -> str | None:
    """The system's Chromium or Chrome, if it has one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of these code cells, not run."""
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=metadata), path)
    return path


@contextmanager
def serving(command: list[str], folder: Path, ready: str, log: Path) -> Iterator[None]:
    """Runs a server in `folder` until the block ends; enters it once `ready` (an address) answers.

    Raises:
        RuntimeError: it stopped, or did not answer in time; with the end of its log.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "JUPYTER_CONFIG_DIR": str(log.parent / "config")}
    with open(log, "wb") as out:
        server = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(ready, timeout=5).close()
                break
            except OSError as error:
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{command[0]} does not answer: {log.read_text()[-2000:]}") from error
                time.sleep(0.2)
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def jupyter_lab(folder: Path, log: Path, *options: str) -> Iterator[str]:
    """JupyterLab, started in a folder; gives its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0",
        "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.collaborative=False",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", *options,
    ]  # fmt: skip
    with serving(command, folder, f"http://127.0.0.1:{port}/api", log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def voila(notebook: Path, log: Path) -> Iterator[str]:
    """The page that voila makes of a notebook; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "voila", notebook.name, "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    with serving(command, notebook.parent, f"http://127.0.0.1:{port}/voila/static/require.min.js", log):
        yield f"http://127.0.0.1:{port}"


def widget_scripts(folder: Path) -> dict[str, Path] | None:
    """What a saved page fetches from outside to bring its widgets to life, by npm; None without npm or a network."""
    try:
        site.fetch_scripts(folder / "scripts", SAVED)
    except site.NoScripts:
        return None
    return {name: folder / "scripts" / file for name, file in FILES.items()}


def saved_page(notebook: Path, folder: Path) -> Path:
    """The notebook with its outputs and its widgets as one HTML page, as nbconvert writes it."""
    from nbconvert import HTMLExporter

    text, _ = HTMLExporter().from_filename(str(notebook))
    path = folder / f"{notebook.stem}.html"
    path.write_text(text)
    return path


@contextmanager
def page(errors: list[str] | None = None, files: dict[str, Path] | None = None) -> Iterator[Page]:
    """A page of the system's browser that reaches this machine alone; its console's complaints go to `errors`, but for
    those about what it could not reach.

    `files` are given for addresses that end in their names.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(QUIET))
        sheet = browser.new_page(viewport={"width": 1280, "height": 1600})
        sheet.set_default_timeout(1000 * PATIENCE)
        inside = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:")

        def answer(route: Route) -> None:
            file = next((path for name, path in (files or {}).items() if route.request.url.endswith(name)), None)
            if file:
                route.fulfill(path=file, content_type="text/javascript")
            elif route.request.url.startswith(inside):
                route.continue_()
            else:
                route.abort()

        sheet.route("**/*", answer)
        if errors is not None:
            sheet.on("pageerror", lambda error: errors.append(str(error)))
            sheet.on("console", lambda said: errors.append(said.text) if _is_error(said) else None)
        try:
            yield sheet
        finally:
            browser.close()


def _is_error(said: ConsoleMessage) -> bool:
    return said.type == "error" and not any(word in said.text for word in OUTSIDE)


def run_in_lab(sheet: Page, address: str, name: str) -> None:
    """Opens a notebook in JupyterLab and runs all its cells."""
    sheet.goto(f"{address}/lab/tree/{name}?reset")
    sheet.wait_for_function(
        "window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
    )
    sheet.evaluate("window.jupyterapp.shell.currentWidget.context.ready")
    sheet.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.ready")
    sheet.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")


def moves(sheet: Page, selector: str, count: int = 50) -> list[float]:
    """Milliseconds from a key on the explorer's first slider to another picture on the screen, to and fro.

    Raises:
        RuntimeError: a move changed nothing.
    """
    taken = []
    for i in range(count):
        key = "ArrowLeft" if i // 3 % 2 == 0 else "ArrowRight"  # three steps down, three up
        took = sheet.evaluate(MOVE, [selector, key])
        if took is None:
            raise RuntimeError(f"move {i} ({key}) of {selector} changed no picture")
        taken.append(took)
    return taken


def live(sheet: Page, prompts: list[str]) -> dict[str, Any]:
    """Milliseconds from Draw to the first progress and to the picture, and from Cancel to the end, for new prompts."""
    box = sheet.locator(".il-explorer input[type=text]").first
    began, drawn, stopped = [], [], []
    for prompt in prompts:
        for cancel in (True, False):  # cancelled first: what was drawn is kept, and not drawn again
            if cancel:
                box.fill(prompt)
                box.press("Enter")
            else:
                sheet.get_by_role("button", name="Draw", exact=True).click()
            began.append(sheet.evaluate(SEEN, [".il-explorer .widget-hprogress", True]))
            if cancel:
                sheet.get_by_role("button", name="Cancel").click()
                stopped.append(sheet.evaluate(SEEN, [".il-explorer .widget-hprogress", False]))
            else:
                drawn.append(began[-1] + sheet.evaluate(SEEN, [".il-explorer .il-screen img", True]))
    return {"progress": summary(began), "picture": summary(drawn), "cancel": summary(stopped)}


def rated(folder: Path) -> None:
    """A screenshot of the rater, as the header of notebook 10 has it."""
    write_notebook(folder / "rate.ipynb", RATER)
    with voila(folder / "rate.ipynb", folder / "rate.log") as address, page() as sheet:
        sheet.set_viewport_size({"width": 1100, "height": 700})  # no margin: the notebook shows it smaller
        sheet.goto(address)
        sheet.locator(".il-rater img").last.wait_for()
        sheet.locator(".il-rater").screenshot(path=README / "rater.jpg", quality=85)


def summary(taken: list[float]) -> dict[str, Any]:
    """Median and 95th percentile."""
    ranked = sorted(taken)
    middle, late = ranked[len(ranked) // 2], ranked[int(0.95 * len(ranked))]
    return {"n": len(ranked), "median_ms": round(middle, 1), "p95_ms": round(late, 1)}


def main() -> None:
    """Measures the slider in JupyterLab, on a Voilà page, and in a saved page without a kernel."""
    result = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_notebook(folder / "try.ipynb", "from imagen_lite import widgets\nwidgets.GuidanceExplorer()")
        with jupyter_lab(folder, folder / "lab.log") as address, page() as sheet:
            run_in_lab(sheet, address, "try.ipynb")
            sheet.wait_for_selector(".il-explorer .il-screen img")
            result["jupyterlab"] = summary(moves(sheet, ".il-explorer"))
            sheet.locator(".il-explorer").screenshot(path=README / "explorer.png")
            live(sheet, ["a red cone"])  # loads the model
            result["live, jupyterlab"] = live(sheet, [f"a {color} cube at night" for color in COLORS])
        rated(folder)
        with voila(folder / "try.ipynb", folder / "voila.log") as address, page() as sheet:
            sheet.goto(address)
            sheet.wait_for_selector(".il-explorer .il-screen img")
            result["voila"] = summary(moves(sheet, ".il-explorer"))
        with voila(ROOT / "explorer" / "lecture.ipynb", folder / "lecture.log") as address, page() as sheet:
            sheet.goto(address)
            sheet.get_by_role("button", name="3. ").click()
            sheet.get_by_role("button", name="reveal", exact=True).click()
            sheet.locator(".il-lecture .il-screen img").first.wait_for()
            sheet.locator(".il-lecture").screenshot(path=README / "lecture.png")
        if scripts := widget_scripts(folder):
            saved = saved_page(ROOT / "notebooks" / "07_classifier_free_guidance.ipynb", folder)
            with page(files=scripts) as sheet:
                sheet.goto(saved.as_uri())
                sheet.wait_for_selector(".il-explorer .il-screen img")
                result["saved page, no kernel"] = summary(moves(sheet, ".il-explorer"))
    print(json.dumps(save_result("browser", result, ROOT / "data" / "results" / "browser.json"), indent=1))


if __name__ == "__main__":
    main()
