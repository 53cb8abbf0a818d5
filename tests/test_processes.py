"""Two processes on a CPU, as a launcher starts them: they learn what one learns, and see each sample once."""

import json

import pytest
import torch
from safetensors.torch import load_file

from experiments.costs import launch
from imagen_lite import processes

TOY = """
import json, sys, torch
from pathlib import Path
from torch import nn
from imagen_lite import processes
from imagen_lite.train import TrainConfig, fit, keyed_normal
device = processes.join(torch.device("cpu"))
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
samples, seen = processes.share(8), []
def loss_at(step):
    seen.append([step, samples.tolist()])
    x = keyed_normal(1, step, samples, (8,))
    return (model(x) - x.flip(1)).square().mean()
fit(model, loss_at, TrainConfig(batch=8, lr=1e-2, warmup=5, steps=steps), folder,
    milestones=(80,), on_milestone=lambda *_: {"drawn_by": processes.place()[0]})
if len(sys.argv) > 3:
    rank, count = processes.place()
    every = processes.gather(list(range(7))[rank::count])
    Path(sys.argv[3] + str(rank)).write_text(json.dumps({"seen": seen, "gathered": every}))
processes.leave()
"""

TRAIN = """
import dataclasses, sys, torch
from pathlib import Path
from imagen_lite import processes
from imagen_lite.recipes import base64
from imagen_lite.recipes.base64 import Recipe
from imagen_lite.train import TrainConfig
from imagen_lite.unet import UNetConfig
unet = UNetConfig(channels=(32, 32), blocks=(1, 1), attention=(None, "self"), strides=(1, 2), patch=2, head_channels=32)
recipe = Recipe(unet, TrainConfig(batch=8, lr=3e-3, warmup=5, steps=int(sys.argv[3])))
base64.VALIDATION = 16
out = Path(sys.argv[2])
base64.run(device="cpu", recipe=recipe, dtype=torch.float32, source=sys.argv[1], out=out / "base64", run_folder=out)
processes.leave()
"""


def log(folder, key="loss"):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row[key] for row in rows if key in row}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path / "cache"))


def test_alone_nothing_changes():
    assert processes.place() == (0, 1) and processes.share(4).tolist() == [0, 1, 2, 3]
    assert processes.gather([1, 2]) == [1, 2] and processes.agree(1.5) == 1.5
    x = torch.tensor([1.0, 2.0])
    processes.average([x])
    assert x.tolist() == [1.0, 2.0] and processes.join(torch.device("cpu")) == torch.device("cpu")
    with processes.in_turn():
        pass
    processes.leave()


def test_a_batch_is_shared_evenly_or_not_at_all(monkeypatch):
    monkeypatch.setattr(processes, "place", lambda: (1, 3))
    assert processes.share(6).tolist() == [2, 3]
    with pytest.raises(ValueError, match="a batch of 8 cannot be shared by 3 processes"):
        processes.share(8)


def test_two_processes_learn_what_one_learns_and_resume_as_one_and_back(tmp_path):
    launch(TOY, tmp_path, tmp_path / "one", 120, count=1)
    launch(TOY, tmp_path, tmp_path / "two", 40, tmp_path / "told", count=2)
    launch(TOY, tmp_path, tmp_path / "two", 80, count=1)
    launch(TOY, tmp_path, tmp_path / "two", 120, count=2)
    launch(TOY, tmp_path, tmp_path / "whole", 120, count=2)
    one = log(tmp_path / "whole")
    expected = log(tmp_path / "one")
    assert one.keys() == expected.keys() == {10, 50, 100, 120}
    assert all(one[step] == pytest.approx(expected[step], abs=1e-5) for step in expected)
    states = [load_file(tmp_path / name / "state.safetensors") for name in ("one", "two")]
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-5) for key in states[0])
    assert log(tmp_path / "two", "drawn_by") == {10: 0}  # once, by the first
    told = [json.loads((tmp_path / f"told{rank}").read_text()) for rank in (0, 1)]
    for (step, mine), (other_step, other) in zip(*(t["seen"] for t in told), strict=True):
        assert step == other_step and sorted(mine + other) == list(range(8))  # every sample once
    assert told[0]["gathered"] == told[1]["gathered"] == list(range(7))


def test_a_base_is_trained_by_two_processes_as_by_one(tmp_path):
    from test_pictures import write_metadata, write_pictures

    from imagen_lite import weights

    write_metadata(tmp_path / "mine", write_pictures(tmp_path / "mine", 20))
    for name, count in (("one", 1), ("two", 2)):
        launch(TRAIN, tmp_path, tmp_path / "mine", tmp_path / name, 12, count=count)
    one, two = (weights.load_manifest(tmp_path / name / "base64") for name in ("one", "two"))
    assert two["pictures_seen"] == one["pictures_seen"] == 96
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], abs=1e-4)
    assert log(tmp_path / "two")[12] == pytest.approx(log(tmp_path / "one")[12], abs=1e-4)
