"""What docs/instructor.md names is there: sections, figures, exercises, widgets, commands, pictures, numbers."""

import ast
import dataclasses
import json
import re
import runpy
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest

from experiments.notebooks import FOLDER, notebooks
from experiments.results import ROOT, load_result
from imagen_lite import evaluate, learn, viz, widgets
from imagen_lite.cli import app
from imagen_lite.evaluate.rating import reader_answers, win_rates
from imagen_lite.widgets.lecture import STEPS
from imagen_lite.widgets.sweep import FOLDER as SWEEPS
from imagen_lite.widgets.sweep import load_sweep, prepared

GUIDE = ROOT / "docs" / "instructor.md"
TEXT = GUIDE.read_text()
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
FLAT = re.sub(r"\s+", " ", TEXT)
# Of a notebook: 07 §5 “What it is not”, Fig. 3
PLACE = re.compile(r"\b(0\d)((?:(?:,| to| and)? ?(?:§\d+|“[^”]+”|Figs?\. \d+(?:, \d+)*|Widget \d+|Exercise \d\.\d))+)")
OWN = {"mark.py", "def", "# from the solution", ".venv", "my_guess", "resolution=64"}  # no names of ours, or everywhere
MODULES = {"learn": learn, "evaluate": evaluate, "viz": viz}
OTHERS = {"JupyterLab", "DrawBench", "LayerNorm"}


def labels() -> frozenset[str]:
    """Every text in the source of the widgets, its HTML tags taken off: what a control may be called."""
    found = set()
    for path in (ROOT / "imagen_lite" / "widgets").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {part.strip() for part in re.split(r"<[^>]*>", node.value)}
    return frozenset(found)


@dataclass(frozen=True)
class World:
    """All that the guide may name."""

    folder: Path = FOLDER
    makefile: str = (ROOT / "Makefile").read_text()
    commands: frozenset[str] = frozenset(c.callback.__name__ for c in app.registered_commands if c.callback)
    exercises: frozenset[str] = frozenset(learn.EXERCISES)
    widgets: frozenset[str] = frozenset(widgets.__all__)
    labels: frozenset[str] = labels()
    steps: tuple[str, ...] = tuple(step.title for step in STEPS)
    prompts: frozenset[str] = frozenset(prepared())

    def cells(self, number: str) -> list[str]:
        """The notebook's markdown cells; none where there is no such notebook."""
        path = next(self.folder.glob(f"{number}_*.ipynb"), None)
        cells = nbformat.read(path, as_version=4).cells if path else []
        return [cell.source for cell in cells if cell.cell_type == "markdown"]


def headings(cells: list[str]) -> list[tuple[str, str]]:
    """(number of the section, title) of each heading; the number of a section's parts is the section's."""
    found, section = [], ""
    for line in "\n".join(cells).splitlines():
        if heading := re.match(r"(##+) (?:(\d+)\. )?(.+)", line):
            section = (heading[2] or "") if heading[1] == "##" else section
            found.append((section, heading[3]))
    return found


def captions(cells: list[str]) -> set[tuple[str, str]]:
    """(number of the section, name) of each figure and widget."""
    found, section = set(), ""
    for line in "\n".join(cells).splitlines():
        if heading := re.match(r"## (?:(\d+)\. )?", line):
            section = heading[1] or ""
        elif caption := re.match(r"\*((?:Fig\.|Widget) \d+)\.", line):
            found.add((section, caption[1]))
    return found


def of_places(text: str, world: World) -> list[str]:
    wrong = []
    for number, parts in PLACE.findall(re.sub(r"\s+", " ", text)):
        cells = world.cells(number)
        there, section = headings(cells), ""
        shown = captions(cells)
        for part in re.findall(r"§\d+|“[^”]+”|Figs?\. \d+(?:, \d+)*|Widget \d+", parts):
            if part[0] == "§":
                section, fine = part[1:], part[1:] in {n for n, _ in there}
            elif part[0] == "“":
                fine = part[1:-1] in {title for n, title in there if section in ("", n)}
            else:
                kind, *of = part.replace("Figs.", "Fig.").replace(",", "").split()
                fine = all(f"{kind} {n}" in {name for at, name in shown if section in ("", at)} for n in of)
            if not fine:
                wrong.append(f"{number} has no {part} (section {section!r})")
    return wrong


def of_exercises(text: str, world: World) -> list[str]:
    titles = [title for k in range(10) for _, title in headings(world.cells(f"0{k}"))]
    there = {n for title in titles for n in re.findall(r"^Exercise (\S+)", title)}
    named = re.findall(r"Exercises? (\d\.\d)(?: to (\d\.\d))?", text)
    return [f"there is no exercise {n}" for pair in named for n in pair if n and n not in there]


def of_messages(text: str, world: World) -> list[str]:
    """What `learn.check` is said to say, in the table of the exercises."""
    rows = re.findall(r"^\| `([^`]+)` \|[^|]+\|[^|]+\| “([^”]+)” \|", text, re.MULTILINE)
    known = {name: [why for _, why in learn.EXERCISES[name].properties] for name, _ in rows if name in world.exercises}
    wrong = [f"{n}: nobody says {said!r}" for n, said in rows if not any(said in why for why in known.get(n, []))]
    return wrong + [f"{name} is not in the table" for name in world.exercises - {name for name, _ in rows}]


def _is_there(token: str, world: World) -> bool:
    first, _, rest = token.partition(" ")
    match first:
        case "make":
            return bool(re.search(rf"^{rest}:", world.makefile, re.MULTILINE))
        case "imagen-lite":
            return rest.split()[0] in world.commands
        case "jupyter":
            return all((world.folder.parent / word).exists() for word in rest.split() if word.endswith(".ipynb"))
    holder, _, name = token.partition(".")
    if holder == "widgets":
        return name in world.widgets
    if holder in MODULES:
        return hasattr(MODULES[holder], name)
    source = "".join(path.read_text() for path in (ROOT / "imagen_lite" / "learn").glob("*.py"))
    known = world.exercises | world.labels | world.prompts | OWN | {learn.FILE}
    return token in known or token.startswith("IMAGEN_LITE_") and f'"{token}"' in source


def of_names(text: str, world: World) -> list[str]:
    tokens = {token for token in re.findall(r"`([^`\n]+)`", text) if not _is_there(token, world)}
    classes = set(re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", text)) - world.widgets - OTHERS
    steps = re.findall(r"steps? (\d) “([^”]+)”", text)
    return (
        [f"nothing is called {token!r}" for token in tokens | classes]
        + [f"the talk's step {n} is not {title!r}" for n, title in steps if world.steps[int(n) - 1] != title]
        + [f"a link that leads nowhere: {link}" for link in re.findall(r"\]\(([^)#\s]+)\)", text)
           if not (GUIDE.parent / link).exists()]
    )  # fmt: skip


def of_electives(text: str, world: World) -> list[str]:
    """Notebooks named by title, where they are there already; and sayings that stand in a section."""
    wrong = []
    for title, number in re.findall(r"\*([^*]+)\* \((1\d)\)", re.sub(r"\s+", " ", text)):
        if (cells := world.cells(number)) and not cells[0].startswith(f"# {number} · {title}"):
            wrong.append(f"{number} is not called {title!r}")
    for said, number in re.findall(r"“([^”]+)” \((0\d) §\d+\)", re.sub(r"\s+", " ", text)):
        if said not in re.sub(r"\s+", " ", " ".join(world.cells(number))):
            wrong.append(f"{number} does not say {said!r}")
    return wrong


def problems(text: str, world: World) -> list[str]:
    """Everything that the guide names and that is not there."""
    checks = (of_places, of_exercises, of_messages, of_names, of_electives)
    return [wrong for check in checks for wrong in check(text, world)]


def test_all_that_the_guide_names_is_there():
    assert problems(PROSE, World()) == []
    assert len(PLACE.findall(PROSE)) > 60


RENAMED = [
    ("07", "## 5. What it is not", "## 5. What else it is", "What it is not"),
    ("07", "*Fig. 3. ", "*Fig. 33. ", "Fig. 3"),
    ("08", "*Widget 1. ", "*Widget 2. ", "Widget 1"),
    ("09", "## 9. Your own Imagen", "## 9. Another\n\n## 10. Your own Imagen", "Fig. 11"),
    ("09", "### A bug to find", "### What is wrong here?", "A bug to find"),
    ("03", "## 7. Sample from it", "## Sample from it", "§7"),
    ("08", "Exercise 8.1", "Exercise 8.3", "8.1"),
    ("06", "More steps are always better", "More steps are better", "More steps"),
]


@pytest.mark.parametrize(("number", "old", "new", "told"), RENAMED, ids=[row[1] for row in RENAMED])
def test_it_is_noticed_when_a_notebook_changes(tmp_path, number, old, new, told):
    for path in notebooks():
        shutil.copy(path, tmp_path)
    path = next(tmp_path.glob(f"{number}_*.ipynb"))
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, path)
    wrong = of_places(PROSE, w := World(folder=tmp_path)) + of_exercises(PROSE, w) + of_electives(PROSE, w)
    assert any(told in line for line in wrong)


def test_it_is_noticed_when_a_name_changes():
    shipped = World()
    for name, gone in (
        ("exercises", "text keys"), ("widgets", "DrawBenchRater"), ("labels", "guidance weight w"), ("labels", "zebra"),
        ("commands", "progress"), ("prompts", "outside this world: a horse"), ("labels", "speaker notes"),
    ):  # fmt: skip
        assert gone in getattr(shipped, name), gone
        world = dataclasses.replace(shipped, **{name: getattr(shipped, name) - {gone}})
        assert any(gone in line for line in of_names(PROSE, world)), gone
    world = dataclasses.replace(shipped, makefile=shipped.makefile.replace("explorer:", "talk:"))
    assert any("make explorer" in line for line in of_names(PROSE, world))
    world = dataclasses.replace(shipped, steps=("Louder", *shipped.steps[1:]))
    assert any("step 1" in line for line in of_names(PROSE, world))
    assert of_messages(PROSE.replace("clipping is not scaling", "clipping is scaling"), shipped)
    assert of_names("see [this](nowhere.md)", shipped)
    assert of_electives("*Another title* (10)", shipped) or not shipped.cells("10")


# Numbers -----------------------------------------------------------------------------------------------------------


def table(start: str) -> list[list[str]]:
    """The cells of the rows that begin so."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith(start)]


def minutes(number: str) -> tuple[float, int, float]:
    """Of reading, at 200 words a minute; of exercises, by their cards; and seconds of Run All."""
    cells = World().cells(number)
    cards = [int(n) for _, title in headings(cells) for n in re.findall(r"^Exercise .* (\d+) minutes$", title)]
    run = next(at for name, at in load_result("notebooks")["notebooks"].items() if name.startswith(number))
    return sum(len(cell.split()) for cell in cells) / 200, sum(cards), run["seconds"]


TIMINGS = [row for row in table("| 0") if len(row) == 6 and row[1].isdigit()]


@pytest.mark.parametrize("row", TIMINGS, ids=lambda row: row[0])
def test_the_timings_are_derived_as_is_said(row):
    """Loosely as to the run: a machine with other work takes two or three times as long."""
    (reading, exercises, seconds), told = minutes(row[0][:2]), [int(cell) for cell in row[1:5]]
    assert abs(told[0] - reading) < 2 and told[1] == exercises and abs(told[2] - seconds) < 120
    assert len(TIMINGS) == 10 and abs(told[3] - sum((reading, exercises, seconds / 60))) < 4
    sections = {number for number, _ in headings(World().cells(row[0][:2]))}
    assert set(re.findall(r"§(\d+)(?!')", re.sub(r"\([^)]*\)", "", row[5]))) <= sections


def test_the_guidance_explorer_shows_what_the_script_says():
    rows = [row for row in table("| `") if row[0].strip("`") in prepared()]
    assert len(rows) > 8
    for label, w, thresholding, said, _ in rows:
        sweep = load_sweep(prepared()[label.strip("`")])
        frame = sweep.frames[sweep.thresholds.index(thresholding)][sweep.weights.index(float(w))]
        shown = ["aligned" if frame.aligned else "not aligned", *frame.reasons, f"{frame.saturated:.1%}"]
        assert set(said.split("; ")) <= set(shown), (label, w, thresholding, shown)


def test_the_saturation_explorer_shows_what_the_script_says():
    trace, rows = widgets.load_trace("trace-08"), [row for row in table("| ") if ": step " in row[0]]
    assert f"“{trace.prompt}” at w = {trace.weight:g}" in FLAT and len(rows) == 3
    for where, *told, _ in rows:
        step = int(where.split()[-1]) - 1
        for k, said in enumerate(told):
            share, _, s = said.partition(", s = ")
            assert share == f"{(np.abs(trace.raw_x0[k, step]) > 1).mean():.1%}"
            assert not s or s == f"{trace.scale[k, step]:.2f}"


def test_the_cascade_explorer_has_the_knobs_of_the_script():
    prepared_ = json.loads((SWEEPS / "cascade-00.json").read_text())
    assert f"“{prepared_['prompt']}”" in FLAT
    assert "`augmentation level` from {:g} to {:g}".format(*(prepared_["aug_levels"][k] for k in (0, -1))) in FLAT
    assert "`guidance weight w` from {:g} to {:g}".format(*(prepared_["weights"][k] for k in (0, -1))) in FLAT
    assert f"0.2 is σ = {np.sin(np.pi / 2 * 0.2):.2f}" in FLAT


def test_every_planted_bug_is_in_the_table():
    told = {row[0][:2] for row in table("| 0") if "A bug to find" in row[0]}
    there = {f"0{k}" for k in range(10) if "A bug to find" in {title for _, title in headings(World().cells(f"0{k}"))}}
    assert told == there and {7: "Seven"}[len(there)] in TEXT.split("## 8.")[1][:40]


# What is there to be run --------------------------------------------------------------------------------------------


def code(name: str) -> str:
    """The block below a mark."""
    return TEXT.split(f"<!-- {name} -->\n```python\n")[1].split("```")[0]


def test_the_gain_is_what_the_guide_prints(capsys):
    exec(compile(code("gain"), "gain", "exec"), {})
    assert f"It prints {capsys.readouterr().out.strip()}." in FLAT


def test_the_raters_pairs_are_there_and_the_reader_prefers_the_loud_ones():
    names: dict = {}
    exec(
        compile(code("rater").replace("widgets.DrawBenchRater(", "rater = widgets.DrawBenchRater("), "r", "exec"), names
    )
    assert len(names["pairs"]) == len(names["rater"].shown) == 10 and "Ten pairs" in TEXT
    rows = win_rates([{"category": "w", "alignment": reader_answers(pair)} for pair in names["pairs"]], "alignment")
    assert rows[-1]["share"] < 0.5


MINE = '''"""My Imagen."""

import torch

# --- RMSNorm: RMSNorm ---

def rms_norm(x, weight, eps=1e-6):
    return weight * x

# --- eps to x0: From the noise to the picture ---

from imagen_lite.learn.diffusion import eps_to_x0

# --- guidance: Classifier-free guidance ---

def my_guidance(eps_cond, eps_uncond, weight):
    return weight * eps_cond + (1 - weight) * eps_uncond

classifier_free_guidance = my_guidance
'''


def test_marking_tells_what_passes_what_only_claims_to_and_what_is_the_librarys(tmp_path, monkeypatch, capsys):
    (tmp_path / "mark.py").write_text(code("mark"))
    (tmp_path / learn.FILE).write_text(MINE)
    monkeypatch.setattr(sys, "argv", ["mark.py", str(tmp_path / learn.FILE)])
    runpy.run_path(str(tmp_path / "mark.py"))
    told = {line[:28].strip(): line[28:].strip() for line in capsys.readouterr().out.splitlines()}
    assert (told["RMSNorm"], told["guidance"], told["EMA"]) == ("does not pass", "passes", "missing")
    assert told["eps to x0"] == "passes, the library’s own lines"
    assert f"2 of {len(learn.EXERCISES)} pass" in told


def test_progress_counts_what_does_not_even_load(tmp_path):
    path = tmp_path / learn.FILE
    path.write_text("".join(f"# --- {name}: {e.title} ---\nbroken(\n" for name, e in learn.EXERCISES.items()))
    assert learn.progress(path).endswith("24 of 24 exercises are solved") and "24 of 24" in TEXT
    with pytest.raises(SyntaxError):
        learn.my_imagen(path)
