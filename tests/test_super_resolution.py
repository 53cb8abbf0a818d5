"""The super-resolution recipes: that pairs belong together, that they learn, go on, and end as stages of a cascade."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imagen_lite import data, weights
from imagen_lite.data import Pool
from imagen_lite.recipes import doctor, sr256, sr1024, super_resolution
from imagen_lite.recipes.stages import ENCODER, caption_rows
from imagen_lite.recipes.super_resolution import Pairs, Recipe, SuperResolutionLoss
from imagen_lite.scenes.reader import box_of
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene
from imagen_lite.stage import Sampling, load_stage
from imagen_lite.text import load_text_encoder
from imagen_lite.train import TrainConfig
from imagen_lite.unet import EfficientUNet, UNetConfig

UNET = UNetConfig(
    channels=(32, 32), blocks=(1, 1), attention=(None, "cross"), strides=(1, 2), patch=4, head_channels=32, low_res=True
)
TRAIN = TrainConfig(batch=8, lr=3e-3, warmup=5, steps=24)
RECIPE = Recipe(UNET, TRAIN, pictures=20, crop=64, sampling=Sampling(steps=2))


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder(ENCODER)


@pytest.fixture
def pools():
    """Twenty 256-px pictures of coloured noise made smooth, and the same at 64 px; every fourth may not be mirrored."""
    rough = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(rough, (256, 256), mode="bicubic").clamp(-1, 1)
    captions = [["a cube on the left"] * data.CAPTIONS] * 20
    mirrored = [[] if i % 4 == 3 else ["a cube on the right"] * data.CAPTIONS for i in range(20)]
    pictures = [data.to_uint8(images).numpy() for images in (large, F.avg_pool2d(large, 4))]
    return tuple(Pool([p], captions, mirrored, list(range(20))) for p in pictures)


def test_both_pictures_of_a_pair_are_the_same_crop_and_flip(pools, encoder):
    pairs = Pairs(pools, encoder, RECIPE, torch.device("cpu"))
    images, small, row = pairs.pair(0, 0)
    assert images.shape == (8, 3, 64, 64) and small.shape == (8, 3, 16, 16)
    assert (F.avg_pool2d(images, 4) - small).abs().max() < 0.02
    assert doctor.check_pairs(images, small)
    for wrong in (small.flip(3), small.roll(1, 0)):
        with pytest.raises(ValueError, match="not of the same scenes"):
            doctor.check_pairs(images, wrong)
    captions = caption_rows(pools[0])[0]
    assert len({"left" in captions[i] for i in row}) == 2  # some are flipped, and their captions with them


def test_crops_come_from_everywhere_and_follow_from_the_step(pools, encoder):
    """Pictures whose values are their rows and columns say where a crop came from."""
    grid = np.stack(np.broadcast_arrays(np.arange(256)[:, None], np.arange(256), np.zeros((256, 256))), -1)
    pool = dataclasses.replace(pools[0], pictures=[np.repeat(grid[None].astype(np.uint8), 20, 0)], mirrored=[[]] * 20)
    low = dataclasses.replace(pool, pictures=[pool.pictures[0][:, ::4, ::4]])
    pairs = Pairs((pool, low), encoder, RECIPE, torch.device("cpu"))
    corners = torch.cat([data.to_uint8(pairs.pair(0, step)[0])[:, 0, 0, :2] for step in range(60)]).int()
    assert (corners % 4 == 0).all() and (corners.amin(0) < 8).all() and (corners.amax(0) > 184).all()
    assert abs(np.corrcoef(corners.T.numpy())[0, 1]) < 0.15
    assert all(torch.equal(a, b) for a, b in zip(pairs.pair(0, 3), pairs.pair(0, 3), strict=True))


def test_crops_near_things_have_one_in_sight_and_the_others_stay_anywhere(pools, encoder):
    """The grid says where a crop came from, and the scene where its things are."""
    grid = np.stack(np.broadcast_arrays(np.arange(256)[:, None], np.arange(256), np.zeros((256, 256))), -1)
    pool = dataclasses.replace(pools[0], pictures=[np.repeat(grid[None].astype(np.uint8), 20, 0)], mirrored=[[]] * 20)
    low = dataclasses.replace(pool, pictures=[pool.pictures[0][:, ::4, ::4]])
    share = {}
    for near in (0.0, 0.5, 1.0):
        pairs = Pairs((pool, low), encoder, dataclasses.replace(RECIPE, near=near), torch.device("cpu"))
        hits = []
        for step in range(40):
            index = pairs.rows(0, step)[0]
            corner = data.to_uint8(pairs.pair(0, step)[0])[:, 0, 0, :2].float()
            assert (corner <= 192).all() and (corner % 4 == 0).all()
            for i, (top, left) in zip(index.tolist(), corner.tolist(), strict=True):
                scene = sample_scene(pool.seeds[i])
                boxes = [box_of(scene, k) for k in range(len(scene.things))]
                hits.append(
                    any(top - 4 <= 256 * y <= top + 68 and left - 4 <= 256 * x <= left + 68 for x, y, _, _ in boxes)
                )
        share[near] = np.mean(hits)
    assert share[0.0] < 0.5 and share[1.0] == 1.0
    assert abs(share[0.5] - (share[0.0] + share[1.0]) / 2) < 0.12


def test_the_network_is_given_the_augmented_picture_and_its_level(pools, encoder):
    """What it is given, minus the noise of the level it is told, is the upsampled picture."""
    pairs, seen = Pairs(pools, encoder, RECIPE, torch.device("cpu")), []

    def spy(x_t, t, text, low_res, aug_level):
        seen.append((low_res, aug_level))
        return torch.zeros_like(x_t)

    loss = SuperResolutionLoss(spy, pairs, 0, torch.float32)
    levels = []
    for step in range(40):
        loss(step)
        (low_res, aug_level), small = seen[-1], pairs.pair(0, step)[1]
        levels.append(aug_level)
        for one, level, clean in zip(low_res, aug_level, small, strict=True):
            if level < 0.02:  # hardly any noise
                clean = F.interpolate(clean[None], (64, 64), mode="bilinear")[0]
                assert (one - clean).abs().mean() < 0.05
            if level > 0.98:  # hardly anything else
                assert abs(float(F.avg_pool2d(one, 2)[:, ::2, ::2].std()) - 0.75) < 0.25
    level = torch.cat(levels)
    assert 0.42 < level.mean() < 0.58 and level.min() < 0.05 and level.max() > 0.9  # uniform
    without = dataclasses.replace(RECIPE, augmentation=0.0)
    SuperResolutionLoss(spy, Pairs(pools, encoder, without, torch.device("cpu")), 0, torch.float32)(0)
    assert (seen[-1][1] == 0).all()


@pytest.fixture
def small_run(pools, tmp_path, monkeypatch):
    monkeypatch.setattr(Recipe, "pools", lambda *args: pools)
    monkeypatch.setattr(super_resolution, "MILESTONES", (80,))
    monkeypatch.setattr(super_resolution, "VALIDATION", 32)

    def run(steps, folder="run", out="out", **changes):
        recipe = dataclasses.replace(RECIPE, train=dataclasses.replace(TRAIN, steps=steps), **changes)
        paths = {"run_folder": tmp_path / folder, "out": tmp_path / out}
        return super_resolution.run(recipe, recipe, device="cpu", dtype=torch.float32, **paths)

    return run


def test_a_run_learns_draws_milestones_exports_and_goes_on(small_run, tmp_path, capsys):
    out = small_run(24)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    milestone = next(row for row in rows if "milestone" in row)
    assert (tmp_path / "run" / "milestones" / "000000080.png").exists()
    manifest, stage = weights.load_manifest(out), load_stage(out)
    assert manifest["validation_loss"] < milestone["validation_loss"]
    assert manifest["recipe"] == "sr256" and manifest["pictures_seen"] == 192
    assert stage.unet.config == UNET and stage.resolution == 256 and stage.sampling.steps == 2
    small_run(4, folder="elsewhere")
    assert weights.load_manifest(out)["pictures_seen"] == 224
    assert "going on from out" in capsys.readouterr().out
    wider = dataclasses.replace(UNET, channels=(32, 64))
    small_run(4, folder="third", unet=wider)
    assert "of another shape" in capsys.readouterr().out and load_stage(out).unet.config == wider


def test_a_run_goes_on_with_a_gate_that_its_weights_had_not(small_run, tmp_path, capsys):
    before = small_run(24)
    plain = weights.load_tensors(before)
    gated = small_run(1, folder="gated", unet=dataclasses.replace(UNET, gate=True))
    assert "going on from out" in capsys.readouterr().out and weights.load_manifest(gated)["pictures_seen"] == 200
    grown = weights.load_tensors(gated)
    assert load_stage(gated).unet.config.gate and (grown["stem.weight"] - plain["stem.weight"]).abs().max() < 0.01
    half = len(plain["out.bias"])
    assert (grown["out.weight"][:half] - plain["out.weight"]).abs().max() < 0.01
    assert grown["out.weight"][half:].abs().max() < 0.01  # it was closed a step ago


def test_the_doctor_looks_at_everything(pools, monkeypatch, capsys):
    monkeypatch.setattr(Recipe, "pools", lambda *args: pools)
    monkeypatch.setattr(doctor, "check_captions", lambda *args: "captions are these")
    monkeypatch.setattr(doctor, "check_overfit", lambda *args, **kwargs: "learned by heart")
    super_resolution.doctor(RECIPE, RECIPE, "cpu")
    told = capsys.readouterr().out
    assert all(words in told for words in ("pictures span", "made small", "captions are", "by heart"))


OVER = pytest.mark.xfail(strict=True, reason="its gate takes sr1024 from 62.7 GFLOP to 66.3; a new run may be narrower")


@pytest.mark.parametrize(
    ("recipe", "parameters", "gflop"), [(sr256, 4e6, 15), pytest.param(sr1024, 2.1e6, 65, marks=OVER)]
)
def test_the_networks_keep_to_their_budgets(recipe, parameters, gflop):
    from torch.utils.flop_counter import FlopCounterMode

    unet, size = EfficientUNet(recipe.UNET).eval(), recipe.CPU.size // 4  # a sixteenth: all but attention scales
    x, text = torch.zeros(1, 3, size, size), load_text_encoder(ENCODER)(["a red cone"])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(x, torch.zeros(1), text, x, torch.zeros(1))
    assert sum(p.numel() for p in unet.parameters()) <= parameters
    assert 16 * counter.get_total_flops() <= gflop * 1e9
    kinds = [kind for kind in recipe.UNET.attention if kind]
    assert ("self" in kinds) == (recipe is sr256) and "cross" in kinds  # F.2 and F.3


def test_windows_are_parts_of_the_whole_at_both_sizes(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(data, "SHARD", 3)
    large, small = (data.pool(3, split="val", size=s, window=s // 4, progress=False) for s in (256, 64))
    for i, seed in enumerate(large.seeds):
        scene = sample_scene(seed, combinations="training")
        for pool, size in ((large, 256), (small, 64)):
            top, left, side, _ = data.window_of(scene, size, size // 4)
            whole = data.to_uint8(render([scene], size))[0].numpy()
            assert (np.abs(pool.picture(i).astype(int) - whole[top : top + side, left : left + side]) <= 1).all()
        assert [4 * v for v in data.window_of(scene, 64, 16)] == list(data.window_of(scene, 256, 64))


def test_windows_look_at_things_and_elsewhere_and_stay_inside():
    windows = [data.window_of(sample_scene(seed), 1024, 256) for seed in range(200)]
    tops, lefts = np.array(windows).T[:2]
    assert min(tops.min(), lefts.min()) == 0 and max(tops.max(), lefts.max()) == 768
    assert (tops % 16 == 0).all() and len(set(map(tuple, windows))) > 120
