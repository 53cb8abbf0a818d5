"""What the cost model and the samplers' table measure: alike things, and told as they are."""

import dataclasses

import torch

from experiments import costs, samplers
from imagen_lite.recipes import sr256
from imagen_lite.recipes.stages import ENCODER, CachedText
from imagen_lite.text import EmbeddingCache, load_text_encoder

CAPTIONS = ["a red cone", "a small blue house on the grass", "two ducks"]


def test_embeddings_in_memory_are_those_of_the_cache(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache.sqlite", load_text_encoder(ENCODER))
    held = costs.HeldText([cache([caption]).tokens[0].half() for caption in CAPTIONS])
    row = torch.tensor([1, 0, 1, 2])
    text, expected = held(row), CachedText(CAPTIONS, cache, 48, torch.device("cpu"))(row)
    assert torch.equal(text.tokens, expected.tokens) and torch.equal(text.mask, expected.mask)


def test_an_encoder_of_the_size_of_t5_small(tmp_path):
    encoder = load_text_encoder(costs.write_encoder(tmp_path))
    assert encoder.dim == 512 and len(encoder(CAPTIONS)) == 3
    blocks = sum(p.numel() for name, p in encoder.model.named_parameters() if "embedding" not in name)
    assert 18e6 < blocks < 20e6  # google/t5-v1_1-small: 35.3 M with its vocabulary of 32,128 × 512


def test_the_table_of_samplers_says_what_differs():
    own = dataclasses.asdict(sr256.SAMPLING)
    row = {
        "sampling": own, "ratio": {"reader": 0.125, "random": 0.1}, "power_of_fine_detail": {"drawn": 0.64},
        "consistency": {"psnr_db": 35.0, "least": 31.0}, "color_shift": {"drawn": [0.001, -0.004, 0.002]},
    }  # fmt: skip
    result = {
        "resolution": 256,
        "n": 448,
        "rows": [row, row | {"sampling": own | {"spacing": "time"}}],
        "hardware": "x",
    }
    lines = samplers.as_text(result).splitlines()
    assert lines[2].startswith("| **dpmpp_2m, 12 steps even in λ** | **-5** | **0.125** |") and "**0.0040**" in lines[2]
    assert lines[3].startswith("| dpmpp_2m, 12 steps even in t | -5 | 0.125 |") and "64 → 256, 448" in lines[-1]
