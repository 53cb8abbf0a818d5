"""The command line: what it says, what it writes, and that a mistake is one sentence, exit code ≠ 0, no file."""

import json
import subprocess
import sys
import types
import warnings

import pytest
import torch
from PIL import Image
from test_cascade import FakeEncoder, tiny_stage

from imagen_lite import bench, cascade, cli, evaluate, recipes, scenes, viz, weights
from imagen_lite.cascade import Cascade
from imagen_lite.evaluate import Verdict
from imagen_lite.scenes.reader import Seen


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs `imagen-lite ARGS` in an empty folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["imagen-lite", *args])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


@pytest.fixture
def tiny(monkeypatch):
    """A random 64-px cascade, and a reader that sees one thing, in place of the shipped weights."""
    model = Cascade(FakeEncoder(), {64: tiny_stage(64)}, torch.float32)
    monkeypatch.setattr(cascade, "load_cascade", lambda device=None, folder=None: model)
    monkeypatch.setattr(scenes, "read", lambda images: [[Seen("cone", "red")] for _ in images])
    verdict = Verdict(True, ("red cone ✓",), {})
    monkeypatch.setattr(evaluate, "alignment", lambda images, captions: [verdict for _ in captions])
    return model


def test_sample_draws_one_picture_and_says_what_it_did(run, tiny, tmp_path):
    code, out, err = run("sample", "a red cone", "--steps", "2", "--seed", "3", "-w", "2", "-o", "cone.png")
    assert code == 0, err
    assert "Loaded base64 (" in out and "fake on cpu, float32" in out
    assert "Drew 1 picture of 64×64" in out and str(tmp_path / "cone.png") in out
    assert "The reader sees large matte red cone; aligned: red cone ✓" in out
    expected = tiny.sample(["a red cone"], guidance_weight=2, steps=2, seed=3).pil()[0]
    assert Image.open("cone.png").tobytes() == expected.tobytes()


def test_sample_draws_a_grid(run, tiny):
    code, out, _ = run("sample", "a red cone", "a duck", "--count", "2", "--steps", "1", "-o", "grid.jpg")
    assert code == 0 and "Drew 4 pictures" in out and "Picture 3: the reader sees" in out
    assert Image.open("grid.jpg").size == (130, 130)


def test_sample_names_the_words_outside_this_world(run, tiny):
    code, out, _ = run("sample", "a red sfere rides a xylophone", "--steps", "1")
    assert code == 0 and "'sfere' is outside this world: did you mean sphere" in out
    assert "'xylophone' is outside this world" in out and "'red'" not in out
    assert "mushroom" in out and Image.open("out.png").size == (64, 64)


def test_surprise_makes_up_a_prompt(run, tiny):
    first, second, other = (run("sample", "--surprise", "--steps", "1", "--seed", s)[1] for s in ("7", "7", "8"))
    assert first.splitlines()[0].startswith("Surprise: ")
    assert first.splitlines()[0] == second.splitlines()[0] != other.splitlines()[0]


def test_sample_without_a_reader_still_gives_the_picture(run, tiny, monkeypatch):
    def missing(images):
        raise weights.WeightsError("No weights at reader.")

    monkeypatch.setattr(scenes, "read", missing)
    code, out, _ = run("sample", "a red cone", "--steps", "1")
    assert code == 0 and "Nobody read the picture: No weights at reader." in out and Image.open("out.png")


def test_warnings_are_one_line(run, tiny, monkeypatch):
    monkeypatch.setattr(cli, "_say_unknown_words", lambda prompt: warnings.warn("the caption is long", stacklevel=1))
    assert "Note: the caption is long\n" in run("sample", "a red cone", "--steps", "1")[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sample"], "say what to draw"),
        (["sample", ""], "has no words"),
        (["sample", "красный конус"], "not in English"),
        (["sample", "a cone " * 400], "2,000 at most"),
        (["sample", "a cone", "--surprise"], "not both"),
        (["sample", "a cone", "-w", "nan"], "guidance weight must be a finite number"),
        (["sample", "a cone", "--guidance-weight", "-2"], "guidance weight must be"),
        (["sample", "a cone", "--percentile", "99.5"], "percentile is a fraction"),
        (["sample", "a cone", "--percentile", "nan"], "percentile is a fraction"),
        (["sample", "a cone", "--threshold", "clip"], "threshold must be 'none', 'static', 'dynamic'"),
        (["sample", "a cone", "--resolution", "256"], "imagen-lite train sr256"),
        (["sample", "a cone", "--resolution", "100"], "resolution must be 64"),
        (["sample", "a cone", "--steps", "0"], "steps must be"),
        (["sample", "a cone", "--seed", "-1"], "a seed must be"),
        (["sample", "a cone", "-o", "out.gif"], "does not name a picture"),
        (["sample", "a cone", "-o", "out"], "does not name a picture"),
        (["train", "base46"], "there is no recipe 'base46'; choose from t5-lite-base, reader, base64"),
        (["train", "base64", "--max-minutes", "0"], "--max-minutes must be above 0"),
        (["render", "-o", "."], "does not name a picture"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(run, tiny, tmp_path, args, message):
    code, _, err = run(*args)
    last = err.strip().splitlines()[-1]
    assert code == 1 and last.startswith("imagen-lite: ") and message in last
    assert "Traceback" not in err and not list(tmp_path.iterdir())


def test_usage_errors_are_refused_too(run):
    assert run("sample", "a cone", "--count", "0")[0] == 2
    assert run("paint")[0] == 2


def test_missing_weights_are_one_sentence(run, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "DATA", tmp_path / "data")
    code, _, err = run("sample", "a red cone")
    assert code == 1 and err.startswith("imagen-lite: No weights at") and len(err.splitlines()) == 1
    assert not (tmp_path / "out.png").exists()


def test_an_interrupt_is_no_traceback(run, tiny, monkeypatch, tmp_path):
    def interrupted(*args, **kw):
        raise KeyboardInterrupt

    monkeypatch.setattr(Cascade, "sample", interrupted)
    code, _, err = run("sample", "a red cone")
    assert code == 130 and "Traceback" not in err and not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_picture(run, tiny, monkeypatch, tmp_path):
    (tmp_path / "out.png").write_bytes(b"old")

    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.os, "fsync", full_disk)
    code, _, err = run("sample", "a red cone", "--steps", "1")
    assert code == 1 and "No space left on device" in err
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"] and (tmp_path / "out.png").read_bytes() == b"old"


def test_train_calls_its_recipe(run, monkeypatch):
    calls = []
    module = types.SimpleNamespace(run=lambda **kw: calls.append(kw))
    monkeypatch.setitem(sys.modules, "imagen_lite.recipes.base64", module)
    assert run("train", "base64", "--max-minutes", "1.5", "--fresh")[0] == 0
    assert calls == [{"max_minutes": 1.5, "device": None, "fresh": True}]


def test_what_processes_do_not_share_is_trained_by_one(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run("train", "detail")
    assert code == 1 and "detail is trained by one process; start it without a launcher" in err


def test_every_recipe_is_there():
    import importlib
    import inspect

    for module in recipes.RECIPES.values():
        names = inspect.signature(importlib.import_module(f"imagen_lite.recipes.{module}").run).parameters
        assert {"max_minutes", "device", "fresh"} <= set(names)


def test_render_writes_a_contact_sheet(run):
    code, out, err = run("render", "--count", "3", "--size", "16", "--seed", "5", "-o", "sheet.png")
    assert code == 0, err
    assert Image.open("sheet.png").size == (34, 34)
    assert scenes.captions(scenes.sample_scene(7))[0] in out


def test_evaluate_alignment_prints_and_writes(run, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "report", lambda cascade, n, seed: {"n": n, "seed": seed})
    monkeypatch.setattr(evaluate, "format_report", lambda result: f"n = {result['n']}")
    code, out, _ = run("evaluate", "alignment", "-n", "7", "--json", "table.json")
    assert code == 0 and "n = 7" in out and json.loads((tmp_path / "table.json").read_text()) == {"n": 7, "seed": 0}


def test_bench_measures_what_is_there(run, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "load_cascade", lambda device=None: tiny)
    monkeypatch.setattr(bench, "BATCH", 2)
    monkeypatch.setattr(bench, "_import_row", lambda repeats: {"name": "import", "seconds": 1.0, "note": ""})
    code, out, err = run("bench", "--repeats", "1", "--json", "bench.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["name"].split()[0] for row in rows] == ["import", "render", "sample", "training"]
    assert all(row["seconds"] > 0 for row in rows) and "sample one picture, 64 px" in out
    assert sys.platform == "win32" or "peak memory" in rows[2]["note"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_peak_memory_is_in_gigabytes():
    code = (
        "import torch; from imagen_lite.bench import peak_memory as peak; cpu = torch.device('cpu')",
        "x = torch.ones(125_000_000); before = peak(cpu); y = torch.ones_like(x); print(peak(cpu) - before)",
    )
    # A shell between, for a process begins with the peak of the one that it is born of, and pytest's may be large.
    within = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, "\n".join(code)]
    out = subprocess.run(within, capture_output=True, text=True, check=True).stdout
    assert 0.4 < float(out) < 0.7


def test_help_does_not_wait_for_torch():
    code = "import sys, imagen_lite.cli; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


@pytest.mark.parametrize(
    "command", [[], ["sample"], ["train"], ["render"], ["evaluate"], ["evaluate", "alignment"], ["bench"]]
)
def test_help_reads(run, command):
    code, out, _ = run(*command, "--help")
    assert code == 0 and "Usage" in out


# Pictures -------------------------------------------------------------------------------------------------------


def test_grid_places_pictures_row_by_row():
    images = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 3, 4, 6)
    sheet = viz.grid(images, columns=3, gap=1)
    assert sheet.size == (3 * 7 - 1, 2 * 5 - 1)
    values = [sheet.getpixel((7 * (i % 3), 5 * (i // 3)))[0] for i in range(6)]
    assert values == [0, 64, 128, 191, 255, 255] and sheet.getpixel((6, 0)) == (255, 255, 255)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (3, 4, 4), (1, 1, 4, 4)])
def test_grid_refuses_what_is_no_batch_of_pictures(shape):
    with pytest.raises(ValueError, match="images must be"):
        viz.grid(torch.zeros(shape))


def test_progress_looks_here_and_beside_the_notebooks(run, tmp_path, monkeypatch):
    monkeypatch.delenv("IMAGEN_LITE_LEARN", raising=False)
    code, out, _ = run("progress")
    assert code == 0 and "0 of " in out and "Nothing is solved yet" in out
    (tmp_path / "notebooks").mkdir()
    kept = tmp_path / "notebooks" / "my_imagen.py"
    kept.write_text("# --- guidance: Classifier-free guidance ---\n\ndef f():\n    pass\n")
    code, out, _ = run("progress")
    assert code == 0 and "1 of " in out and "notebooks" in out
    code, _, err = run("progress", "nowhere.py")
    assert code != 0 and "nowhere.py" in err and err.count("\n") == 1
