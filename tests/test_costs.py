"""What the cost model and the samplers' table measure: alike things, and told as they are."""

import dataclasses
from types import SimpleNamespace

import torch

from experiments import costs, samplers
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
    row |= {"frechet": 1.5, "further": 0.0, "further_interval": (0, 0)}
    other = row | {"sampling": own | {"steps": 8}, "difference": -0.05, "difference_interval": (-0.08, -0.02)}
    other |= {"frechet": 1.75, "further": 0.25, "further_interval": (0.2, 0.3)}
    lines = samplers.base_text({"n": 20, "rows": [row, other], "hardware": "x"}).splitlines()
    assert lines[2] == "| **dpmpp_2m, 16 steps even in λ** | **-8** | **0.800 [0.700, 0.900]** |  | **1.500** |  |"
    same = "| dpmpp_2m, 8 steps even in λ | -8 | 0.800 [0.700, 0.900] | -0.050 [-0.080, -0.020] "
    assert lines[3] == same + "| 1.750 | +0.250 [+0.200, +0.300] |"


def test_the_base_is_compared_on_captions_with_two_things(monkeypatch, tmp_path):
    """Whatever is drawn, every sampler is asked for the same captions, and the first is what others differ from.

    The second draws what is further from the renders, and what was drawn once is not drawn again.
    """
    asked, right = [], iter(range(1000))

    class Drawing:
        def __init__(self, sampling):
            self.sampling = sampling

        def sample(self, captions, guidance_weight, seed, resolution):
            asked.append((self.sampling.steps, captions, seed))
            mean = self.sampling.steps / 160
            return SimpleNamespace(images=torch.full((len(captions), 3, 2, 2), mean))

    def sampled(cascade, resolution, changed):
        sampling = dataclasses.replace(base64.SAMPLING, **changed)
        return Drawing(sampling), sampling

    def features(images):
        fresh = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
        if images.shape[-1] != 2:
            return fresh  # of renders
        at = 0 if len(images) == 6 else 6  # ten are drawn as six and four
        return fresh[at : at + len(images)] + images.mean()

    monkeypatch.setattr(samplers, "sampled", sampled)
    monkeypatch.setattr(samplers, "alignment", lambda _, c: [SimpleNamespace(aligned=next(right) % 9 < 6) for _ in c])
    monkeypatch.setattr(samplers, "reader_features", features)
    monkeypatch.setattr(samplers, "folder_of", lambda _: tmp_path)
    monkeypatch.setattr(samplers, "render", lambda scenes, side: torch.zeros(len(scenes), 3, 4, 4))
    monkeypatch.setattr(samplers, "side_by_side", lambda jobs: [job() for job in jobs])
    monkeypatch.setattr(samplers, "BATCH", 6)
    monkeypatch.setitem(samplers.SAMPLERS, 64, [{}, {"steps": 32}])
    rows, again = (samplers.base_rows(10) for _ in range(2))
    assert rows == again and [(steps, len(c), seed) for steps, c, seed in asked] == [
        (16, 6, 0), (16, 4, 6), (32, 6, 0), (32, 4, 6)
    ]  # fmt: skip
    captions = asked[0][1] + asked[1][1]
    assert captions == asked[2][1] + asked[3][1] and len(set(captions)) == 10
    assert all(sum(spec.count for spec in parse(caption).things) == 2 for caption in captions)
    assert [row["aligned"] for row in rows] == [0.7, 0.7] and rows[1]["difference"] == 0
    assert [row["frechet"] for row in rows] == [0.04, 0.16] and rows[1]["further"] == 0.12  # 4 · 0.1², 4 · 0.2²
    assert rows[1]["further_interval"] == (0.12, 0.12) and rows[0]["further"] == 0
