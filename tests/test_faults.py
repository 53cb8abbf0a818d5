"""Harm in small: what `make soak` does at length. Nothing that was whole is lost, and each error says what to do."""

import io
import json
import math
import os
import random
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from experiments.soak import files, prompts
from experiments.soak.outcome import Asked, Ended, Tally
from experiments.soak.victim import Numbers
from imagen_lite import cli, data, train, viz, weights
from imagen_lite.recipes import pictures, stages
from imagen_lite.sampler import STEPS, final, keyed_noise, sample, time_grid
from imagen_lite.scenes import parse
from imagen_lite.schedule import CosineSchedule, LinearSchedule
from imagen_lite.text import CaptionTokenizer, EmbeddingCache
from imagen_lite.thresholding import no_threshold
from imagen_lite.train import TrainConfig, fit, keyed_normal
from imagen_lite.weights import WeightsError

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")


def toy(folder: Path, steps: int, at=lambda step: None, **options):
    """A training of a few numbers; `at` is called in each step. Returns its progress."""
    torch.manual_seed(0)
    model = nn.Linear(8, 8)

    def loss_at(step):
        at(step)
        x = keyed_normal(1, step, torch.arange(4), (8,))
        return (model(x) - x.flip(1)).square().mean()

    config = TrainConfig(batch=4, lr=1e-2, warmup=5, steps=steps, checkpoint_minutes=0.0)
    return fit(model, loss_at, config, folder, **options)[1]


def same_state(one: Path, other: Path) -> bool:
    a, b = (load_file(folder / "state.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def small_files():
    """No file may grow beyond 1,000 bytes: a full disk, as far as a process can tell."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.fixture
def told(monkeypatch, capsys):
    """What the command line says of an error that is raised within it, in one line."""
    usual = signal.getsignal(signal.SIGTERM)

    def call(failing) -> str:
        with pytest.raises(SystemExit) as stopped, cli.one_sentence_errors():
            failing()
        err = capsys.readouterr().err
        assert stopped.value.code == 1 and "Traceback" not in err
        assert (last := err.splitlines()[-1]).startswith("imagen-lite: ")  # before it, a training's bar
        return last

    yield call
    signal.signal(signal.SIGTERM, usual)


# Trainings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_save_that_is_cut_off_leaves_a_run_that_goes_on_bit_for_bit(tmp_path, monkeypatch, name):
    toy(tmp_path / "whole", 12)
    calls = iter(range(100))
    usual = getattr(os, name)

    def cut_off(*arguments):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return usual(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, cut_off)
        with pytest.raises(KeyboardInterrupt):
            toy(tmp_path / "cut", 12)
    assert toy(tmp_path / "cut", 12).step == 12
    assert same_state(tmp_path / "whole", tmp_path / "cut")


def test_a_second_training_in_the_same_folder_is_refused_while_the_first_is_at_work(tmp_path):
    toy(tmp_path / "whole", 6)

    def second(step):
        if step == 3:
            with pytest.raises(RuntimeError, match="another training is at work there.*another folder"):
                toy(tmp_path / "shared", 6)

            with pytest.raises(RuntimeError, match="another training is at work there"):
                stages.forget(tmp_path / "shared")  # --fresh

    assert toy(tmp_path / "shared", 6, second).step == 6
    assert same_state(tmp_path / "whole", tmp_path / "shared")
    stages.forget(tmp_path / "shared")
    assert not (tmp_path / "shared" / "state.safetensors").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_training_that_is_killed_does_not_keep_its_folder_locked(tmp_path):
    told_by, says = os.pipe()
    victim = os.fork()
    if not victim:
        with train.alone(tmp_path):
            os.write(says, b"1")
            signal.pause()
    os.read(told_by, 1)
    with pytest.raises(RuntimeError, match="another training"):
        toy(tmp_path, 2)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    assert toy(tmp_path, 2).step == 2


def test_a_training_that_fails_does_not_keep_its_folder_locked(tmp_path):
    with pytest.raises(ZeroDivisionError):
        toy(tmp_path, 5, lambda step: 1 // (3 - step))
    assert toy(tmp_path, 5).step == 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_after_a_whole_step_saved(tmp_path, number):
    toy(tmp_path / "whole", 9)
    usual = signal.getsignal(number)
    stopped = toy(tmp_path / "stopped", 9, lambda step: os.kill(os.getpid(), number) if step == 4 else None)
    assert stopped.step == 5 and signal.getsignal(number) == usual
    assert toy(tmp_path / "stopped", 9).step == 9
    assert same_state(tmp_path / "whole", tmp_path / "stopped")


def test_a_full_disk_is_told_of_and_the_last_checkpoint_stays(tmp_path, small_files, told):
    toy(tmp_path, 3)
    good = (tmp_path / "state.safetensors").read_bytes()
    small_files()
    assert "File too large; free some disk space" in told(lambda: toy(tmp_path, 6))
    assert (tmp_path / "state.safetensors").read_bytes() == good
    assert {path.name for path in tmp_path.iterdir()} <= {"state.safetensors", "log.jsonl", "lock"}


def test_what_a_kill_left_half_saved_is_taken_away(tmp_path):
    toy(tmp_path, 3)
    (tmp_path / ".state.safetensors.abc.tmp").write_bytes(b"half")
    toy(tmp_path, 4)
    assert {path.name for path in tmp_path.iterdir()} == {"state.safetensors", "log.jsonl", "lock"}


@LINUX
def test_a_folder_that_cannot_be_written_to_is_named():
    with pytest.raises(RuntimeError, match="no training can begin in /proc .*another folder"):
        toy(Path("/proc"), 3)


@pytest.mark.parametrize("want", [lambda: torch.zeros(10**15), lambda: bytearray(1 << 62)])
def test_a_step_that_wants_too_much_memory_advises_half_the_batch(tmp_path, want):
    with pytest.raises(RuntimeError, match=r"out of memory at batch 4; .*batch=2"):
        toy(tmp_path, 5, lambda step: want() if step == 3 else None)
    assert toy(tmp_path, 5).step == 5


def test_other_errors_of_a_step_are_not_taken_for_memory(tmp_path):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        toy(tmp_path, 5, lambda step: torch.zeros(2, 3) @ torch.zeros(2, 3))


def test_checkpoints_that_lie_are_one_error(tmp_path):
    """Other shapes are not spread over the model's, and what is no progress is not taken for one."""
    tally = Tally()
    for what, attempt, may_read in files.checkpoints(Asked(cases=20), tmp_path):
        trouble = files.judge(attempt, RuntimeError, may_read) if sys.platform == "linux" else None
        tally.add(f"{what}: {trouble}" if trouble else None)
    assert tally.tried > 30 and tally.troubles == []


# Files ----------------------------------------------------------------------------------------------------------


def test_weights_that_lie_are_one_error(tmp_path):
    folder = files.write_stage(tmp_path)
    content = (folder / weights.TENSORS).read_bytes()
    (folder / weights.MANIFEST).unlink()
    for hostile in files.hostile_headers(content):
        (folder / weights.TENSORS).write_bytes(hostile)
        with pytest.raises(WeightsError):
            files.load_stage(folder, "cpu")


@pytest.mark.parametrize("nonsense", files.NONSENSE, ids=lambda text: repr(text[:8]))
@pytest.mark.parametrize("name", [weights.CONFIG, weights.MANIFEST])
def test_nonsense_for_json_is_one_error(tmp_path, name, nonsense):
    folder = files.write_stage(tmp_path)
    (folder / name).write_bytes(nonsense)
    with pytest.raises(WeightsError):
        files.load_stage(folder, "cpu")


@pytest.mark.parametrize("change", [lambda t: t * math.nan, lambda t: t / 0, torch.Tensor.long, lambda t: t > 0])
def test_numbers_that_draw_nothing_are_refused_without_a_manifest_too(tmp_path, change):
    tensors = {"weight": torch.randn(4, 4), "bias": change(torch.randn(4))}
    content = files.save_file(tensors, tmp_path / weights.TENSORS)
    with pytest.raises(WeightsError, match="does not fit this Linear: bias holds NaN, infinity or numbers of another"):
        weights.load_into(nn.Linear(4, 4), tmp_path)
    assert content is None


def test_a_failed_rename_leaves_no_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "in use")))
    with pytest.raises(PermissionError):
        weights.save_pretrained(tmp_path, nn.Linear(2, 2), {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """A pool of four tiny pictures a shard, rendered; and the folder of its shards."""
    monkeypatch.setattr(data, "SHARD", 4)
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    data.pool(4, size=16, progress=False)
    return next((tmp_path / "pictures").iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("00000.npy", cut),
        ("00000.npy", lambda path: path.write_bytes(b"")),
        ("00000.npy", lambda path: np.save(path, np.zeros((9, 16, 16, 3), np.uint8))),
        ("00000.npy", lambda path: np.save(path, np.zeros((4, 16, 16, 3)))),
        ("00000.json", cut),
        ("00000.json", lambda path: path.write_bytes(b"[1]")),
        ("00000.json", lambda path: path.write_bytes(files.DEEP)),
        ("00000.json", Path.unlink),
    ],
)  # fmt: skip
def test_damaged_pictures_are_named_and_how_to_make_them_again(shards, name, harm):
    harm(shards / name)
    for read in (lambda: data.pool(4, size=16, progress=False), lambda: data.read_shard(shards, 0)):
        with pytest.raises(RuntimeError, match="the shard .*00000 is damaged .*delete .*to make it again"):
            read()


def test_damaged_pictures_of_ones_own_are_named_too(shards):
    cut(shards / "00000.npy")
    with pytest.raises(RuntimeError, match="is damaged"):
        pictures._stored(shards, [])


def test_a_full_disk_leaves_no_part_of_a_shard(shards, small_files, told):
    before = {path.name: path.read_bytes() for path in shards.iterdir()}
    small_files()
    err = told(lambda: data._render_shard((shards, 1, 4, 16, None, "training", None)))
    assert "File too large; free some disk space" in err
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before


def test_a_full_disk_leaves_the_old_picture(tmp_path, small_files, told):
    (tmp_path / "out.png").write_bytes(b"old")
    small_files()
    assert "free some disk space" in told(lambda: viz.save(viz.grid(torch.rand(1, 3, 64, 64)), tmp_path / "out.png"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_full_disk_leaves_the_embeddings_that_were_kept(tmp_path, told):
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    path, usual = tmp_path / "text.sqlite", resource.getrlimit(resource.RLIMIT_FSIZE)
    EmbeddingCache(path, Numbers())(["x"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20_000, usual[1]))
    try:
        assert "free some disk space" in told(lambda: EmbeddingCache(path, Numbers())(["y" * n for n in range(99)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert EmbeddingCache(path)(["x"]).tokens[0, 0, 0] == 1


@pytest.mark.parametrize("row", [b"\0" * 7, b"\0" * 6, "text", 5, None])
def test_damaged_embeddings_say_what_to_do(tmp_path, row):
    cache = EmbeddingCache(tmp_path / "text.sqlite", Numbers())
    cache(["x"])
    with cache._database() as db:
        db.execute("UPDATE embeddings SET tokens = ?", (row,))
    if row is None:  # as good as not there
        assert cache(["x"]).tokens[0, 0, 0] == 1
    else:
        with pytest.raises(WeightsError, match="is damaged .*delete that file"):
            cache(["x"])


# The machine ----------------------------------------------------------------------------------------------------


def test_a_cache_that_is_named_needs_no_home(monkeypatch, tmp_path):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    assert data.cache_folder() == tmp_path
    monkeypatch.setenv("IMAGEN_LITE_CACHE", "")
    with pytest.raises(RuntimeError, match="home directory"):
        data.cache_folder()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(28, "No space left on device"), "free some disk space"),
        (OSError(30, "Read-only file system", "a/b"), "name another folder"),
        (PermissionError(13, "Permission denied", "a/b"), "name another folder"),
        (MemoryError(), "ask for less at once"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "ask for less at once"),
        (RuntimeError("could not create a primitive"), "ask for less at once"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "ask for less at once"),
    ],
)
def test_what_the_machine_refuses_comes_with_advice(told, error, advice):
    def failing():
        raise error

    assert told(failing).strip().endswith(tuple(v for v in cli.HELP.values() if advice in v))


def rendering(monkeypatch, out):
    """The exit code of the whole command that renders one small picture; the usual handler of SIGTERM afterwards."""
    usual = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["imagen-lite", "render", "--count", "1", "--size", "8", "-o", str(out)])
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, usual)
    return stopped.value.code


def test_a_terminal_without_these_letters_is_no_reason_to_fail(monkeypatch, tmp_path):
    out = io.TextIOWrapper(io.BytesIO(), "cp437")
    monkeypatch.setattr(sys, "stdout", out)
    code = rendering(monkeypatch, tmp_path / "o.png")
    out.flush()
    assert not code and b"8?8" in out.buffer.getvalue() and (tmp_path / "o.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_sigterm_takes_away_what_was_half_written(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert rendering(monkeypatch, tmp_path / "o.png") == 128 + signal.SIGTERM and list(tmp_path.iterdir()) == []


# Prompts --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the caption")
def test_any_text_goes_through_checks_and_tokenizer():
    tokenizer = CaptionTokenizer(weights.DATA / "weights" / "t5-lite-base" / "tokenizer.json", 64)
    for text in [*prompts.many(5, 400), "\ud800" * 1000, "a " * 200_000]:
        ids, mask = tokenizer([text])
        assert ids.shape == mask.shape and 1 <= ids.shape[1] <= 64 and bool(mask.all())


@LINUX
def test_any_prompt_is_drawn_or_refused_in_a_sentence(tmp_path, monkeypatch):
    usual = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    try:
        troubles = [prompts.calling(text, tmp_path)[0] for text in prompts.many(6, 60)]
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert [trouble for trouble in troubles if trouble] == [] and list(tmp_path.iterdir()) == []


def test_any_text_is_parsed():
    for text in [*prompts.many(7, 3000), "²", "a cone ①", "9" * 5000, "٣ cones"]:
        parse(text[: prompts.LONGEST_PROMPT])


@LINUX
def test_any_configuration_is_a_stage_or_one_error(tmp_path):
    rng, folder = random.Random(1), files.write_stage(tmp_path)
    config = weights.load_config(folder)
    for what, content in [files.altered(config, rng) for _ in range(150)]:
        (folder / weights.CONFIG).write_bytes(content)
        trouble = files.judge(lambda: files.load_stage(folder, "cpu"), WeightsError, may_read=True)
        assert trouble is None, what


# Schedules and samplers, for any settings -----------------------------------------------------------------------

SCHEDULES = st.sampled_from([CosineSchedule(), CosineSchedule(-8.0, 8.0), CosineSchedule(shift=-2.0), LinearSchedule()])
SPACINGS = st.sampled_from(["time", "log_snr"])


@settings(max_examples=60, deadline=None)
@given(schedule=SCHEDULES, steps=st.integers(1, 300), spacing=SPACINGS, late=st.none() | st.floats(0, 0.99))
def test_any_grid_goes_from_its_start_to_the_clean_end_and_only_there(schedule, steps, spacing, late):
    noisiest, clean = schedule.at(1.0).log_snr, schedule.at(0.0).log_snr
    start = None if late is None else noisiest + late * (clean - noisiest)
    levels = time_grid(steps, schedule, spacing=spacing, lambda_start=start)
    assert len(levels) == steps + 1
    assert levels[0].log_snr == pytest.approx(noisiest if start is None else start, abs=1e-3)
    assert levels[-1].log_snr == pytest.approx(clean, abs=1e-3)
    assert all(a.log_snr < b.log_snr and a.t > b.t for a, b in zip(levels, levels[1:], strict=False))
    assert all(math.isfinite(v) and v > 0 for level in levels for v in (level.alpha, level.sigma))


@settings(max_examples=60, deadline=None)
@given(
    schedule=SCHEDULES, steps=st.integers(1, 40), spacing=SPACINGS, method=st.sampled_from(sorted(STEPS)),
    seed=st.integers(0, 2**32 - 2), spread=st.floats(0, 3),
)  # fmt: skip
def test_any_sampler_finds_the_picture_that_a_perfect_network_knows(schedule, steps, spacing, method, seed, spread):
    """Whatever the noise on the way: eps = (x_t - alpha x0) / sigma gives x0 back at every step, and at the last."""
    x0 = spread * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    states = [
        state
        for state in sample(
            lambda x_t, t: (x_t - t.alpha * x0) / t.sigma, keyed_noise(seed, x0.shape),
            time_grid(steps, schedule, spacing=spacing), threshold=no_threshold, step=STEPS[method],
        )
    ]  # fmt: skip
    assert len(states) == steps and all(state.x_t.isfinite().all() for state in states)
    assert (final(states) - x0).abs().max() <= 2e-3 * max(1.0, 1 / states[-1].t.alpha)


# The suite itself -----------------------------------------------------------------------------------------------


def test_the_suite_counts_what_is_lost_and_names_it():
    tally = Tally()
    for trouble in (None, "broke", "broke", "hangs"):
        tally.add(trouble)
    assert tally.outcome("told") == {"tried": 4, "survived": 1, "lost": 3, "note": "told; 2 × broke; 1 × hangs"}


@pytest.mark.parametrize(
    ("end", "trouble"),
    [
        (Ended(1, "", "bar\rimagen-lite: free disk space"), None),
        (Ended(None, "", ""), "hangs"),
        (Ended(1, "", "Traceback (most recent call last)\nKeyError: 1"), "traceback (KeyError: 1)"),
        (Ended(0, "", "imagen-lite: free"), "exit code 0, not 1"),
        (Ended(1, "", "imagen-lite: no"), "says nothing of 'free'"),
    ],
)
def test_the_suite_sees_a_bad_end(end, trouble):
    found = end.trouble(1, "free")
    assert found is None if trouble is None else found.startswith(trouble)


def test_the_suite_sees_what_should_not_have_been_read():
    assert files.judge(lambda: None, ValueError, may_read=False) == "was read" if sys.platform == "linux" else True
    content = struct.pack("<Q", 2) + b"{}"
    assert files.damaged(content, random.Random(0)) != content
    assert json.loads(files.altered({"a": [1, 2]}, random.Random(0))[1]) != {"a": [1, 2]}
