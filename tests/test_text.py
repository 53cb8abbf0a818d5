"""Text embeddings: masks, the null condition, the tokenizer's warning, the cache on disk."""

import subprocess
import sys
import warnings

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from imagen_lite.text import EmbeddingCache, TextEmbedding, load_text_encoder, null_text, tokenizer
from imagen_lite.weights import WeightsError

WORDS = ["a", "red", "blue", "cone", "house", "on", "top", "of", "the", "grass", "next", "to", "small", "shiny"]
CAPTIONS = ["a red cone", "a small shiny blue house on top of the red cone", "", "a house next to a cone on the grass"]


def write_encoder(folder, seed=0):
    """A random T5 of `transformers` with a tokenizer of a few words, as a folder."""
    torch.manual_seed(seed)
    vocab = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = transformers.T5Config(
        vocab_size=len(vocab), d_model=32, d_kv=8, num_heads=4, num_layers=2, d_ff=48, feed_forward_proj="gated-gelu"
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load_text_encoder(folder)


class Counting:
    """An encoder that counts the captions it really encodes."""

    def __init__(self, encoder):
        self.encoder, self.seen = encoder, []
        self.name, self.dim, self.max_length = encoder.name, encoder.dim, encoder.max_length
        self.fingerprint = encoder.fingerprint

    def __call__(self, captions):
        self.seen += captions
        return self.encoder(captions)


def test_a_caption_alone_is_the_caption_in_a_batch(encoder):
    together = encoder(CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        alone = encoder([caption])
        n = len(caption.split()) + 1
        assert alone.mask.shape == (1, n) and alone.mask.all()
        assert together.mask[row].tolist() == [True] * n + [False] * (together.mask.shape[1] - n)
        assert torch.allclose(together.tokens[row, :n], alone.tokens[0], atol=1e-5)
        assert (together.tokens[row, n:] == 0).all()


def test_frozen(encoder):
    text = encoder(CAPTIONS)
    assert not text.tokens.requires_grad and text.tokens.dtype == torch.float32
    assert not any(p.requires_grad for p in encoder.model.parameters()) and not encoder.model.training
    assert encoder.dim == 32 and encoder.max_length == 512


def test_it_is_the_reference_model_on_the_ids_with_an_end_token(folder, encoder):
    ids = torch.tensor([[3, 4, 6, 1]])  # a red cone </s>
    with torch.no_grad():
        theirs = transformers.T5EncoderModel.from_pretrained(folder).eval()(ids).last_hidden_state
    assert torch.allclose(encoder(["a red cone"]).tokens, theirs, atol=1e-5)


def test_the_empty_prompt_is_not_the_null_condition(encoder):
    empty = encoder([""])
    assert empty.mask.tolist() == [[True]] and empty.tokens.abs().max() > 0
    assert (empty.null().tokens == 0).all()


def test_truncation_warns_with_what_was_cut(folder):
    short = load_text_encoder(folder, max_length=5)
    with pytest.warns(
        UserWarning, match="'a small shiny blue house on' has 6 tokens .* first 4 .*'house on' is cut off"
    ):
        text = short(["a small shiny blue house on"])
    assert text.mask.shape == (1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(text.tokens[:, :4], short(["a small shiny blue"]).tokens[:, :4], atol=1e-5)


def test_strange_captions_are_encoded(encoder):
    assert encoder(["\ud800", "ein roter Kegel", "\0", "🟥 a\n red"]).tokens.isfinite().all()


@pytest.mark.parametrize(("captions", "error", "message"), [
    ("a red cone", TypeError, r"write \[caption\]"), ([1], TypeError, "list of strings"), ([], ValueError, "empty"),
])  # fmt: skip
def test_wrong_captions(encoder, tmp_path, captions, error, message):
    for call in (encoder, EmbeddingCache(tmp_path / "cache.sqlite", encoder)):
        with pytest.raises(error, match=message):
            call(captions)


def test_a_damaged_tokenizer_says_so(tmp_path):
    write_encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="tokenizer.json is no tokenizer"):
        load_text_encoder(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match="tokenizer.json is missing"):
        load_text_encoder(tmp_path)


def random_text(seed, batch, length, dim=4):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (batch,), generator=generator)
    mask = torch.arange(length) < lengths[:, None]
    return TextEmbedding(torch.randn(batch, length, dim, generator=generator) * mask[..., None], mask)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), batch=st.integers(1, 5), length=st.integers(1, 6), data=st.data())
def test_null_and_drop(seed, batch, length, data):
    text = random_text(seed, batch, length)
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=batch, max_size=batch)))
    null, dropped = text.null(), text.drop(keep)
    assert null.tokens.shape == text.tokens.shape and (null.tokens == 0).all()
    assert (null.mask == (torch.arange(length) == 0)).all()
    for row in range(batch):
        source = text if keep[row] else null
        assert torch.equal(dropped.tokens[row], source.tokens[row])
        assert torch.equal(dropped.mask[row], source.mask[row])
    assert dropped.mask.any(1).all()


def test_drop_needs_one_bool_per_caption():
    with pytest.raises(ValueError, match=r"keep must be \(3,\) bool"):
        random_text(0, 3, 2).drop(torch.ones(3))


def test_null_text_is_the_null_of_any_batch():
    null = null_text(3, 4, length=6)
    other = random_text(0, 3, 6).null()
    assert torch.equal(null.tokens, other.tokens) and torch.equal(null.mask, other.mask)
    assert null_text(2, 4).mask.shape == (2, 1)


def test_cat_pads_and_keeps_every_row():
    a, b = random_text(1, 2, 3), random_text(2, 3, 5)
    both = TextEmbedding.cat([a, b])
    assert len(both) == 5 and torch.equal(both[2:].tokens, b.tokens) and torch.equal(both[2:].mask, b.mask)
    assert torch.equal(both.tokens[:2, :3], a.tokens)
    assert not both.mask[:2, 3:].any() and (both.tokens[:2, 3:] == 0).all()


def test_mismatched_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(2, 2\)"):
        TextEmbedding(torch.zeros(2, 3, 4), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="torch.float32"):
        TextEmbedding(torch.zeros(2, 3, 4), torch.ones(2, 3))


def test_the_cache_encodes_each_caption_once(encoder, tmp_path):
    counting = Counting(encoder)
    path = tmp_path / "deep" / "cache.sqlite"
    first = EmbeddingCache(path, counting, batch=2)([*CAPTIONS, CAPTIONS[0]])
    assert sorted(counting.seen) == sorted(CAPTIONS)
    again = EmbeddingCache(path, counting)([*CAPTIONS, CAPTIONS[0]])
    assert sorted(counting.seen) == sorted(CAPTIONS), "the second time comes from the disk"
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.mask, again.mask)
    direct = encoder([*CAPTIONS, CAPTIONS[0]])
    assert torch.equal(first.mask, direct.mask) and torch.allclose(first.tokens, direct.tokens, atol=2e-3)


def test_the_cache_tells_encoders_and_lengths_apart(encoder, folder, tmp_path):
    path = tmp_path / "cache.sqlite"
    one = EmbeddingCache(path, encoder)(["a red cone"])
    other = load_text_encoder(write_encoder(tmp_path, seed=1))
    assert not torch.allclose(EmbeddingCache(path, other)(["a red cone"]).tokens, one.tokens, atol=1e-2)
    with pytest.warns(UserWarning, match="cut off"):
        assert EmbeddingCache(path, load_text_encoder(folder, max_length=3))(["a red cone"]).mask.shape == (1, 3)


def test_a_broken_cache_file_says_how_to_fix(encoder, tmp_path):
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(WeightsError, match="delete that file"):
        EmbeddingCache(path, encoder)(["a red cone"])


WRITER = """
import sys
import torch
from imagen_lite.text import EmbeddingCache, TextEmbedding
class Encoder:
    name = fingerprint = "fake"
    dim, max_length = 8, 16
    def __call__(self, captions):
        tokens = torch.stack([torch.full((2, 8), float(len(c))) for c in captions])
        return TextEmbedding(tokens, torch.ones(len(captions), 2, dtype=torch.bool))
cache = EmbeddingCache(sys.argv[1], Encoder(), batch=1)
captions = ["x" * n for n in range(60)]
assert cache(captions).tokens[:, 0, 0].tolist() == list(range(60))
"""


def test_two_processes_share_a_cache(tmp_path):
    path = tmp_path / "cache.sqlite"
    command = [sys.executable, "-c", WRITER, str(path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    alone = EmbeddingCache(path)
    assert (alone.name, alone.dim, alone.max_length) == ("fake", 8, 16)
    assert alone(["x" * n for n in range(60)]).tokens[:, 0, 0].tolist() == list(range(60))


def test_many_captions_are_read_as_one_by_one(encoder, monkeypatch):
    captions = ["a red cone", "", "two ducks \ud800 on the sand", "a small blue house on the grass"]
    alone = encoder.tokenizer(captions)
    monkeypatch.setattr(tokenizer, "MANY", 2)
    together = encoder.tokenizer(captions)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
