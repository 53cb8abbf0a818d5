"""The recipe of t5-lite-base: span corruption, tokenizer, a small run that resumes, exports and loads."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from imagen_lite import weights
from imagen_lite.recipes import t5_lite, t5_scores
from imagen_lite.recipes.spans import EOS, FIRST_SENTINEL, PAD, SENTINELS, SPECIAL, corrupt, train_tokenizer
from imagen_lite.scenes import words
from imagen_lite.t5 import T5Config
from imagen_lite.text import load_text_encoder
from imagen_lite.weights import WeightsError

FIRST_WORD = len(SPECIAL)
RECIPE = t5_lite.Recipe(
    train=dataclasses.replace(t5_lite.Recipe().train, batch=8, steps=4, warmup=2, decay_from=None),
    encoder=T5Config(d_model=32, d_kv=8, num_heads=4, num_layers=2, d_ff=48),
    documents=300,
)


def restored(source, target):
    """The text that a corrupted pair stands for."""
    assert source[-1] == target[-1] == EOS
    spans, current = {}, None
    for token in target[:-1]:
        if FIRST_SENTINEL <= token < FIRST_SENTINEL + SENTINELS:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    return [t for token in source[:-1] for t in (spans.pop(token) if token in spans else [token])], spans


@settings(max_examples=100, deadline=None)
@given(length=st.integers(2, 96), density=st.floats(0.05, 0.6), span=st.floats(1, 5), seed=st.integers(0, 10_000))
def test_corruption_loses_nothing_and_masks_as_asked(length, density, span, seed):
    ids = list(range(FIRST_WORD, FIRST_WORD + length))
    source, target = corrupt(ids, np.random.default_rng(seed), density, span)
    text, unused = restored(source, target)
    assert text == ids and not unused
    sentinels = [t for t in source if FIRST_SENTINEL <= t < FIRST_SENTINEL + SENTINELS]
    assert sentinels == list(range(FIRST_SENTINEL, FIRST_SENTINEL + len(sentinels))), "in order, each once"
    assert len(target) - len(sentinels) - 1 == min(max(1, round(length * density)), length - 1)
    assert all(a not in sentinels or b not in sentinels for a, b in zip(source, source[1:], strict=False))


def test_every_position_can_be_masked():
    ids = list(range(FIRST_WORD, FIRST_WORD + 6))
    masked = [corrupt(ids, np.random.default_rng(seed), 0.15, 1.0)[1][1] for seed in range(200)]
    assert set(masked) == set(ids)


def test_words_of_the_world_are_whole_and_others_are_spelled():
    texts = ["a shiny red cone, on the grass.", "is a crimson orb red? yes. zebra"] * 20
    tokenizer = train_tokenizer(texts, 200, words.KNOWN_WORDS)
    ids = {word: tokenizer.encode(word, add_special_tokens=False).ids for word in words.KNOWN_WORDS}
    assert all(len(row) == 1 for row in ids.values()) and len({row[0] for row in ids.values()}) == len(ids)
    assert tokenizer.encode("RED, 'Cone'", add_special_tokens=False).ids[0] == ids["red"][0]
    assert ids["cone"][0] in tokenizer.encode("RED, 'Cone'").ids, "a quote before a word does not change it"
    assert len(tokenizer.encode("brazen", add_special_tokens=False).ids) > 1
    assert [tokenizer.id_to_token(i) for i in (PAD, EOS)] == ["<pad>", "</s>"]
    assert tokenizer.encode("red").ids == [*ids["red"], EOS]


def test_unit_scale_computes_the_same_model():
    model = t5_lite.build(RECIPE, 60)
    ids = torch.tensor([[40, 41, EOS]])
    unit = t5_lite.UnitScale(model)
    with torch.no_grad():
        assert torch.allclose(
            unit(input_ids=ids, labels=ids).logits, model(input_ids=ids, labels=ids).logits, atol=1e-5
        )
    rms = [p.detach().square().mean().sqrt().item() for p in unit.parameters()]
    assert rms == pytest.approx([1.0] * len(rms), abs=1e-4)
    names = {id(p) for p in unit.parameters()}
    assert not any(id(p) in names for p in model.parameters()), "the model's own weights are not trained twice"


def losses(folder):
    return [
        row["loss"] for line in (folder / "log.jsonl").read_text().splitlines() if "loss" in (row := json.loads(line))
    ]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run of four steps, stopped after two and resumed."""
    folder = tmp_path_factory.mktemp("t5-lite")
    half = dataclasses.replace(RECIPE, train=dataclasses.replace(RECIPE.train, steps=2))
    for recipe in (half, RECIPE):
        t5_lite.run(device="cpu", out=folder / "out", run_folder=folder / "run", recipe=recipe)
    return folder


def test_a_run_exports_what_transformers_and_we_read_alike(exported):
    out = exported / "out"
    assert {f.name for f in out.iterdir()} == {
        "config.json", "model.safetensors", "manifest.json", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    caption = "a shiny Crimson cone, next to a small zebra"
    theirs = transformers.AutoTokenizer.from_pretrained(out)(caption, return_tensors="pt")
    model = transformers.T5EncoderModel.from_pretrained(out, dtype=torch.float32).eval()
    text = load_text_encoder(out)([caption])
    with torch.no_grad():
        expected = model(input_ids=theirs["input_ids"], attention_mask=theirs["attention_mask"]).last_hidden_state
    assert torch.allclose(text.tokens, expected, atol=1e-4)
    manifest = weights.load_manifest(out)
    assert manifest["steps"] == 4 and manifest["gate"]["n"] == len(words.TEXT_ONLY)
    assert manifest["masked_words"]["all"]["n"] > 900


def test_a_resumed_run_has_the_same_losses(exported, tmp_path):
    t5_lite.run(device="cpu", out=tmp_path / "out", run_folder=tmp_path / "run", recipe=RECIPE)
    resumed, whole = losses(exported / "run"), losses(tmp_path / "run")
    assert len(resumed) == 2 and sum(resumed) / 2 == pytest.approx(whole[0], abs=1e-4)


def test_another_tokenizer_is_refused(exported, tmp_path):
    for file in (exported / "out").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace("▁red", "▁der"))
    with pytest.raises(WeightsError, match="not the one of these weights"):
        load_text_encoder(tmp_path)


def test_the_gate_sees_through_a_perfect_and_a_blind_encoder(exported):
    """An encoder that maps each word to its meaning passes; one that maps all words alike does not."""
    encoder = load_text_encoder(exported / "out")
    known = t5_scores.meanings()
    values = {meaning: i for i, meaning in enumerate(sorted(set(known.values())))}
    tokenizer = encoder.tokenizer.tokenizer
    table = torch.zeros(tokenizer.get_vocab_size(), len(values))
    for word, meaning in known.items():
        table[tokenizer.token_to_id(f"▁{word}"), values[meaning]] = 1.0
    encoder.model = lambda ids, mask: table[ids]
    result = t5_scores.gate(encoder)
    assert set(result) == set(words.TEXT_ONLY) and all(right for _, right in result.values())
    blind = torch.randn(len(table), 16, generator=torch.Generator().manual_seed(0))
    encoder.model = lambda ids, mask: blind[ids]
    assert sum(right for _, right in t5_scores.gate(encoder).values()) < 0.5 * len(result)
