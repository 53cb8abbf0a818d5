"""What passes in a notebook is collected in my_imagen.py, which stands alone and is all the progress that is kept."""

import linecache
import subprocess
import sys

import pytest
import torch

from imagen_lite import learn
from imagen_lite.guidance import classifier_free_guidance

GUIDANCE = "def my_guidance(eps_cond, eps_uncond, weight):\n    return eps_uncond + weight * (eps_cond - eps_uncond)\n"
NOISE = "def add_noise(x0, eps, alpha, sigma):\n    return alpha * x0 + sigma * eps\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_LITE_LEARN", str(tmp_path))
    return tmp_path / "my_imagen.py"


def cell(source, **names):
    """The function of a notebook's cell, whose source can be told, as IPython makes it so."""
    name = f"<cell {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names = {"__name__": "__main__", "torch": torch, **names}
    exec(compile(source, name, "exec"), names)
    return names[source.split("(")[0].removeprefix("def ")]


def test_what_passes_is_put_in_order_and_stands_alone(home):
    assert learn.check("guidance", cell(GUIDANCE)) == "Classifier-free guidance: passed; it is in my_imagen.py now"
    assert learn.check("add noise", cell(NOISE)).endswith("now")
    text = home.read_text()
    assert text.index("def add_noise") < text.index("def my_guidance") and GUIDANCE in text
    assert "classifier_free_guidance = my_guidance" in text and "add_noise = " not in text
    says = "import my_imagen as m, torch; print(m.classifier_free_guidance(torch.ones(1), torch.zeros(1), 3).item())"
    ran = subprocess.run([sys.executable, "-c", says], cwd=home.parent, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "3.0"


def test_what_is_edited_there_stays_and_a_better_answer_takes_its_place(home):
    learn.check("guidance", cell(GUIDANCE))
    home.write_text("# mine\n" + home.read_text().replace("return eps_uncond", "return 1 * eps_uncond"))
    learn.check("add noise", cell(NOISE))
    assert home.read_text().startswith("# mine\n") and "return 1 * eps_uncond" in home.read_text()
    learn.check("guidance", cell(GUIDANCE))
    assert "1 * eps_uncond" not in home.read_text() and home.read_text().count("def my_guidance") == 1


def test_a_later_piece_may_call_an_earlier_one_by_its_own_name(home):
    ddim = "def my_ddim(x_t, x0, t, s, *_):\n    return s.alpha * x0 + s.sigma * (x_t - t.alpha * x0) / t.sigma\n"
    second = """def my_2m(x_t, x0, t, s, noise, last):
    if last is not None:
        r = (t.log_snr - last[1].log_snr) / (s.log_snr - t.log_snr)
        x0 = x0 + (x0 - last[0]) / (2 * r)
    return my_ddim(x_t, x0, t, s)
"""
    first = cell(ddim)
    assert "my_ddim" in learn.check("2M step", cell(second, my_ddim=first)) and not home.exists()
    learn.check("DDIM step", first)
    assert learn.check("2M step", cell(second, my_ddim=first)).endswith("it is in my_imagen.py now")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def f(c, u, w):\n    return u + factor * w * (c - u)\n", "name 'factor' is not defined"),
        ("f = lambda c, u, w: u + w * (c - u)\n", "with def"),
    ],
)
def test_what_cannot_stand_alone_is_said_to_have_passed_and_why_it_is_not_kept(home, source, why):
    names = {"__name__": "__main__", "factor": 1}
    linecache.cache["<leaning>"] = (len(source), None, source.splitlines(keepends=True), "<leaning>")
    exec(compile(source, "<leaning>", "exec"), names)
    told = learn.check("guidance", names["f"])
    assert told.startswith("Classifier-free guidance: passed; not put into my_imagen.py") and why in told
    assert not home.exists()


def test_a_file_that_does_not_run_is_left_alone(home):
    home.write_text("def broken(:\n")
    told = learn.check("guidance", cell(GUIDANCE))
    assert "passed; not put into my_imagen.py: SyntaxError" in told and home.read_text() == "def broken(:\n"


def test_only_what_a_notebook_defines_is_collected(home):
    assert learn.check("guidance", classifier_free_guidance) == "Classifier-free guidance: passed"
    learn.check("guidance", cell("def f(c, u, w):\n    return c\n"))
    assert not home.exists()


def test_progress_counts_what_is_there(home):
    assert learn.progress().endswith(f"0 of {len(learn.EXERCISES)} exercises are solved")
    learn.check("guidance", cell(GUIDANCE))
    lines = learn.progress().splitlines()
    assert lines[-1].startswith("1 of ")
    assert "■□" in next(line for line in lines if line.startswith("07"))


def test_ones_own_pieces_are_used_while_they_pass(home):
    assert not learn.my_imagen().own
    learn.check("guidance", cell(GUIDANCE))
    pieces = learn.my_imagen()
    assert pieces.own == ["classifier_free_guidance"] and len(pieces.borrowed) == len(learn.EXERCISES) - 1
    assert float(pieces.classifier_free_guidance(torch.ones(1), torch.zeros(1), 3.0)) == 3
    assert pieces.classifier_free_guidance is not classifier_free_guidance
    home.write_text(home.read_text().replace("weight * (", "weight * 2 * ("))
    assert learn.my_imagen().classifier_free_guidance is classifier_free_guidance


def test_an_instructor_may_hide_the_solutions(monkeypatch):
    monkeypatch.setenv(learn.HIDDEN, "1")
    assert "def " not in learn.solution("guidance") and learn.take("guidance", lambda *_: None)


def test_no_two_exercises_go_by_one_name():
    names = [exercise.solution.__name__ for exercise in learn.EXERCISES.values()]
    assert len(set(names)) == len(names) == sum(map(len, learn.SERIES.values()))
