"""A cascade in one's own pieces draws what the library's draws, and each of the pieces takes part."""

import pytest
import torch

from imagen_lite import learn, load_cascade
from imagen_lite.cascade import Cascade

PROMPTS = ["a red cone", "a small blue house on the grass next to a tree"]
USED = ("rms_norm", "relative_position_bucket", "sinusoidal", "residual_block", "attention_pool", "text_attention")


@pytest.fixture(scope="module")
def shipped():
    cascade = load_cascade("cpu")
    return Cascade(cascade.text_encoder, {64: cascade.stages[64]}, torch.float32)


@pytest.fixture
def pieces(tmp_path):
    return learn.my_imagen(tmp_path / "nothing.py")


def draw(cascade):
    return cascade.sample(PROMPTS, steps=2, seed=0).images


def test_it_draws_the_same(shipped, pieces):
    before = draw(shipped)
    torch.testing.assert_close(draw(learn.assemble(shipped, pieces)), before, atol=1e-3, rtol=0)
    assert torch.equal(draw(shipped), before)  # the cascade itself is left alone


@pytest.mark.parametrize("name", USED)
def test_each_piece_takes_part(shipped, pieces, name):
    library = getattr(pieces, name)
    setattr(pieces, name, lambda *args: library(*args) * 0)
    assert (draw(learn.assemble(shipped, pieces)) - draw(shipped)).abs().mean() > 1e-3
