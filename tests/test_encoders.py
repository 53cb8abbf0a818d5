"""BERT, GPT-2 and CLIP as text encoders, against `transformers`, from a hub cache and without a network."""

import dataclasses
import shutil
import socket
import subprocess
import sys
import threading
import warnings

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers.utils import logging

from imagen_lite import weights
from imagen_lite.text import FAMILIES, EmbeddingCache, load_text_encoder
from imagen_lite.weights import WeightsError

WORDS = ["a", "red", "blue", "cone", "house", "on", "top", "of", "the", "grass", "next", "to", "small", "shiny"]
CAPTIONS = ["a red cone", "a small shiny blue house on top of the grass", "", "the house next to a cone"]
NAMES = ("bert", "gpt2", "clip", "clip_text_model")
SPECIAL = {  # before, after
    "bert": (["[CLS]"], ["[SEP]"]),
    "gpt2": ([], ["<|endoftext|>"]),
    "clip": (["<|startoftext|>"], ["<|endoftext|>"]),
    "clip_text_model": (["<|startoftext|>"], ["<|endoftext|>"]),
}
POSITIONS, REVISION = 14, "0123456789" * 4


def write_tokenizer(path, name):
    """Whole words, and the special tokens that this family's tokenizers add."""
    before, after = SPECIAL[name]
    vocab = {word: i for i, word in enumerate(["[UNK]", *before, *after, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]), special_tokens=[(token, vocab[token]) for token in (*before, *after)]
    )
    tokenizer.save(str(path))


def random_model(name, seed=0):
    """A model with its heads, as the hub has it; norms and biases are random too."""
    torch.manual_seed(seed)
    shape = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, vocab_size=20)
    if name == "bert":
        model = transformers.BertForMaskedLM(transformers.BertConfig(**shape, max_position_embeddings=POSITIONS))
    elif name == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=20, n_positions=POSITIONS)
        model = transformers.GPT2LMHeadModel(config)
    else:
        text = transformers.CLIPTextConfig(**shape, max_position_embeddings=POSITIONS, projection_dim=16)
        model = transformers.CLIPTextModelWithProjection(text)
        if name == "clip":
            vision = transformers.CLIPVisionConfig(
                hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8,
                patch_size=4,
            )  # fmt: skip
            parts = dict(text_config=text.to_dict(), vision_config=vision.to_dict())
            model = transformers.CLIPModel(transformers.CLIPConfig(**parts, projection_dim=16))
    for key, parameter in model.named_parameters():
        norm, embedding = (
            "norm" in key.lower() or "ln_" in key,
            "embed" in key or key.endswith(("wte.weight", "wpe.weight")),
        )
        mean, std = (1.0, 0.3) if norm and key.endswith("weight") else (0.0, 1.0 if embedding else 0.2)
        torch.nn.init.normal_(parameter, mean, std)
    return model.eval()


@pytest.fixture(scope="module")
def originals():
    return {name: random_model(name) for name in NAMES}


@pytest.fixture(scope="module")
def hub(tmp_path_factory, originals):
    """A hub cache with org/bert, org/gpt2, ..., and no network: what a machine has after a download."""
    cache = tmp_path_factory.mktemp("hub")

    def refuse(*_, **__):
        raise OSError("no network in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        for name, model in originals.items():
            repository = cache / f"models--org--{name}"
            (repository / "refs").mkdir(parents=True)
            (repository / "refs" / "main").write_text(REVISION)
            model.save_pretrained(repository / "snapshots" / REVISION)
            write_tokenizer(repository / "snapshots" / REVISION / "tokenizer.json", name)
        yield cache


@pytest.fixture(scope="module")
def encoders(hub):
    return {name: load_text_encoder(f"org/{name}") for name in NAMES}


@pytest.fixture
def folder(hub, tmp_path):
    """A copy of org/bert to be spoilt."""
    return shutil.copytree(hub / "models--org--bert" / "snapshots" / REVISION, tmp_path / "bert")


every_family = pytest.mark.parametrize("name", NAMES)


def reference(name, model, ids, mask):
    """The embedding by `transformers`' own forward; of CLIP what enters its last layer."""
    core = {"bert": "bert", "gpt2": "transformer"}.get(name, "text_model")
    core, entering = getattr(model, core), []
    if not name.startswith("clip"):
        return core(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    core.encoder.layers[-1].register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    core(input_ids=ids, attention_mask=mask.long())
    return entering[0]


@every_family
@torch.no_grad()
def test_parity_with_transformers(name, encoders, originals):
    encoder = encoders[name]
    ids, mask = encoder.tokenizer(CAPTIONS)
    text, theirs = encoder(CAPTIONS), reference(name, originals[name], ids, mask)
    assert torch.equal(text.mask, mask) and text.tokens.std() > 0.1
    assert (text.tokens - theirs)[mask].abs().max() <= 1e-5


@every_family
def test_special_tokens_are_those_of_the_family(name, encoders):
    before, after = SPECIAL[name]
    tokenizer = encoders[name].tokenizer
    (ids,), _ = tokenizer(["a red cone"])
    assert [tokenizer.tokenizer.id_to_token(i) for i in ids.tolist()] == [*before, "a", "red", "cone", *after]
    assert ids.tolist() == tokenizer.tokenizer.encode("a red cone").ids


@every_family
def test_a_caption_alone_is_the_caption_in_a_batch(name, encoders):
    together = encoders[name](CAPTIONS)
    special = sum(map(len, SPECIAL[name]))
    for row, caption in enumerate(CAPTIONS):
        n = len(caption.split()) + special
        alone = encoders[name]([caption])
        assert alone.mask.tolist() == [[True] * n]
        assert together.mask[row].tolist() == [True] * n + [False] * (together.mask.shape[1] - n)
        assert torch.allclose(together.tokens[row, :n], alone.tokens[0], atol=1e-5)
        assert (together.tokens[row, n:] == 0).all()


@every_family
def test_padding_does_not_make_captions_alike(name, encoders):
    def likeness(captions):
        text = encoders[name](captions)
        first, second = (text.tokens.sum(1) / text.mask.sum(1, keepdim=True))[:2]
        return torch.cosine_similarity(first, second, dim=0).item()

    unrelated = ["red cone", "the grass"]
    assert likeness([*unrelated, CAPTIONS[1]]) == pytest.approx(likeness(unrelated), abs=1e-4)
    assert likeness(unrelated) < 0.9


@pytest.mark.parametrize(("name", "causal"), [("gpt2", True), ("clip", True), ("bert", False)])
def test_a_later_word_changes_earlier_tokens_only_where_attention_looks_ahead(name, causal, encoders):
    cone, house = (encoders[name]([f"a small red {last}"]).tokens[0] for last in ("cone", "house"))
    earlier = len(SPECIAL[name][0]) + 3
    assert torch.allclose(cone[:earlier], house[:earlier], atol=1e-5) == causal
    assert not torch.allclose(cone[earlier:], house[earlier:], atol=1e-2)


@every_family
def test_the_empty_caption_is_its_special_tokens(name, encoders):
    empty = encoders[name]([""])
    assert empty.mask.tolist() == [[True] * sum(map(len, SPECIAL[name]))]
    assert (empty.tokens.abs().amax(-1) > 0).all()


@every_family
def test_what_does_not_fit_the_positions_is_cut_with_a_warning(name, encoders):
    encoder, room = encoders[name], POSITIONS - sum(map(len, SPECIAL[name]))
    words = [*WORDS, *WORDS][: room + 2]
    with pytest.warns(UserWarning, match=rf"has {room + 2} tokens .* first {room} .*'{' '.join(words[room:])}' is cut"):
        cut = encoder([" ".join(words)])
    assert encoder.max_length == POSITIONS and cut.mask.shape == (1, POSITIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cut.tokens, encoder([" ".join(words[:room])]).tokens)


@every_family
def test_max_length_is_held_to_what_the_encoder_can_read(name, hub):
    with pytest.raises(ValueError, match=f"at most {POSITIONS}, the positions of org/{name}, not {POSITIONS + 1}"):
        load_text_encoder(f"org/{name}", max_length=POSITIONS + 1)
    special = sum(map(len, SPECIAL[name]))
    with pytest.raises(ValueError, match=rf"at least {special + 1} \(one token and .*, not {special}"):
        load_text_encoder(f"org/{name}", max_length=special)


@every_family
def test_frozen(name, encoders):
    encoder = encoders[name]
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert not any(module.training for module in encoder.model.modules())
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
    assert not encoder(CAPTIONS).tokens.requires_grad
    assert encoder.name == f"org/{name}" and encoder.dim == 32 and encoder.device.type == "cpu"


@every_family
def test_bfloat16_computes_in_it_and_gives_float32(name, encoders, hub):
    narrow = load_text_encoder(f"org/{name}", dtype=torch.bfloat16)
    text, exact = narrow(CAPTIONS), encoders[name](CAPTIONS)
    assert {p.dtype for p in narrow.model.parameters()} == {torch.bfloat16}
    assert text.tokens.dtype == torch.float32 and (text.tokens[~text.mask] == 0).all()
    error = (text.tokens - exact.tokens).norm() / exact.tokens.norm()
    assert 0 < error < 0.1


def test_what_is_not_finite_is_refused(hub):
    encoder = load_text_encoder("org/gpt2", dtype=torch.float16)
    with torch.no_grad():
        encoder.model.model.ln_f.bias.fill_(torch.inf)
    with pytest.raises(WeightsError, match="org/gpt2 computes NaN or infinity in torch.float16; load it with"):
        encoder(["a red cone"])


def test_the_fingerprint_names_all_that_matters(folder, monkeypatch):
    same = load_text_encoder(folder).fingerprint
    assert load_text_encoder(folder).fingerprint == same
    prints = {same, load_text_encoder(folder, max_length=9).fingerprint}
    prints.add(load_text_encoder(folder, dtype=torch.bfloat16).fingerprint)
    with monkeypatch.context() as patch:
        patch.setitem(FAMILIES, "bert", dataclasses.replace(FAMILIES["bert"], layer=-2))
        prints.add(load_text_encoder(folder).fingerprint)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("shiny", "silky"))
    prints.add(load_text_encoder(folder).fingerprint)
    random_model("bert", seed=1).save_pretrained(folder)
    prints.add(load_text_encoder(folder).fingerprint)
    assert len(prints) == 6


def test_loading_is_quiet_and_leaves_the_verbosity_alone(hub, capfd, caplog):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.get_logger("transformers"), "handlers", [caplog.handler])
        load_text_encoder("org/clip")
    assert capfd.readouterr() == ("", "") and not caplog.records
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_another_type_of_model_is_named(folder):
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"bert"', '"roberta"'))
    with pytest.raises(WeightsError, match="type 'roberta', but a text encoder is one of t5, bert, gpt2, clip, clip_t"):
        load_text_encoder(folder)


def test_a_weight_that_is_missing_is_not_made_up(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"do not fit its config.json: .*layer.1.output.dense.weight is missing"):
        load_text_encoder(folder)
    save_file({**tensors, name: tensors[name][:-1].clone()}, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"do not fit its config.json: .*layer.1.output.dense.weight is missing or"):
        load_text_encoder(folder)


def test_damaged_pickled_and_foreign_files_say_so(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="the weights in .* cannot be read") as info:
        load_text_encoder(folder)
    assert "\n" not in str(info.value)
    path.rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds no safetensors, and pickled weights are not read"):
        load_text_encoder(folder)
    write_tokenizer(folder / "tokenizer.json", "gpt2")
    (folder / "pytorch_model.bin").unlink()
    random_model("bert").save_pretrained(folder)
    with pytest.raises(WeightsError, match=r"tokenizer.json knows no \[CLS\]; take the tokenizer.json of these"):
        load_text_encoder(folder)


def test_a_hub_out_of_reach_is_one_sentence(hub):
    with pytest.raises(
        WeightsError, match=r"'org/other' is no folder here .* offline, .*`hf download org/other`"
    ) as info:
        load_text_encoder("org/other")
    assert "\n" not in str(info.value)


def test_a_hub_that_never_answers_is_not_waited_for(hub, monkeypatch):
    """As when the name server does not answer, which the client's own timeout does not cover."""
    asked, never = [], threading.Event()
    monkeypatch.setattr(weights, "HUB_SECONDS", 0.05)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda *_, timeout, **__: asked.append(timeout) or never.wait(60)
    )
    with pytest.raises(WeightsError, match=r"could not give it \(TimeoutError\)"):
        load_text_encoder("org/other")
    assert load_text_encoder("org/gpt2")(["a red cone"]).mask.shape == (1, 4), "what was downloaded before will do"
    never.set()
    assert asked == [0.025, 0.025], "and the client has a timeout of its own"


def test_our_t5_does_not_import_transformers():
    code = """
import sys
import imagen_lite as il
il.load_text_encoder(il.weights.DATA / "weights" / "t5-lite-base")(["a red cone"])
print("transformers" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"


def test_a_cache_is_read_without_its_encoder(encoders, tmp_path):
    path = tmp_path / "cache.sqlite"
    full = EmbeddingCache(path, encoders["clip"])
    first, alone = full(CAPTIONS), EmbeddingCache(path)
    again = alone(CAPTIONS)
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.mask, again.mask)
    for name in ("name", "fingerprint", "dim", "max_length"):
        assert getattr(alone, name) == getattr(full, name) == getattr(encoders["clip"], name)
    with pytest.raises(WeightsError, match=r"cache.sqlite does not hold 'a blue cone'; add it .*'org/clip'") as info:
        alone(["a red cone", "a blue cone"])
    assert "\n" not in str(info.value)


def test_without_an_encoder_the_cache_must_be_of_one(encoders, tmp_path):
    path = tmp_path / "cache.sqlite"
    with pytest.raises(WeightsError, match="there is no embedding cache .*cache.sqlite; make it first"):
        EmbeddingCache(path)
    assert not path.exists()
    for name in ("gpt2", "bert"):
        cache = EmbeddingCache(path, encoders[name])
        with pytest.raises(WeightsError, match="what 0 encoders made" if name == "gpt2" else "does not hold 'a house'"):
            EmbeddingCache(path)(["a house"])
        cache(["a red cone"])
    with pytest.raises(WeightsError, match=r"what 2 encoders made \(org/bert, org/gpt2\) where one is expected"):
        EmbeddingCache(path)
