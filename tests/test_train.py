"""The loop: keyed randomness, averages, and runs that are stopped, killed, or go wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from imagen_lite.train import Ema, TrainConfig, fit, hashed_normal, keyed_normal, keyed_uniform

TOY = """
import sys, torch
from pathlib import Path
from torch import nn
from imagen_lite.train import TrainConfig, fit, keyed_normal
torch.manual_seed(0)
model = nn.Linear(8, 8)
def loss_at(step):
    x = keyed_normal(1, step, torch.arange(4), (8,))
    return (model(x) - x.flip(1)).square().mean()
config = TrainConfig(batch=4, lr=1e-2, warmup=5, steps=int(sys.argv[2]), checkpoint_minutes=float(sys.argv[3]))
fit(model, loss_at, config, Path(sys.argv[1]))
"""


def run_toy(folder, steps, checkpoint_minutes=60.0):
    return subprocess.Popen([sys.executable, "-c", TOY, str(folder), str(steps), str(checkpoint_minutes)])


def losses(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


NORMAL = pytest.mark.parametrize("normal", [keyed_normal, hashed_normal])  # a CPU's, and other devices'


@NORMAL
def test_keyed_numbers_depend_on_the_key_alone(normal):
    alone = normal(0, 7, torch.tensor([5]), (3, 4))
    batch = normal(0, 7, torch.arange(8), (3, 4))
    assert torch.equal(alone[0], batch[5])
    for other in (normal(1, 7, torch.tensor([5]), (3, 4)), normal(0, 8, torch.tensor([5]), (3, 4)),
                  normal(0, 7, torch.tensor([5]), (3, 4), stream=1)):  # fmt: skip
        assert (alone - other).abs().min() > 0


@NORMAL
def test_keyed_normal_is_normal_and_uncorrelated(normal):
    x = normal(3, 11, torch.arange(256), (1024,)).double()
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01
    assert abs((x**4).mean() - 3) < 0.06  # kurtosis of a normal
    neighbours = [(x[1:] * x[:-1]), (x[:, 1:] * x[:, :-1]), x * normal(3, 12, torch.arange(256), (1024,))]
    assert all(abs(product.mean()) < 0.01 for product in neighbours)
    spectrum = torch.fft.rfft(x, dim=1).abs().square().mean(0)[1:-1] / 1024
    assert spectrum.min() > 0.6 and spectrum.max() < 1.5


def test_keyed_uniform_fills_the_interval():
    u = keyed_uniform(0, 0, torch.arange(4096), 4)
    assert u.min() > 0 and u.max() < 1
    counts = torch.histc(u, 16, 0, 1) / u.numel()
    assert (counts - 1 / 16).abs().max() < 0.005


def test_ema_of_constant_weights_is_those_weights_and_of_a_jump_lags():
    model = nn.Linear(1, 1)
    ema = Ema(model, 0.9)
    nn.init.constant_(model.weight, 3.0)
    for step in range(1000, 1010):
        ema.shadow["weight"].fill_(1.0) if step == 1000 else None
        ema.update(model, step)
    assert ema.shadow["weight"].item() == pytest.approx(3 - 2 * 0.9**10, rel=1e-5)


def test_a_stopped_run_goes_on_to_the_same_losses(tmp_path):
    assert run_toy(tmp_path / "whole", 200).wait() == 0
    assert run_toy(tmp_path / "parts", 100).wait() == 0
    assert run_toy(tmp_path / "parts", 200).wait() == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert set(losses(tmp_path / "whole")) == {50, 100, 150, 200}


def test_a_killed_run_goes_on_to_the_same_losses(tmp_path):
    assert run_toy(tmp_path / "whole", 600).wait() == 0
    victim = run_toy(tmp_path / "killed", 600, checkpoint_minutes=0.0)
    state = tmp_path / "killed" / "state.safetensors"
    while not state.exists():
        time.sleep(0.02)
    time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert run_toy(tmp_path / "killed", 600).wait() == 0
    whole, killed = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert whole[600] == killed[600]
    assert sum(whole[k] == v for k, v in killed.items() if k in whole) >= len(whole) - 2


def test_a_broken_checkpoint_says_so(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(os.urandom(100))
    model = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="--fresh"):
        fit(model, lambda step: model.weight.sum(), TrainConfig(steps=1), tmp_path)


def test_nan_stops_with_advice_and_keeps_the_last_good_checkpoint(tmp_path):
    model = nn.Linear(2, 2)
    fit(model, lambda step: (model.weight + model.bias).square().sum(), TrainConfig(steps=10), tmp_path)
    good = (tmp_path / "state.safetensors").read_bytes()
    config = TrainConfig(steps=100, checkpoint_minutes=0.0)
    with pytest.raises(RuntimeError, match="lower learning rate"):
        fit(model, lambda step: model.weight.sum() * float("nan"), config, tmp_path)
    assert (tmp_path / "state.safetensors").read_bytes() == good


def test_out_of_memory_suggests_half_the_batch(tmp_path):
    def loss_at(step):
        raise torch.OutOfMemoryError("boom")

    with pytest.raises(RuntimeError, match="batch=32"):
        fit(nn.Linear(1, 1), loss_at, TrainConfig(batch=64), tmp_path)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    model = nn.Linear(2, 2)
    fit(model, lambda step: (model.weight + model.bias).square().sum(), TrainConfig(steps=3), tmp_path)
    good = (tmp_path / "state.safetensors").read_bytes()

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        fit(model, lambda step: (model.weight + model.bias).square().sum(), TrainConfig(steps=6), tmp_path)
    assert (tmp_path / "state.safetensors").read_bytes() == good


def test_learning_rate_warms_up_holds_and_decays():
    config = TrainConfig(lr=1.0, warmup=10, steps=100, decay_from=50)
    assert [config.lr_at(s) for s in (0, 9, 50, 75, 100)] == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("fields", [{"batch": 0}, {"lr": 0.0}, {"ema": 1.0}, {"lr": float("nan")}])
def test_bad_configs_are_named(fields):
    with pytest.raises(ValueError):
        TrainConfig(**fields)


def test_the_average_can_be_warmed_up_once_more(tmp_path):
    """When what is learned changes at step 200, an average of long memory that starts anew is there at once."""
    reached = []
    for average_from in (0, 200):
        model = nn.Linear(1, 1, bias=False)

        def loss_at(step, model=model):
            return (model.weight - (0.0 if step < 200 else 5.0)).square().sum()

        config = TrainConfig(batch=1, lr=1.0, warmup=1, steps=230, ema=0.9999)
        ema, _ = fit(model, loss_at, config, tmp_path / str(average_from), average_from=average_from)
        reached.append(float(ema.shadow["weight"]))
    assert reached[1] > 4 and reached[0] < reached[1] - 0.5, reached


def test_ctrl_c_ends_a_run_after_a_whole_step_saved(tmp_path):
    """What goes on afterwards is what an uninterrupted run would have done, to the last bit."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run_toy(whole, 4000).wait() == 0
    process = run_toy(stopped, 4000)
    log = stopped / "log.jsonl"
    while not log.exists() or log.read_text().count("\n") < 4:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0 and max(losses(stopped)) < 4000
    assert run_toy(stopped, 4000).wait() == 0
    states = [load_file(folder / "state.safetensors") for folder in (whole, stopped)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
