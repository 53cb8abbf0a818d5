"""What the cost model and the samplers' table measure: alike things, and told as they are."""

import dataclasses
from types import SimpleNamespace

import torch

from experiments import costs, samplers
from imagen_lite.cascade import load_cascade
from imagen_lite.recipes import base64, sr256
from imagen_lite.recipes.stages import ENCODER, CachedText
from imagen_lite.scenes import parse
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


def test_the_bases_table_of_samplers_compares_with_the_first():
    own = dataclasses.asdict(base64.SAMPLING)
    row = {"sampling": own, "aligned": 0.8, "interval": (0.7, 0.9), "difference": 0, "difference_interval": (0, 0)}
    other = row | {"sampling": own | {"steps": 8}, "difference": -0.05, "difference_interval": (-0.08, -0.02)}
    lines = samplers.base_text({"n": 20, "rows": [row, other], "hardware": "x"}).splitlines()
    assert lines[2] == "| **dpmpp_2m, 16 steps even in λ** | **-8** | **0.800 [0.700, 0.900]** |  |"
    assert lines[3] == "| dpmpp_2m, 8 steps even in λ | -8 | 0.800 [0.700, 0.900] | -0.050 [-0.080, -0.020] |"


def test_the_base_is_compared_on_captions_with_two_things(monkeypatch):
    """Whatever is drawn, every sampler is asked for the same captions, and the first is what others differ from."""
    asked, right = [], iter(range(100))

    def drawn(cascade, captions, weight, seed, batch):
        asked.append((captions, cascade.stages[64].sampling.steps, weight))
        return captions

    monkeypatch.setattr(samplers, "draw", drawn)
    monkeypatch.setattr(samplers, "verdicts", lambda _, c: [SimpleNamespace(aligned=next(right) % 9 < 6) for _ in c])
    monkeypatch.setitem(samplers.SAMPLERS, 64, [{}, {"steps": 8}])
    rows = samplers.base_rows(load_cascade(), n=9)
    assert asked[0][0] == asked[1][0] and len(set(asked[0][0])) == 9 and [steps for _, steps, _ in asked] == [16, 8]
    assert all(sum(spec.count for spec in parse(caption).things) == 2 for caption in asked[0][0])
    assert [row["aligned"] for row in rows] == [0.6667, 0.6667] and rows[1]["difference"] == 0
