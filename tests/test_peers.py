"""Peers: sizes that are the same, times compared fairly, tables; what needs a library that is not there skips."""

import dataclasses
import json

import pytest
import torch

from experiments.peers import curves, environment, machine, matching, networks, quality, report, speed, worker
from experiments.peers.networks import PEERS, Shape, Size
from imagen_lite.data import Pool
from imagen_lite.recipes import base64
from imagen_lite.recipes.stages import Captioned
from imagen_lite.text import TextEmbedding
from imagen_lite.unet import EfficientUNet, UNetConfig

SMALL = UNetConfig(channels=(16, 32), blocks=(1, 1), attention=(None, "self"), strides=(1, 2), head_channels=16)
LITTLE = (32, 32, 32)


def needs(library: str) -> None:
    """Skips, with the reason, where a library is not installed."""
    if reason := environment.missing(library):
        pytest.skip(reason)


# Sizes ---------------------------------------------------------------------------------------------------------------


def counted(model: torch.nn.Module, side: int) -> float:
    """GFLOP of a call for one picture, by hand: twice the products of convolutions, linear layers and attention."""
    total = []

    def conv(module, args, out):
        total.append(2 * out.numel() * module.weight[0].numel())

    def attend(query, key, value, **_):
        total.append(4 * query.numel() * key.shape[2])
        return torch.zeros_like(query)

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(conv)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
        model(*networks.inputs(1, side))
    return sum(total) / 1e9


@pytest.mark.parametrize("config, side", [(base64.UNET, 64), (SMALL, 32)])
def test_flop_are_counted_as_by_hand(config, side):
    size, model = networks.measure(config, side), EfficientUNet(config)
    assert size.gflop == pytest.approx(counted(model, side), rel=1e-6)
    assert size.parameters == sum(p.numel() for p in model.parameters()) / 1e6


@pytest.mark.parametrize("library", PEERS)
@pytest.mark.parametrize("patch", matching.LEVELS)
def test_a_peer_is_called_as_ours_is(library, patch):
    needs(library)
    channels = LITTLE + (32,) * (matching.LEVELS[patch] - 3)
    model = networks.build(Shape(library, channels, 1, patch)).eval()
    x_t, t, text = networks.inputs(2, 32)
    with torch.no_grad():
        assert model(x_t, t, text).shape == x_t.shape
        for parameter in model.parameters():  # last layers may begin at zero
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        out = model(x_t, t, text)
        other = TextEmbedding(text.tokens.flip(2), text.mask)
        assert not torch.allclose(out, model(x_t, t, other)) and not torch.allclose(out, model(x_t, 1 - t, text))
        torch.testing.assert_close(out, model(x_t, t, text.padded(40), None, None), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("library", PEERS)
@pytest.mark.parametrize("levels", matching.LEVELS.values())
def test_widths_are_those_that_can_be_built(library, levels):
    for channels in matching.widths(library, levels, 32):
        assert list(channels) == sorted(channels) and all(c % 16 == 0 for c in channels)
        last = channels[-2:] if library == "diffusers" else ()
        assert all(c % 32 == 0 for c in last)
        assert library == "diffusers" or all(c % channels[0] == 0 for c in channels)


def pretended(shape: Shape) -> Size:
    """Parameters and GFLOP of a network that there is not: deep sizes have the parameters, fine ones the FLOP."""
    c = [0.0, *shape.channels]
    weights = [9 * shape.blocks * (a + b) * b for a, b in zip(c, c[1:], strict=False)]
    flop = sum(w * 4.0**-k for k, w in enumerate(weights))
    return Size(sum(weights) / 1e6, 4096 * flop / 1e9)


def test_the_search_finds_a_shape_of_both():
    hidden = pretended(Shape("diffusers", (32, 96, 160, 224), 2))
    (row,) = matching.matched("diffusers", 1, hidden, pretended)
    assert row["same"] == "both" and row["library"] == "diffusers"
    size = Size(row["parameters"], row["gflop"])
    assert matching.off(size, hidden)["both"] < 0.1 and size == pretended(Shape.from_dict(row["shape"]))


def test_what_cannot_be_matched_at_once_is_matched_one_by_one():
    hidden = pretended(Shape("diffusers", (32, 96, 160, 224), 2))
    rows = matching.matched("diffusers", 1, Size(hidden.parameters, hidden.gflop / 40), pretended)
    assert [row["same"] for row in rows] in (["parameters", "gflop"], ["parameters"])
    assert rows[0]["parameters"] == pytest.approx(hidden.parameters, rel=0.1)
    assert rows[0]["gflop"] > 2 * hidden.gflop / 40


# Times ---------------------------------------------------------------------------------------------------------------


def test_times_are_compared_round_by_round_and_by_flop():
    case = {"work": "training", "batch": 16}
    row = speed.compared([2.0, 40.0, 3.0], [1.0, 10.0, 1.0], 2.0, 1.0, case)
    assert row["times_ours"] == 1.5  # the medians of 1, 2 and 1.5, not 3 over 1, whatever the slow round was
    assert row["seconds"] == 3.0 and row["least"] == 2.0 and row["most"] == 40.0
    assert row["seconds_a_gflop"] == pytest.approx(3.0 / (16 * 3 * 2.0), abs=1e-7)
    forward = speed.compared([1.0], [1.0], 2.0, 2.0, {"work": "forward", "batch": 8})
    assert forward["seconds_a_gflop"] == 1 / 16 and forward["times_ours"] == 1


def test_networks_take_turns_and_the_first_round_finds_the_format(monkeypatch):
    asked = []

    def ask(job, threads, *, row, cases, **_):
        asked.append((threads, row["library"], [len(case["formats"]) for case in cases]))
        slow = 3.0 if row["library"] == "diffusers" else 1.0
        return {"answers": [{"format": "channels_last", "seconds": slow * (1 + len(asked) % 2)} for _ in cases]}

    rows = [
        {"library": name, "same": "both", "shape": {"patch": 1, "channels": [16], "blocks": 1}, "parameters": 7.0,
         "gflop": gflop} for name, gflop in (("ours", 2.0), ("diffusers", 3.0))
    ]  # fmt: skip
    monkeypatch.setattr(speed, "ask", ask)
    monkeypatch.setattr(speed.matching, "matches", lambda *_: rows)
    result = speed.measure(rounds=2)
    turns = [(threads, library) for threads, library, _ in asked]
    assert turns == 3 * [(1, "ours"), (1, "diffusers"), (2, "ours"), (2, "diffusers")]
    assert all(set(formats) == {2 if k < 4 else 1} for k, (*_, formats) in enumerate(asked))
    assert len(result["rows"]) == 2 * 2 * len(speed.CASES)
    ours = [row["times_ours"] for row in result["rows"] if row["network"] == 0]
    assert set(ours) == {1.0}
    text = speed.as_text(json.loads(json.dumps(result)))
    assert "| ours | 7.00 | 2.00 | 16 | 1 |" in text and "| diffusers, whole pixels |" in text
    assert len(text.split("\n\n")[1].splitlines()) == 2 + 2 * 2 * 2


@pytest.mark.parametrize("work", ["forward", "training"])
def test_a_worker_times_a_case(work):
    row = {"library": "ours", "shape": dataclasses.asdict(SMALL)}
    case = {"work": work, "batch": 2, "dtype": "float32", "repeats": 1, "formats": list(worker.FORMATS)}
    (answer,) = worker.speed(row, [case], side=16, scale=1.0)["answers"]
    assert answer["seconds"] > 0 and answer["format"] in worker.FORMATS


def test_the_worker_answers_by_its_command():
    row = {"library": "ours", "shape": dataclasses.asdict(SMALL)}
    case = {"work": "forward", "batch": 1, "dtype": "float32", "repeats": 1, "formats": ["channels_last"]}
    assert worker.ask("speed", 1, row=row, cases=[case], side=16, scale=1.0)["answers"][0]["seconds"] > 0
    with pytest.raises(RuntimeError, match="KeyError: 'bfloat8'"):
        worker.ask("speed", 1, row=row, cases=[case | {"dtype": "bfloat8"}], side=16, scale=1.0)


# Against the machine -------------------------------------------------------------------------------------------------


def test_the_parts_are_the_layers_of_the_network():
    model = EfficientUNet(SMALL).eval().requires_grad_(False)
    with torch.no_grad(), machine.Recorder() as recorder:
        model(*networks.inputs(1, 32))
    kinds = [kind for kind, *_ in recorder.calls]
    modules = list(model.modules())
    assert kinds.count("convolution") == sum(isinstance(m, torch.nn.Conv2d) for m in modules)
    assert kinds.count("linear") == sum(isinstance(m, torch.nn.Linear) for m in modules)
    assert kinds.count("norm") == sum(isinstance(m, torch.nn.GroupNorm | torch.nn.LayerNorm) for m in modules)
    assert kinds.count("attention") == 3  # at the coarse size down and up, and where text is pooled
    assert machine.kind("silu") == machine.kind("_to_copy") == machine.kind("cumm") == "rest"


def test_parts_are_timed_by_kind():
    sums = machine.parts(lambda: torch.nn.functional.silu(torch.ones(8, 8) @ torch.ones(8, 8)), 1, torch.device("cpu"))
    assert sums["linear"] > 0 and sums["rest"] > 0 and sums["convolution"] == sums["attention"] == 0


def test_the_machines_table():
    parts = {**dict.fromkeys(machine.LAYERS, 0.001), "rest": 0.002}
    row = {"threads": 1, "dtype": "float32", "batch": 2, "gflop": 5.0, "whole": 0.008, "guided_step": 0.01,
           "parts": parts, "layers": 0.004, "peak": 700.0, "forward_share": 0.5, "step_share": 0.4}  # fmt: skip
    text = machine.as_text({"rounds": 3, "rows": [row]})
    assert "| 4.0 | 25% | 8.0 | 10.0 | 50% | 40% | 625; 700 |" in text


# Quality for time ----------------------------------------------------------------------------------------------------


def test_our_loss_is_that_of_the_recipe():
    recipe = dataclasses.replace(quality.OneSize(SMALL, quality.TRAIN), text_length=24)

    class Batches(Captioned):
        def __init__(self):
            self.recipe, self.samples = recipe, torch.arange(recipe.train.batch)

        def batch(self, seed, step):
            return networks.inputs(recipe.train.batch, 32)[0].clamp(-1, 1), self.samples

        def text(self, row):
            return networks.inputs(recipe.train.batch, 32)[2]

    torch.manual_seed(0)
    model, batches = EfficientUNet(SMALL), Batches()
    expected = base64.Base64Loss(model, batches, 3, quality.default_dtype(quality.CPU))(5)
    ours, plain = (quality.NoiseLoss(model, batches, 3, way)(5) for way in ("snr+1", "plain"))
    torch.testing.assert_close(ours, expected)
    assert plain < expected


def test_when_a_curve_reaches_a_loss():
    curve = [{"trained": 10.0, "held": 0.4}, {"trained": 40.0, "held": 0.1}]
    assert curves.seconds_to(curve, 0.5, "held") == 10 and curves.seconds_to(curve, 0.05, "held") is None
    assert [curves.seconds_to(curve, loss, "held") for loss in (0.2, 0.1)] == pytest.approx([20, 40])


def test_a_curve_is_what_a_log_says_of_milestones(tmp_path):
    rows = [{"seconds": 1.0, "pictures": 64, "loss": 0.3},
            {"seconds": 2.0, "pictures": 500, "milestone": 500, "held": 0.2, "held_v": 0.4}]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert curves.curve_of(tmp_path / "log.jsonl") == [{"trained": 2.0, "pictures": 500, "held": 0.2, "held_v": 0.4}]


def test_the_best_rate_of_a_peer_counts(monkeypatch):
    networks_ = [
        {"library": name, "same": same, "shape": {"patch": patch}, "parameters": 1.7, "gflop": 0.1}
        for name, same, patch in (("ours", "", 2), ("diffusers", "parameters", 1), ("diffusers", "gflop", 1))
    ]
    last = {2e-3: 0.1, 4e-3: 0.11, 8e-3: 0.5, 3e-3: 0.2, 1e-2: 0.25, 3e-2: 0.3}

    drawn = []

    def found(jobs):
        runs = [job.args[0] for job in jobs]
        if jobs[0].func is quality.judged:
            drawn.extend((run.network["library"], run.rate) for run in runs)
            return [{"best": {"right": r.rate, "interval": (0.0, 0.4), "kernel": 1.0, "frechet": None}} for r in runs]
        point = {"minutes": 1.0, "seconds": 999.0, "trained": 60.0, "pictures": 1000}
        early = [{"trained": 15.0, "pictures": 500, "held": 0.4, "held_v": 0.8}]
        ends = [point | {"held": last[r.rate], "held_v": round(10 * last[r.rate] ** 2, 5)} for r in runs]
        first = point | {"trained": 15.0, "held": 0.4, "held_v": 0.8}
        return [
            {"rate": r.rate, "points": [dict(first), end], "curve": early} for r, end in zip(runs, ends, strict=True)
        ]

    monkeypatch.setattr(quality, "SHARES", (0.25, 1.0))
    monkeypatch.setattr(quality.matching, "matches", lambda *_: networks_)
    monkeypatch.setattr(quality.lab, "a_core_each", found)
    monkeypatch.setattr(quality.lab, "one_thing", lambda *_: Pool([], [], [], []))
    monkeypatch.setattr(quality, "embedded", lambda *_: None)
    result = quality.measure(minutes=1.0, n=3)
    ours, peer = result["rows"]
    assert peer["rate"] == 3e-3 and [r["held"] for r in peer["rates"]] == [0.2, 0.25, 0.3]
    assert [r["right"] for r in ours["rates"] + peer["rates"]] == [2e-3, 4e-3, 8e-3, 3e-3, 1e-2, 3e-2]
    assert drawn == [*(("ours", r) for r in (2e-3, 4e-3, 8e-3)), *(("diffusers", r) for r in (3e-3, 1e-2, 3e-2)),
                     ("ours", 2e-3), ("diffusers", 3e-3)]  # fmt: skip
    assert [point["best"]["right"] for point in peer["runs"][0]["points"]] == [3e-3, 3e-3]
    assert result["goals"] == {"held": 0.2, "held_v": 0.4}
    assert [*ours["seconds_to"]["held"], *ours["seconds_to"]["held_v"]] == pytest.approx([30, 15 * 4 ** (1 / 3)])
    assert peer["seconds_to"] == {"held": [pytest.approx(60)], "held_v": [pytest.approx(60)]}
    lines = curves.as_text(json.loads(json.dumps(result))).splitlines()
    assert lines[0].endswith("| minutes to 0.2000 on eps | minutes to 0.4000 on v |")
    assert lines[2].startswith("| ours, rate 0.002 | 1.70 | 1 |") and lines[3].endswith("| 0.50 | 0.40 |")
    assert lines[5].endswith("| 1.00 | 1.00 |")
    assert lines[-1].endswith("diffusers 0.003: 0.2000 and 0.00, 0.01: 0.2500 and 0.01, 0.03: 0.3000 and 0.03.")


def test_parts_are_kept_beside_each_other_and_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.show().startswith("nothing has been measured yet")
    row = {"name": "encode a prompt", "seconds": 0.02}
    for rounds in (1, 3):
        report.keep("user", {"rounds": rounds, "n": 1, "threads": 2, "dtype": "bfloat16", "rows": [row]})
        report.keep("machine", {"rounds": 2, "n": 64, "rows": []})
    kept = json.loads((tmp_path / "peers.json").read_text())
    assert set(kept) == {"user", "machine", "hardware", "weights"} and kept["user"]["rounds"] == 3
    assert {"commit", "versions", "processor"} <= set(kept["machine"]) and "torch" in kept["machine"]["versions"]
    text = report.show()
    assert text.count("### ") == 2 and "| encode a prompt | 0.020 s |" in text and kept["user"]["commit"] in text
