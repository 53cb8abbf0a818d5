"""The base recipe: what a batch is, that it learns, goes on, and that the doctor finds what is wrong."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from imagen_lite import data, weights
from imagen_lite.data import Pool
from imagen_lite.recipes import base64, doctor
from imagen_lite.recipes.base64 import Base64Loss, Captioned, Recipe
from imagen_lite.recipes.stages import caption_rows
from imagen_lite.stage import load_stage
from imagen_lite.text import TextEmbedding, load_text_encoder
from imagen_lite.train import TrainConfig
from imagen_lite.unet import EfficientUNet, UNetConfig

UNET = UNetConfig(channels=(32, 32), blocks=(1, 1), attention=(None, "self"), strides=(1, 2), patch=2, head_channels=32)
RECIPE = Recipe(UNET, TrainConfig(batch=16, lr=3e-3, warmup=5, steps=30), pictures=40)
COLORS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 200, 20), "white": (250, 250, 250)}


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder(weights.DATA / "weights" / "t5-lite-base")


@pytest.fixture
def pool():
    """Forty pictures, a square of the caption's colour on the left; every fourth may not be mirrored."""
    names = list(COLORS)
    pictures = np.full((40, 64, 64, 3), 5, np.uint8)
    for i in range(40):
        pictures[i, 10 + i % 5 : 50, 4:34] = COLORS[names[i % 4]]
    captions = [[f"a {names[i % 4]} cube on the left"] * data.CAPTIONS for i in range(40)]
    mirrored = [[] if i % 4 == 3 else [f"a {names[i % 4]} cube on the right"] * data.CAPTIONS for i in range(40)]
    return Pool([pictures], captions, mirrored, list(range(40)))


def test_flipped_pictures_get_mirrored_captions_and_letters_are_never_flipped(pool, encoder):
    batches = Captioned(pool, encoder, dataclasses.replace(RECIPE, train=TrainConfig(batch=200)), torch.device("cpu"))
    images, row = batches.batch(0, 0)
    captions = caption_rows(pool)[0]
    on_the_left = images[:, :, 32, 8].amax(1) > 0
    assert [("left" in captions[i]) for i in row] == on_the_left.tolist()
    white = images[:, :, 32].amax(2).amin(1) > 0.9
    assert on_the_left[white].all() and white.any()
    assert 0.3 < on_the_left[~white].float().mean() < 0.7


def test_a_batch_follows_from_seed_and_step(pool, encoder):
    batches = Captioned(pool, encoder, RECIPE, torch.device("cpu"))
    first, again, other = batches.batch(0, 3), batches.batch(0, 3), batches.batch(0, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_text_is_dropped_as_often_as_the_recipe_says(pool, encoder, monkeypatch):
    seen = []
    monkeypatch.setattr(TextEmbedding, "drop", lambda self, keep: seen.append(keep) or self)
    batches = Captioned(pool, encoder, RECIPE, torch.device("cpu"))
    loss = Base64Loss(lambda x, t, text: torch.zeros_like(x), batches, 0, torch.float32)
    for step in range(60):
        loss(step)
    assert torch.cat(seen).float().mean().item() == pytest.approx(0.9, abs=0.03)


def test_the_loss_is_the_plain_one_on_v(pool, encoder):
    """A network that always says v = 0 is wrong by v, of which the variance is alpha² + sigma² var(x0)."""
    batches = Captioned(pool, encoder, RECIPE, torch.device("cpu"))
    schedule = RECIPE.schedule
    zero_v = lambda x, t, text: schedule.sigma(t)[:, None, None, None] * x  # noqa: E731
    loss = Base64Loss(zero_v, batches, 0, torch.float32)
    t = RECIPE.at_size(torch.linspace(0, 1, 1001), 64)
    power = batches.batch(0, 0)[0].square().mean()
    expected = (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 * power).mean()
    assert np.mean([float(loss(step)) for step in range(20)]) == pytest.approx(float(expected), rel=0.05)


def test_small_pictures_come_first(pool, encoder):
    sides = []

    def spy(x, t, text):
        sides.append(x.shape[-1])
        return torch.zeros_like(x)

    recipe = dataclasses.replace(RECIPE, small_pictures=64)
    batches = Captioned(pool, encoder, recipe, torch.device("cpu"))
    for seen in (0, 16):  # a run that goes on from 16 pictures has 16 fewer to see small
        sides.clear()
        loss = Base64Loss(spy, batches, 0, torch.float32, seen=seen)
        for step in range(6):
            loss(step)
        small = (64 - seen) // 16
        assert sides == [32] * small + [64] * (6 - small)


def test_large_pictures_get_the_noise_that_hides_as_much():
    """Averaged down to 32 px, a noisy 64-px picture has the signal-to-noise ratio of a 32-px one at the same draw."""
    t, noise = torch.tensor(0.6), torch.randn(200, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    schedule, later = RECIPE.schedule, RECIPE.at_size(t, 64)
    small = schedule.add_noise(torch.zeros_like(noise), later.expand(200), noise)
    sigma = torch.nn.functional.avg_pool2d(small, 2).std()
    assert float(schedule.alpha(later) / sigma) == pytest.approx(float(schedule.alpha(t) / schedule.sigma(t)), rel=0.01)
    assert float(RECIPE.at_size(t, 32)) == pytest.approx(0.6, abs=1e-5)


@pytest.fixture
def small_run(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "pool", lambda *args, **kwargs: pool)
    monkeypatch.setattr(base64, "MILESTONES", (160,))
    monkeypatch.setattr(base64, "VALIDATION", 96)

    def run(steps, folder="run", out="out", fresh=False):
        recipe = dataclasses.replace(RECIPE, train=dataclasses.replace(RECIPE.train, steps=steps))
        paths = {"run_folder": tmp_path / folder, "out": tmp_path / out}
        return base64.run(device="cpu", recipe=recipe, dtype=torch.float32, fresh=fresh, **paths)

    return run


def test_a_run_learns_draws_milestones_exports_and_goes_on(small_run, tmp_path, capsys):
    out = small_run(30)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert (tmp_path / "run" / "milestones" / "000000160.png").exists()
    milestone = next(row for row in rows if "milestone" in row)
    manifest = weights.load_manifest(out)
    assert manifest["validation_loss"] < 0.9 and manifest["validation_loss"] < milestone["validation_loss"]
    assert manifest["pictures_seen"] == 480 and manifest["world"] == "v1"
    assert load_stage(out).unet.config == UNET

    small_run(40)  # the same run goes on
    assert weights.load_manifest(out)["pictures_seen"] == 640
    small_run(10, folder="elsewhere")  # the run's folder is lost: on from the exported weights
    assert weights.load_manifest(out)["pictures_seen"] == 800
    assert "going on from out, which has seen 640 pictures" in capsys.readouterr().out
    small_run(10, folder="elsewhere", fresh=True)
    assert weights.load_manifest(out)["pictures_seen"] == 160


def test_from_the_shipped_weights_it_goes_on_with_a_tenth_of_the_rate(small_run, tmp_path, monkeypatch, capsys):
    out = small_run(30)
    assert weights.load_manifest(out)["train"]["lr"] == RECIPE.train.lr
    assert "has had its 30 steps" in capsys.readouterr().out
    monkeypatch.setattr(base64, "FOLDER", out)
    small_run(10, folder="elsewhere")
    assert weights.load_manifest(out)["train"]["lr"] == pytest.approx(0.1 * RECIPE.train.lr)


def test_the_doctor_looks_at_everything(pool, encoder, monkeypatch, capsys):
    monkeypatch.setattr(data, "pool", lambda *args, **kwargs: pool)
    monkeypatch.setattr(doctor, "check_captions", lambda *args: "captions are these")
    slow = dataclasses.replace(RECIPE, train=dataclasses.replace(RECIPE.train, lr=1e-6))
    with pytest.raises(ValueError, match="by heart"):  # no learning rate to learn with, and is told so
        base64.doctor("cpu", recipe=slow)
    monkeypatch.setattr(doctor, "check_overfit", lambda *args, **kwargs: "learned by heart")
    base64.doctor("cpu", recipe=RECIPE)
    out = capsys.readouterr().out
    assert all(word in out for word in ("pictures span", "captions are", "by heart", "padding"))


def test_what_can_be_learned_by_heart_passes():
    model, x = torch.nn.Linear(4, 1), torch.eye(4)
    text = doctor.check_overfit(model, lambda: (model(x).squeeze(1) - torch.arange(4.0)).square().mean(), lr=0.1)
    assert "learned by heart" in text


def test_the_doctor_finds_what_is_wrong(pool, encoder):
    with pytest.raises(ValueError, match="scaled"):
        doctor.check_pictures(torch.rand(4, 3, 8, 8))
    with pytest.raises(ValueError, match="the same"):
        doctor.check_pictures(torch.linspace(-1, 1, 192).view(1, 3, 8, 8).repeat(4, 1, 1, 1))
    strange = dataclasses.replace(pool, captions=[["Ωμέγα ψ 漢字 ЖЩ"] * 4] * 40)
    with pytest.raises(ValueError, match="unknown to"):
        doctor.check_captions(strange, encoder, 48)
    with pytest.raises(ValueError, match="by heart"):
        model = EfficientUNet(UNET)
        doctor.check_overfit(model, lambda: 0 * model.out.weight.sum() + 1.0, lr=1e-3, steps=6)


def test_the_doctor_finds_a_lost_mask(encoder):
    text = encoder(["a red cone", "a small blue house on the grass"])

    class Unmasked(torch.nn.Module):
        def forward(self, x, t, text):
            return x + text.tokens.mean()

    with pytest.raises(ValueError, match="mask"):
        doctor.check_masks(Unmasked(), text, torch.zeros(2, 3, 8, 8))
