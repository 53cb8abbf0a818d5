"""Runs the notebooks from clean kernels, in order, and leaves outputs that can be committed; and holds their rules.

make notebooks                                   # all of them
python -m experiments.notebooks 07 08            # some
python -m experiments.notebooks --lint           # only the rules (tests do this too)
python -m experiments.notebooks --sizes          # words and code cells of each
"""

import argparse
import json
import os
import re
import statistics
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from experiments.results import RESULTS, ROOT, load_result, save_result, table
from imagen_lite.weights import write_atomic

FOLDER = ROOT / "notebooks"
LARGEST = 500_000  # bytes of a notebook with its outputs
LONGEST, MEDIAN = 40, 8  # lines of a code cell, and of the cell in the middle
# What there is in the paper (arXiv 2205.11487v1) to refer to.
SECTIONS = {"1", "2", "2.1", "2.2", "2.3", "2.4", "2.5", "3", "4", "4.1", "4.2", "4.3", "4.4", "5", "6"}
APPENDIX = {"A", "B", "B.1", "C", "D", "D.1", "D.2", "D.3", "D.3.1", "D.3.2", "E", "F", "F.1", "F.2", "F.3"}
FIGURES = {*map(str, range(1, 5)), *(f"A.{n}" for n in range(1, 33))}
HEADER = ("# ", "![", "**You will be able to**", "**Before this**", "**Paper**", "**Run time**")
FOOTER = ("## What you can do now", "| paper | code |", "**Next**")


def notebooks() -> list[Path]:
    """The notebooks of the series, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


# Running -----------------------------------------------------------------------------------------------------------


def run(path: Path) -> dict[str, Any]:
    """Executes a notebook in its place from a clean kernel; returns its seconds and its peak memory in MB.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the file is left as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
    )  # fmt: skip
    begun = time.monotonic()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        seconds = round(time.monotonic() - begun, 1)
        memory = _peak_memory(client)
        client.set_widgets_metadata()
    notebook.metadata.language_info = {"name": "python"}  # nothing that differs from machine to machine
    told = f"**Run time** {seconds:.0f} s on {os.cpu_count()} CPU cores."
    notebook.cells[0].source = re.sub(r"\*\*Run time\*\*.*", told, notebook.cells[0].source)
    write_atomic(path, nbformat.writes(notebook) + "\n")
    return {"seconds": seconds, "peak_mb": memory}


def run_all(paths: list[Path]) -> None:
    """Executes notebooks in order, and keeps how long each took; those not named keep what they took before."""
    kept = load_result("notebooks")["notebooks"] if (RESULTS / "notebooks.json").exists() else {}
    for path in paths:
        kept[path.stem] = run(path)
        print(path.name, json.dumps(kept[path.stem]), flush=True)
        save_result("notebooks", {"notebooks": kept})


def _peak_memory(client: NotebookClient) -> int | None:
    """The most memory the kernel ever held, in MB, where the system tells (Linux)."""
    status = Path(f"/proc/{client.km.provisioner.pid}/status")  # pyright: ignore
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return round(int(found[1]) / 1024) if found else None


def times() -> str:
    """The table of run times and memory, as markdown."""
    measured = load_result("notebooks")["notebooks"]
    rows = [
        [f"[{path.stem[:2]}](notebooks/{path.name})", _title(path), f"{at['seconds']:.0f} s", f"{at['peak_mb']} MB"]
        for path in notebooks()
        if (at := measured.get(path.stem))
    ]
    return table(["", "notebook", "2 CPU cores", "memory"], rows)


def _title(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].split("·", 1)[-1].strip()


def sizes(path: Path) -> str:
    """How long a notebook is: words of prose, as `wc` counts them, code cells, lines of the middle and the longest."""
    cells = nbformat.read(path, as_version=4).cells
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    lines = [len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code"]
    told = f"{words:5,} words, {len(lines):2} code cells, {statistics.median(lines):.0f} lines in the middle"
    return f"{path.stem:30}{told}, {max(lines)} at most"


# Rules -------------------------------------------------------------------------------------------------------------


def lint(path: Path) -> list[str]:
    """Every rule that the notebook breaks, in words."""
    notebook = nbformat.read(path, as_version=4)
    if path.stat().st_size > LARGEST:
        return [f"{path.stat().st_size:,} bytes, more than {LARGEST:,}"]
    return [*_frame(notebook), *_code(notebook), *_figures(notebook), *_references(notebook, path)]


def _frame(notebook: NotebookNode) -> list[str]:
    first, last = notebook.cells[0].source, notebook.cells[-1].source
    wrong = [f"the header lacks {part!r}" for part in HEADER if part not in first]
    return wrong + [f"the footer lacks {part!r}" for part in FOOTER if part not in last]


def _code(notebook: NotebookNode) -> list[str]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sizes = [len(cell.source.splitlines()) for cell in cells]
    wrong = [f"a cell of {size} lines: {cells[i].source[:40]!r}" for i, size in enumerate(sizes) if size > LONGEST]
    if statistics.median(sizes) > MEDIAN:
        wrong.append(f"the middle code cell has {statistics.median(sizes)} lines, more than {MEDIAN}")
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        wrong.append("it was not run from top to bottom: python -m experiments.notebooks")
    for cell in cells:
        for output in cell.outputs:
            if output.output_type == "error":
                wrong.append(f"a cell failed: {cell.source[:40]!r}")
            if output.get("name") == "stderr":
                wrong.append(f"a cell warns: {output.text[:80]!r}")
    return wrong


def _figures(notebook: NotebookNode) -> list[str]:
    """Every picture has words for those who do not see it, and a caption below."""
    wrong = []
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if cell.cell_type == "markdown":
            wrong += [f"a picture without words: {link}" for link in re.findall(r"!\[\s*\]\([^)]*\)", cell.source)]
            continue
        for output in cell.outputs:
            data, shown = output.get("data", {}), output.get("metadata", {})
            form = next((form for form in ("image/png", "image/jpeg") if form in data), None)
            if form and not shown.get(form, {}).get("alt"):
                wrong.append(f"a picture without words: {cell.source[-60:]!r}")
            captioned = after is not None and re.match(r"\*(Fig\.|Widget) \d+", after.source)
            if (form or "application/vnd.jupyter.widget-view+json" in data) and not captioned:
                wrong.append(f"a picture without a caption below: {cell.source[-60:]!r}")
    return wrong


def _references(notebook: NotebookNode, path: Path) -> list[str]:
    """Links lead to files (JupyterLab opens no folder), and what is said to stand in the paper is there."""
    wrong = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for link in re.findall(r"\]\(([^)\s]+)\)", cell.source):
            if not link.startswith(("https://", "#")) and not (path.parent / link.split("#")[0]).is_file():
                wrong.append(f"a link that leads nowhere: {link}")
        own = re.sub(r"\*Imagen Video\*.*|[A-Z][\w ]+ et al\.[^)]*", "", cell.source)  # without other papers' numbers
        for what, pattern, there in (
            ("§", r"§(\d(?:\.\d)*)", SECTIONS),
            ("App. ", r"App\. ([A-F](?:\.\d)*)", APPENDIX),
            ("Fig. ", r"Figs?\. (A\.\d+)", FIGURES),
        ):
            wrong += [f"the paper has no {what}{n}" for n in re.findall(pattern, own) if n not in there]
    return wrong


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Run the notebooks from clean kernels, or only hold their rules.")
    parser.add_argument("numbers", nargs="*", help="of the notebooks, such as 07; all if none is named")
    parser.add_argument("--lint", action="store_true", help="only hold the rules")
    parser.add_argument("--sizes", action="store_true", help="only say how long they are")
    options = parser.parse_args()
    chosen = [p for p in notebooks() if not options.numbers or p.stem[:2] in options.numbers]
    if options.sizes:
        return print("\n".join(map(sizes, chosen)))
    if not options.lint:
        run_all(chosen)
    wrong = [f"{path.name}: {rule}" for path in chosen for rule in lint(path)]
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
