"""Enlargements and their explorer, on a cascade of tiny random stages."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import imagen_lite as il
from imagen_lite import weights
from imagen_lite.cascade import Cascade
from imagen_lite.data import to_uint8
from imagen_lite.stage import Sampling, Stage
from imagen_lite.text import load_text_encoder
from imagen_lite.unet import EfficientUNet, UNetConfig
from imagen_lite.widgets import CascadeExplorer, enlarge_all, load_enlarged
from imagen_lite.widgets.enlarged import save_enlarged

TINY = UNetConfig(channels=(16,), blocks=(1,), attention=("cross",), strides=(1,), patch=4, head_channels=16)


@pytest.fixture(scope="module")
def cascade():
    def stage(size: int) -> Stage:
        torch.manual_seed(size)
        unet = EfficientUNet(dataclasses.replace(TINY, low_res=size > 64)).eval().requires_grad_(False)
        for weight in (p for p in unet.parameters() if not p.any() and p.dim() > 1):
            weight.normal_(std=0.1)  # what begins at zero: without it the text says nothing
        unet.out.weight.normal_(std=0.05 if size == 64 else 2.0)
        return Stage(unet, il.CosineSchedule(-8.0, 8.0), size, sampling=Sampling(steps=2, guidance_weight=2.0))

    encoder = load_text_encoder(weights.DATA / "weights" / "t5-lite-base")
    return Cascade(encoder, {size: stage(size) for size in (64, 256, 1024)}, torch.float32)


@pytest.fixture(scope="module")
def enlarged(cascade):
    return enlarge_all(cascade, "a red cone", seed=3, aug_levels=(0.0, 0.5), weights=(1.0, 4.0))


def test_each_picture_is_what_the_cascade_draws(cascade, enlarged):
    low_res = cascade.sample("a red cone", seed=3, resolution=64).images
    drawn = cascade.sample("a red cone", 4.0, seed=3, low_res=low_res, aug_level=0.5, resolution=256).images
    assert (enlarged.pictures[1, 1].astype(int) - to_uint8(drawn)[0].numpy()).__abs__().max() <= 1
    assert (enlarged.given[0] == to_uint8(low_res)[0].numpy()).all()
    assert enlarged.given[1].std() != enlarged.given[0].std()
    assert enlarged.final.shape == (1024, 1024, 3)


def test_what_is_stored_comes_back(enlarged, tmp_path):
    smooth = np.linspace(0, 255, 2 * 2 * 256 * 256 * 3).astype(np.uint8).reshape(2, 2, 256, 256, 3)
    enlarged = dataclasses.replace(enlarged, pictures=smooth)
    save_enlarged(enlarged, "one", tmp_path)
    again = load_enlarged("one", tmp_path)
    assert (again.given == enlarged.given).all() and again.aligned == enlarged.aligned
    assert (again.prompt, again.seed, again.weights) == ("a red cone", 3, (1.0, 4.0))
    assert np.abs(again.pictures.astype(int) - enlarged.pictures).mean() < 2


def test_some_of_it_is_what_it_says(enlarged):
    some = enlarged.some([1], [0, 1])
    assert (some.aug_levels, some.weights, some.aligned) == ((0.5,), (1.0, 4.0), (enlarged.aligned[1],))
    assert (some.pictures == enlarged.pictures[1:]).all() and (some.given == enlarged.given[1:]).all()
    assert len(CascadeExplorer(some).children[3].children[1].children) == 1


def test_the_explorer_shows_every_frame_and_tells_its_story(enlarged, tmp_path):
    explorer = CascadeExplorer(enlarged)
    stack = explorer.children[3]
    frames = [frame.value for row in stack.children[1].children for frame in row.children]
    assert len(set(frames)) == 4 and all("σ = 0.71" in f for f in frames[2:])
    assert explorer.stage.options == ("64", "256", "1024")
    x, y = explorer.busiest()
    assert 0.1 < x < 0.9 and 0.1 < y < 0.9
    assert Image.open(explorer.save_png(tmp_path / "sheet.png")).size == (84 + 2 * 158, 44 + 2 * 158)
    assert Image.open(explorer.save_gif(tmp_path / "levels.gif")).n_frames == 2


def test_the_detail_is_where_the_picture_varies_most(enlarged):
    final = np.full((1024, 1024, 3), 128, np.uint8)
    final[520:600, 260:340] = np.random.default_rng(0).integers(0, 255, (80, 80, 1))
    x, y = CascadeExplorer(dataclasses.replace(enlarged, final=final)).busiest()
    assert (x, y) == (2.5 / 8, 4.5 / 8)
