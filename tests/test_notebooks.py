"""The notebooks keep their rules, and the rules see what breaks them. That they run is nbval's part of `make test`."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from experiments import notebooks
from experiments.results import ROOT, load_result, weights_in_use

HEADER = """# 99 · A test
![a picture](picture.png)
**You will be able to** test. **Before this** nothing. **Paper** §2.2, App. D.2; Fig. A.10. **Run time** 1 s."""
FOOTER = "## What you can do now\n| paper | code |\n|---|---|\n| §2.2 | [x](picture.png) |\n\n**Next** nothing."
PICTURE = new_output("display_data", {"image/png": "aGk="}, metadata={"image/png": {"alt": "hi"}})


@pytest.mark.parametrize("path", notebooks.notebooks(), ids=lambda path: path.stem)
def test_each_notebook_keeps_the_rules(path):
    assert notebooks.lint(path) == []


@pytest.mark.parametrize("path", notebooks.notebooks(), ids=lambda path: path.stem)
def test_each_notebook_was_run_with_the_shipped_weights(path):
    measured = load_result("notebooks")
    assert measured["weights"] == weights_in_use(), "run make refresh after new weights"
    assert measured["notebooks"][path.stem]["seconds"] <= (180 if path.stem.startswith("05") else 90)  # 05 trains


def test_the_readme_has_every_notebook():
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in notebooks.notebooks() if path.name not in text] == []


def written(tmp_path, *cells):
    (tmp_path / "picture.png").write_bytes(b"")
    path = tmp_path / "99_test.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell(HEADER), *cells, new_markdown_cell(FOOTER)]), path)
    return path


def test_a_good_notebook_has_nothing_to_be_told(tmp_path):
    cells = new_code_cell("x = 1", execution_count=1, outputs=[PICTURE]), new_markdown_cell("*Fig. 1. What to see.*")
    assert notebooks.lint(written(tmp_path, *cells)) == []


ERROR = new_output("error", ename="E", evalue="no", traceback=[])
WARNING = new_output("stream", name="stderr", text="careful")
MUTE = new_output("display_data", {"image/png": "aGk="})


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([new_code_cell("x = 1")], "not run from top to bottom"),
        ([new_code_cell("x = 1", execution_count=2)], "not run from top to bottom"),
        ([new_code_cell("x\n" * 41, execution_count=1)], "a cell of 41 lines"),
        ([new_code_cell("x\n" * 9, execution_count=1)], "middle code cell"),
        ([new_code_cell("x", execution_count=1, outputs=[ERROR])], "failed"),
        ([new_code_cell("x", execution_count=1, outputs=[WARNING])], "warns"),
        ([new_code_cell("x", execution_count=1, outputs=[PICTURE])], "without a caption"),
        ([new_code_cell("x", execution_count=1, outputs=[MUTE]), new_markdown_cell("*Fig. 1. A.*")], "without words"),
        ([new_markdown_cell("![](picture.png)")], "without words"),
        ([new_markdown_cell("[there](nowhere.py)")], "leads nowhere: nowhere.py"),
        ([new_markdown_cell("[there](.)")], "leads nowhere: ."),
        ([new_markdown_cell("as §7.3 says")], "no §7.3"),
        ([new_markdown_cell("as App. G says, and App. D.9")], "no App. D.9"),
        ([new_markdown_cell("see Fig. A.99")], "no Fig. A.99"),
        ([new_markdown_cell("x" * 600_000)], "more than 500,000"),
    ],
)
def test_each_rule_sees_what_breaks_it(tmp_path, cells, told):
    ran = [new_code_cell("y = 1", execution_count=1)] if not any(c.cell_type == "code" for c in cells) else []
    assert told in " ".join(notebooks.lint(written(tmp_path, *ran, *cells)))


def test_header_and_footer_are_asked_for(tmp_path):
    path = written(tmp_path, new_code_cell("x", execution_count=1))
    text = path.read_text().replace("**Before this**", "Before this").replace("**Next**", "Next")
    path.write_text(text)
    assert len(notebooks.lint(path)) == 2


def test_a_run_leaves_outputs_times_and_no_trace_of_the_machine(tmp_path):
    path = written(tmp_path, new_code_cell("print(6 * 7)"))
    measured = notebooks.run(path)
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text == "42\n" and stored.cells[1].execution_count == 1
    assert "**Run time** " in stored.cells[0].source and "1 s." not in stored.cells[0].source.split("on")[0][-4:]
    assert measured["seconds"] > 0 and str(tmp_path) not in json.dumps(stored)
    assert notebooks.lint(path) == []


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = written(tmp_path, new_code_cell("1 / 0"))
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebooks.run(path)
    assert path.read_bytes() == before
