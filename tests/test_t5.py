"""The T5 encoder against `transformers`, and what it says when its files are wrong."""

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.t5.modeling_t5 import T5Attention

from imagen_lite.t5 import RMSNorm, T5Config, T5Encoder, relative_position_bucket
from imagen_lite.weights import WeightsError

SHAPES = {
    "relu": dict(feed_forward_proj="relu", d_model=48, d_kv=16, num_heads=3, num_layers=3, d_ff=96),
    "gated-gelu": dict(feed_forward_proj="gated-gelu", d_model=64, d_kv=24, num_heads=4, num_layers=4, d_ff=80),
}


def reference(seed: int = 0, **shape) -> transformers.T5EncoderModel:
    """A random encoder of `transformers` whose norms and biases are random too."""
    torch.manual_seed(seed)
    model = transformers.T5EncoderModel(transformers.T5Config(vocab_size=100, **shape)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.5)
    return model


def batch(seed: int, length: int, vocab: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids (4, L), and a mask (4, L) of which each row has another length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([length, 1, max(1, length // 2), max(1, length - 1)])
    return torch.randint(vocab, (4, length), generator=generator), torch.arange(length) < lengths[:, None]


def worst(model, ours, ids, mask) -> float:
    with torch.no_grad():
        theirs = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return (theirs - ours(ids, mask))[mask].abs().max().item()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-5), (torch.float32, 1e-4)])
@pytest.mark.parametrize("kind", SHAPES)
def test_parity_with_transformers(kind, dtype, bound, tmp_path):
    model = reference(**SHAPES[kind])
    model.save_pretrained(tmp_path)
    ours = T5Encoder.from_pretrained(tmp_path).to(dtype)
    ids, mask = batch(1, 150)
    assert worst(model.to(dtype), ours, ids, mask) <= bound


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000), gated=st.booleans(), heads=st.integers(1, 5), width=st.integers(1, 20),
    layers=st.integers(1, 3), length=st.integers(1, 40), buckets=st.sampled_from([8, 16, 32]),
    distance=st.integers(9, 200),
)  # fmt: skip
def test_parity_on_random_configurations(seed, gated, heads, width, layers, length, buckets, distance):
    shape = dict(
        d_model=32, d_kv=width, num_heads=heads, num_layers=layers, d_ff=40, relative_attention_num_buckets=buckets,
        relative_attention_max_distance=distance, feed_forward_proj="gated-gelu" if gated else "relu",
    )  # fmt: skip
    model = reference(seed, **shape).double()
    ours = T5Encoder(T5Config(vocab_size=100, **shape)).double()
    ours.load_transformers(model.state_dict())
    assert worst(model, ours, *batch(seed, length)) <= 1e-5


def test_a_whole_t5_gives_its_encoder_and_float16_becomes_float32(tmp_path):
    config = transformers.T5Config(vocab_size=100, **SHAPES["gated-gelu"], decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).half()
    model.save_pretrained(tmp_path, max_shard_size="100KB")  # also: in shards, with an index
    assert (tmp_path / "model.safetensors.index.json").exists()
    ours = T5Encoder.from_pretrained(tmp_path)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    ids, mask = batch(2, 20)
    assert worst(model.float().eval().encoder, ours, ids, mask) <= 1e-4


def test_float64_is_not_narrowed_to_float32():
    x = torch.randn(4, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    assert (RMSNorm(32, 1e-6).double()(x) - exact).abs().max() < 1e-12


def test_rms_norm_of_bfloat16_is_computed_in_float32():
    x = torch.full((1, 64), 1e-3).bfloat16()
    assert RMSNorm(64, 1e-6).bfloat16()(x)[0, 0].item() == pytest.approx(2**-0.5, rel=1e-2)


def test_buckets_as_in_the_reference_table():
    offsets = [-200, -128, -64, -16, -8, -1, 0, 1, 8, 16, 64, 128]
    expected = [15, 15, 14, 10, 8, 1, 0, 17, 24, 26, 30, 31]
    assert relative_position_bucket(torch.tensor(offsets)).tolist() == expected
    all_offsets = torch.arange(-600, 601)
    theirs = T5Attention._relative_position_bucket(all_offsets)
    assert torch.equal(relative_position_bucket(all_offsets), theirs)


def test_padding_changes_nothing():
    ours = T5Encoder(T5Config(vocab_size=100, **SHAPES["relu"])).eval()
    ids, mask = batch(3, 12)
    alone = ours(ids[2:3, :6])
    other = torch.where(mask, ids, (ids + 1) % 100)  # other tokens under the padding
    assert torch.allclose(ours(other, mask)[2:3, :6], alone, atol=1e-5)
    assert not torch.allclose(ours(other)[2:3, :6], alone, atol=1e-2), "without a mask the padding must matter"


def test_no_mask_means_all_real():
    ours = T5Encoder(T5Config(vocab_size=100, **SHAPES["relu"]))
    ids, _ = batch(4, 9)
    assert torch.equal(ours(ids), ours(ids, torch.ones_like(ids)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(feed_forward_proj="gated-silu"), "gated-silu"),
        (dict(num_layers=0), "num_layers must be at least 1, not 0"),
        (dict(relative_attention_num_buckets=30), "multiple of 4.*30"),
    ],
)
def test_config_errors_name_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        T5Config(**change)


def test_an_old_config_without_feed_forward_is_relu():
    assert T5Config.from_dict({"d_model": 8, "is_encoder_decoder": True}).feed_forward_proj == "relu"


def test_weights_that_do_not_fit_are_named(tmp_path):
    model = reference(**SHAPES["relu"])
    ours = T5Encoder(T5Config(vocab_size=100, **SHAPES["relu"] | {"num_layers": 4}))
    with pytest.raises(WeightsError, match=r"blocks\.3.* is missing"):
        ours.load_transformers(model.state_dict())
    ours = T5Encoder(T5Config(vocab_size=101, **SHAPES["relu"]))
    with pytest.raises(WeightsError, match=r"embedding.weight has shape \(100, 48\)"):
        ours.load_transformers(model.state_dict())


def test_missing_folder_and_unreachable_hub_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="no config.json"):
        T5Encoder.from_pretrained(tmp_path)
    for name in ("HfApi.model_info", "snapshot_download"):
        monkeypatch.setattr(f"huggingface_hub.{name}", lambda *a, **k: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(WeightsError, match="'google/flan-t5-small' is no folder here and the Hugging Face hub") as info:
        T5Encoder.from_pretrained("google/flan-t5-small")
    assert "\n" not in str(info.value)


def test_truncated_weights_say_so(tmp_path):
    reference(**SHAPES["relu"]).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        T5Encoder.from_pretrained(tmp_path)
