"""What a talk and a reader do to the notebooks: many sessions of the lecture page, cells interrupted in the middle."""

import asyncio
import os
import random
import re
import shlex
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from experiments.results import ROOT, load_result
from experiments.soak.outcome import Asked, Tally

LEFT = 240  # seconds after which a kernel whose page was closed must be gone
GROWN = 1.1  # times the memory at first: more is not flat


def held() -> tuple[int, int]:
    """Megabytes that the page's server and its kernels hold, without what they share; and how many kernels there are.

    All of them were started by this process.
    """
    held = kernels = 0
    for process in psutil.Process().children(recursive=True):
        try:
            words, own = " ".join(process.cmdline()), process.memory_full_info().uss
        except psutil.NoSuchProcess:  # it has just ended
            continue
        held += own if "voila" in words or "ipykernel" in words else 0
        kernels += "ipykernel" in words
    return held // 2**20, kernels


def lecture(asked: Asked) -> dict[str, Any]:
    """Sessions that click through the talk for minutes, then close: memory is flat, and no kernel is left behind."""
    from experiments import browser

    tally = Tally()
    port = browser.free_port()
    address = f"http://127.0.0.1:{port}"
    ready = f"{address}/voila/static/require.min.js"
    with tempfile.TemporaryDirectory() as temporary, browser.serving(
        explorer(port), ROOT, ready, Path(temporary) / "log"
    ), browser.page() as first:  # fmt: skip
        before, _ = held()
        sheets = [first, *(another(first, address) for _ in range(asked.sessions - 1))]
        for sheet in sheets:
            sheet.set_default_timeout(4000 * browser.PATIENCE)
            sheet.goto(address)
            sheet.locator(".il-lecture").wait_for()
        click_through(sheets)
        begun, ends = held(), time.monotonic() + 60 * asked.minutes
        rounds = 0
        while time.monotonic() < ends:
            click_through(sheets)
            rounds += 1
        later = held()
        for sheet in sheets[1:]:
            sheet.close(run_before_unload=True)
        first.goto("about:blank")
        until = time.monotonic() + LEFT
        while (after := held())[1] and time.monotonic() < until:
            time.sleep(1)
    for number in range(asked.sessions):
        tally.add("a kernel that outlives its session" if number < after[1] else None)
    tally.add(f"memory grew from {begun[0]} to {later[0]} MB" if later[0] > GROWN * begun[0] else None)
    return tally.outcome(
        f"{asked.sessions} sessions, {asked.minutes:g} minutes, {rounds} rounds of the talk: server {before}, "
        f"with all sessions {begun[0]}, at the end {later[0]}, closed {after[0]} MB, {after[1]} kernels left"
    )


def explorer(port: int) -> list[str]:
    """The server as `make explorer` starts it, at a port of its own."""
    recipe = re.search(r"^\t@\$\(BIN\)/voila (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe, "make explorer starts no voila"
    return [sys.executable, "-m", "voila", *shlex.split(recipe[1]), "--no-browser", f"--port={port}"]


def another(first: Any, address: str) -> Any:
    """One more page of the same browser, as another visitor's, that reaches the server alone."""
    sheet = first.context.browser.new_page()
    sheet.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
    return sheet


def click_through(sheets: list) -> None:
    """Each session goes through the six steps, and reveals."""
    for number in range(1, 7):
        for sheet in sheets:
            root = sheet.locator(".il-lecture")
            root.get_by_role("button", name=f"{number}. ").click()
            root.get_by_role("button", name="reveal", exact=True).click()
            root.locator(".il-told").wait_for()
            root.get_by_role("button", name="predict", exact=True).click()


def interrupted(asked: Asked) -> dict[str, Any]:
    """Each notebook, interrupted at a random moment, runs whole in the same kernel afterwards."""
    tally, rng, cells = Tally(), random.Random(asked.seed), []
    taken = load_result("notebooks")["notebooks"]
    os.environ["OMP_NUM_THREADS"] = "1"
    for start in asked.notebooks:
        path = next((ROOT / "notebooks").glob(f"{start}_*.ipynb"))
        seconds = taken.get(path.stem, {"seconds": 10.0})["seconds"]
        at, trouble = run_twice(path, rng.uniform(1, max(2.0, seconds)), rng)
        cells.append(f"{start}: cell {at}")
        tally.add(f"{start}: {trouble}" if trouble else None)
    return tally.outcome("interrupted in " + ", ".join(cells))


def run_twice(path: Path, delay: float, rng: random.Random) -> tuple[int, str | None]:
    """The cell that was interrupted after `delay` seconds (again, if none was running), and what goes wrong later."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["IMAGEN_LITE_LEARN"] = str(Path(temporary) / "my_imagen.py")
        client = NotebookClient(
            notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
        )
        with client.setup_kernel():
            while (at := interrupt(client, delay)) < 0 and delay > 0.1:
                delay /= 2  # it had ended before
            try:
                for index, cell in enumerate(notebook.cells):
                    client.execute_cell(cell, index)
            except (CellExecutionError, DeadKernelError, TimeoutError) as error:
                return at, f"after an interrupt of cell {at}, cell {index}: {str(error).strip().splitlines()[-1][:100]}"
    return at, None if at >= 0 else "was never interrupted"


def interrupt(client: NotebookClient, delay: float) -> int:
    """Runs cells until one is interrupted; which one, or -1 if all ended before."""
    done = threading.Event()

    def ring() -> None:
        time.sleep(delay)
        while not done.wait(0.3):
            asyncio.run(client.km.interrupt_kernel())  # a kernel between two cells takes no notice

    threading.Thread(target=ring, daemon=True).start()
    try:
        for index, cell in enumerate(client.nb.cells):
            try:
                client.execute_cell(cell, index)
            except CellExecutionError:
                return index
        return -1
    finally:
        done.set()
