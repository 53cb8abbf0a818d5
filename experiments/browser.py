"""JupyterLab and the lecture page in a real browser: the system's Chromium, driven by Playwright, nothing outside it.

python -m experiments.browser        # how long a slider takes to change the picture, into data/results/browser.json
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
from playwright.sync_api import Page, sync_playwright

from experiments.results import ROOT, save_result

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 90  # seconds until something that never came is given up
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
def jupyter_lab(folder: Path, log: Path) -> Iterator[str]:
    """JupyterLab on a folder; gives its address."""
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--port-retries=0",
        "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.collaborative=False",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
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


@contextmanager
def page(errors: list[str] | None = None) -> Iterator[Page]:
    """A page of the system's browser that reaches this machine alone; its console's complaints go to `errors`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(QUIET))
        sheet = browser.new_page(viewport={"width": 1280, "height": 1600})
        sheet.set_default_timeout(1000 * PATIENCE)
        inside = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "file:")
        sheet.route("**/*", lambda route: route.continue_() if route.request.url.startswith(inside) else route.abort())
        if errors is not None:
            sheet.on("pageerror", lambda error: errors.append(str(error)))
            sheet.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        try:
            yield sheet
        finally:
            browser.close()


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


def summary(taken: list[float]) -> dict[str, Any]:
    """Median and 95th percentile."""
    ranked = sorted(taken)
    middle, late = ranked[len(ranked) // 2], ranked[int(0.95 * len(ranked))]
    return {"n": len(ranked), "median_ms": round(middle, 1), "p95_ms": round(late, 1)}


def main() -> None:
    """Measures the slider in JupyterLab and on the lecture page."""
    result = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_notebook(folder / "try.ipynb", "from imagen_lite import widgets\nwidgets.GuidanceExplorer()")
        with jupyter_lab(folder, folder / "lab.log") as address, page() as sheet:
            run_in_lab(sheet, address, "try.ipynb")
            sheet.wait_for_selector(".il-explorer .il-screen img")
            result["jupyterlab"] = summary(moves(sheet, ".il-explorer"))
        with voila(folder / "try.ipynb", folder / "voila.log") as address, page() as sheet:
            sheet.goto(address)
            sheet.wait_for_selector(".il-explorer .il-screen img")
            result["voila"] = summary(moves(sheet, ".il-explorer"))
    print(json.dumps(save_result("browser", result, ROOT / "data" / "results" / "browser.json"), indent=1))


if __name__ == "__main__":
    main()
