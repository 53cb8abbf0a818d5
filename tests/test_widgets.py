"""The explorers without a browser: sweeps, the worker behind live sampling, what the controls do to the frames."""

import threading

import numpy as np
import pytest
from PIL import Image

from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.widgets import guidance, panels
from imagen_lite.widgets.attention import AttentionMaps, tokens_to_words, word_maps, word_spans
from imagen_lite.widgets.live import Worker
from imagen_lite.widgets.steps import DenoisingScrubber, SaturationExplorer, thresholded, to_pixels
from imagen_lite.widgets.sweep import EDGES, THRESHOLDS, WEIGHTS, Sweep, load_sweep, sample_sweep, save_sweep
from imagen_lite.widgets.trace import REACH, Trace, load_trace, sample_trace, save_trace

LONG = 30  # seconds after which a test gives up; nothing is timed


@pytest.fixture(scope="module")
def cascade():
    whole = load_cascade(device="cpu")
    return Cascade(whole.text_encoder, {64: whole.stages[64]}, whole.dtype)  # what the explorers draw


@pytest.fixture(scope="module")
def sweep(cascade) -> Sweep:
    return sample_sweep(cascade, "a red cone", 3)


def test_a_sweep_keeps_the_noise_and_turns_the_knobs(sweep, cascade):
    assert sweep.pictures.shape == (3, len(WEIGHTS), 64, 64, 3)
    for t, name in enumerate(THRESHOLDS):  # each of them is the picture that sample() draws
        w = 2 + t
        alone = cascade.sample("a red cone", WEIGHTS[w], threshold=name, seed=3).images
        pixels = np.asarray((alone[0].permute(1, 2, 0) + 1) * 127.5)
        assert np.abs(pixels - sweep.pictures[t, w]).mean() < 4
    for row in sweep.frames:
        for frame in row:
            assert len(frame.outside) == len(frame.scale) == cascade.stages[64].sampling.steps
            assert sum(frame.histogram) == pytest.approx(1, abs=0.01) and len(frame.histogram) == len(EDGES) - 1
    assert all(s == 1 for t in (0, 1) for frame in sweep.frames[t] for s in frame.scale)  # only dynamic divides
    assert max(sweep.frames[2][-1].scale) > 1


def test_a_sweep_survives_its_files(sweep, tmp_path):
    save_sweep(sweep, "cone", tmp_path)
    again = load_sweep("cone", tmp_path)
    assert again.frames == sweep.frames and (again.prompt, again.seed) == ("a red cone", 3)
    assert np.array_equal(again.pictures, sweep.pictures)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 270_000
    with pytest.raises(FileNotFoundError):
        load_sweep("house", tmp_path)


def test_zebra_marks_what_is_clipped_and_nothing_else():
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[:16, :16, 1] = 255
    pixels[32:, 32:, 0] = 0
    stripes = np.array(panels.zebra(pixels, side=128))
    marked = stripes[..., 3] > 0
    assert (
        marked[:32, :32].mean() == pytest.approx(0.5, abs=0.05) and (stripes[:32, :32][marked[:32, :32], 0] == 0).all()
    )
    assert (
        marked[64:, 64:].mean() == pytest.approx(0.5, abs=0.05)
        and (stripes[64:, 64:][marked[64:, 64:], 0] == 255).all()
    )
    assert not marked[:32, 64:].any() and not marked[40:64].any()


def test_the_last_request_wins_and_at_most_one_runs():
    worker, begun, release, done = Worker(), threading.Event(), threading.Event(), []
    running = []

    def slow(job):
        running.append("slow")
        begun.set()
        release.wait(LONG)
        job.check()
        done.append("slow")

    def quick(name):
        return lambda job: done.append(name)

    worker.request(slow, pytest.fail)
    assert begun.wait(LONG)
    for k in range(5):
        worker.request(quick(k), pytest.fail)
    release.set()
    assert worker.wait(LONG)
    assert done == [4]
    assert not any(t.name == "imagen-lite sampling" for t in threading.enumerate())


def test_a_cancelled_job_stops_at_its_next_check_and_a_failed_one_is_told():
    worker, begun, errors, after = Worker(), threading.Event(), [], []

    def endless(job):
        begun.set()
        while True:
            job.check()

    worker.request(endless, errors.append)
    assert begun.wait(LONG)
    worker.cancel()
    assert worker.wait(LONG) and not errors
    worker.request(lambda job: 1 / 0, errors.append)
    assert worker.wait(LONG) and [type(e) for e in errors] == [ZeroDivisionError]
    worker.request(lambda job: after.append(1), errors.append)
    assert worker.wait(LONG) and after == [1]


@pytest.fixture
def explorer(sweep, cascade, tmp_path, monkeypatch):
    save_sweep(sweep, "cone", tmp_path)
    monkeypatch.setattr(guidance, "prepared", lambda: {"one thing: a red cone": "cone"})
    monkeypatch.setattr(guidance, "load_sweep", lambda name: load_sweep(name, tmp_path))
    return guidance.GuidanceExplorer(cascade=lambda: cascade)


def screens(explorer) -> list:
    return [screen for row in explorer._screens for screen in row]


def test_the_explorer_starts_with_every_frame_of_a_prepared_sweep(explorer, sweep):
    shown = [screen.value for screen in screens(explorer)]
    assert len(set(shown)) > 15
    assert all("at an end of the range" in frame and frame.count("<img") == 3 for frame in shown)
    assert sum(map(len, shown)) < 200_000
    assert repr(explorer) == "GuidanceExplorer()"  # what strict nbval compares
    assert explorer.prompt.value == "a red cone" and explorer.seed.value == 3


def test_a_prompt_of_ones_own_is_drawn_where_one_looks_and_kept(explorer):
    explorer.prompt.value = "a blue zebra"
    assert "“zebra”" in explorer.message.value
    assert explorer._worker.wait(LONG)
    drawn = [(t, w) for t in range(3) for w in range(len(WEIGHTS)) if "<img" in explorer._screens[t][w].value]
    assert drawn == [(2, 3)]  # dynamic, w = 5: what the controls stand at
    explorer.weight.index = 0
    assert explorer._worker.wait(LONG)
    before = explorer._screens[2][0].value
    assert "<img" in before
    explorer.prepared.value = "cone"
    explorer.prompt.value = "a blue zebra"  # kept: nothing is sampled again
    assert explorer._worker._thread is None and explorer._screens[2][0].value == before
    assert explorer.progress.layout.visibility == "hidden" and explorer.cancel.disabled


@pytest.mark.parametrize("text", ["", "   ", "x " * 1000, "🦆🦆", "'; DROP TABLE pictures; --"])
def test_what_is_no_prompt_gets_a_sentence_and_the_explorer_lives(explorer, text):
    explorer.prompt.value = text
    explorer._begin()
    assert explorer._worker.wait(LONG)
    assert "Traceback" not in explorer.message.value
    assert text.strip() == "" or explorer.message.value
    explorer.prompt.value = "a red cone"
    assert explorer._worker.wait(LONG) and explorer.message.value == ""


def test_an_error_in_sampling_is_told_under_the_box(explorer, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("the <picture> fell off")

    monkeypatch.setattr(guidance, "sample_sweep", broken)
    explorer.prompt.value = "a green cube"
    assert explorer._worker.wait(LONG)
    assert explorer.message.value == "RuntimeError: the &lt;picture&gt; fell off"
    assert explorer.progress.layout.visibility == "hidden"


def test_the_story_can_be_kept_as_a_sheet_and_an_animation(explorer, tmp_path):
    sheet = Image.open(explorer.save_png(tmp_path / "sheet.png"))
    assert sheet.width > 7 * 104 and sheet.height > 3 * 104
    animation = Image.open(explorer.save_gif(tmp_path / "sweep.gif"))
    assert animation.n_frames == len(WEIGHTS) and animation.size == (256, 256)


@pytest.fixture(scope="module")
def trace(cascade) -> Trace:
    return sample_trace(cascade, "a red cone", 3, 15.0)


def test_a_trace_is_what_the_sampler_saw(trace, cascade):
    states = []
    cascade.sample("a red cone", 15.0, threshold="dynamic", seed=3, callback=lambda _, state: states.append(state))
    for i, state in enumerate(states):
        raw = state.raw_x0[0].permute(1, 2, 0).clamp(-REACH, REACH).numpy()
        assert np.abs(trace.raw_x0[2, i] - raw).mean() < 0.02
        assert trace.scale[2, i] == pytest.approx(float(state.s[0]), rel=0.05)
        assert trace.log_snr[i] == state.t.log_snr
    shown = thresholded(trace.raw_x0[2, -1], trace.scale[2, -1], "dynamic")
    assert np.abs(shown - states[-1].x0[0].permute(1, 2, 0).numpy()).mean() < 0.02
    assert np.array_equal(trace.x_t[0, 0], trace.x_t[2, 0])  # the same noise for all


def test_a_trace_survives_its_files(trace, tmp_path):
    save_trace(trace, "cone", tmp_path)
    again = load_trace("cone", tmp_path)
    assert np.abs(again.raw_x0 - trace.raw_x0).max() < REACH / 200
    assert np.allclose(again.scale, trace.scale, atol=1e-3) and again.times == trace.times


def test_the_scrubber_and_the_saturation_explorer_tell_their_stories_without_controls(trace, tmp_path):
    scrubber, explorer = DenoisingScrubber(trace), SaturationExplorer(trace)
    steps = len(trace.times)
    assert Image.open(scrubber.save_png(tmp_path / "steps.png")).size == (8 * 120 - 8, 2 * 120 - 8)
    assert Image.open(scrubber.save_gif(tmp_path / "steps.gif")).n_frames == steps
    assert Image.open(explorer.save_gif(tmp_path / "x0.gif")).n_frames == steps
    before = [image.value for image in explorer.paths]
    explorer.column.value = (explorer.column.value + 20) % 64
    assert all(a != image.value for a, image in zip(before, explorer.paths, strict=True))
    panel = np.array(explorer.panel(0, steps - 1))[:256, :256]
    out = (np.abs(trace.raw_x0[0, -1]) > 1).any(-1).repeat(4, 0).repeat(4, 1)
    plain = np.array(panels.enlarge(to_pixels(trace.raw_x0[0, -1]), 256))
    shown = [frame.value for row in explorer.children[2].children[0].children for frame in row.children]
    assert len(set(shown)) >= 3 * 12 - 2  # none and static begin alike
    assert sum(map(len, shown)) < 300_000
    assert (panel[~out] == plain[~out]).all() and (panel[out] != plain[out]).any()  # stripes there and only there


def test_word_maps_are_shares_of_attention_and_do_not_change_the_picture(cascade, tmp_path):
    prompt = "a red cone next to a red cube"
    maps = word_maps(cascade, prompt, seed=3, weight=3.0)
    assert maps.words == ("a", "red", "cone", "next", "to", "a", "red", "cube")
    assert maps.maps.shape == (cascade.stages[64].sampling.steps, 8, 16, 16)
    assert maps.maps.min() >= 0 and 0 < maps.maps.sum(1).max() <= 1.0001
    drawn = cascade.sample(prompt, 3.0, seed=3).images[0].permute(1, 2, 0).numpy()
    assert np.abs(maps.pictures[-1] / 127.5 - 1 - drawn).mean() < 0.03
    explorer = AttentionMaps(maps)
    assert explorer.word.options == ("a", "red", "cone", "next", "to", "a²", "red²", "cube")
    assert Image.open(explorer.save_png(tmp_path / "words.png")).width == 8 * 134 - 6
    assert Image.open(explorer.save_gif(tmp_path / "words.gif")).n_frames == len(maps.pictures)


def test_tokens_belong_to_the_word_they_are_a_piece_of():
    spans = word_spans("the snowman's hat, red")
    assert spans == [(0, 3), (4, 13), (14, 17), (19, 22)]
    offsets = [(0, 3), (3, 8), (8, 13), (13, 17), (17, 18), (18, 22)]  # pieces may carry the space before them
    belongs = tokens_to_words(offsets, spans, 7)  # and the end of text, which is none's
    assert belongs.argmax(1)[[0, 1, 2, 3, 5]].tolist() == [0, 1, 1, 2, 3]
    assert belongs.sum(1).tolist() == [1, 1, 1, 1, 0, 1, 0]
