"""The U-Net: its budgets, what reaches it and what must not, its ablations, and saving it."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from imagen_lite.layers import record_attention
from imagen_lite.text import TextEmbedding
from imagen_lite.unet import EfficientUNet, UNetConfig
from imagen_lite.weights import WeightsError

EFFICIENT = UNetConfig(
    channels=(16, 32),
    blocks=(1, 2),
    attention=("cross", "self"),
    strides=(2, 2),
    patch=1,
    text_dim=12,
    head_channels=16,
)
CLASSIC = dataclasses.replace(EFFICIENT, order="classic", strides=(1, 2), skip_scale=1.0)
PATCHED = dataclasses.replace(EFFICIENT, patch=2, strides=(1, 2))
SUPER_RES = dataclasses.replace(EFFICIENT, low_res=True, attention=(None, "cross"))
EACH = dataclasses.replace(CLASSIC, attention_after="each")
KINDS = pytest.mark.parametrize(
    "config", [EFFICIENT, CLASSIC, EACH, PATCHED, SUPER_RES], ids=["efficient", "classic", "each", "patch", "sr"]
)


def build(config: UNetConfig, seed: int = 0) -> EfficientUNet:
    """A U-Net whose zero-initialised layers are random, so that no branch is asleep."""
    torch.manual_seed(seed)
    model = EfficientUNet(config)
    for parameter in model.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.1)
    return model


def text(batch: int = 2, length: int = 5, padding: int = 2) -> TextEmbedding:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(length).expand(batch, -1) < length - padding
    return TextEmbedding(torch.randn(batch, length, 12, generator=generator), mask.clone())


def call(model: EfficientUNet, words: TextEmbedding | None = None, batch: int = 2, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x_t, low_res = torch.randn(2, batch, 3, size, size, generator=generator)
    t, aug_level = torch.rand(2, batch, generator=generator)
    words = words or text(batch)
    return model(x_t, t, words, low_res, aug_level) if model.config.low_res else model(x_t, t, words)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def flops(config: UNetConfig, size: int, tokens: int = 24) -> tuple[int, int]:
    """Parameters, and 2 × multiply-adds of one call for one picture, counted without computing."""
    with torch.device("meta"):
        model, x_t, t = EfficientUNet(config), torch.empty(1, 3, size, size), torch.empty(1)
        words = TextEmbedding(torch.empty(1, tokens, config.text_dim), torch.empty(1, tokens, dtype=torch.bool))
    conditions = (x_t, t) if config.low_res else ()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x_t, t, words, *conditions)
    return parameters(model), counter.get_total_flops()


def test_base64_keeps_its_budget():
    count, cost = flops(UNetConfig(), 64)
    assert 5.5e6 < count < 7.4e6, "float16 weights of the base model must stay under 15 MB"
    assert 1.5e9 < cost <= 3e9


def test_cost_is_counted_as_two_per_multiply_add():
    config = UNetConfig(
        channels=(16,), blocks=(1,), attention=(None,), strides=(1,), patch=1, text="sequence", text_dim=4
    )
    _, cost = flops(config, 8)
    convolutions = 9 * (3 * 16 + 16 * 16 * 4 + 16 * 3) * 64  # stem, two blocks of two, out
    dense = 2 * 32 * 32 + 2 * 32 * 32  # the MLP of time, a modulation in each block
    assert cost == 2 * (convolutions + dense)


@KINDS
def test_shapes_odd_batches_and_other_sizes(config: UNetConfig):
    model = build(config)
    for batch, size in ((1, 16), (3, 16), (2, 24)):
        out = call(model, text(batch), batch, size)
        assert out.shape == (batch, 3, size, size) and out.dtype == torch.float32 and out.isfinite().all()


def test_a_fresh_model_takes_the_noisy_picture_for_noise_the_more_the_later():
    x_t = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = EfficientUNet(EFFICIENT)(x_t, torch.tensor([0.0, 0.5, 1.0]), text(3))
    torch.testing.assert_close(out, torch.tensor([0.0, 0.5**0.5, 1.0]).view(3, 1, 1, 1) * x_t)


@KINDS
def test_every_parameter_gets_a_gradient(config: UNetConfig):
    model = build(config)
    call(model).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@KINDS
@pytest.mark.parametrize("kind", ["both", "pooled", "sequence"])
def test_padding_never_changes_the_output_and_words_do(config: UNetConfig, kind: str):
    attention = ("self", "self") if kind == "pooled" else config.attention
    model = build(dataclasses.replace(config, text=kind, attention=attention)).eval()
    words = text()
    with torch.no_grad():
        expected = call(model, words)
        garbage = words.tokens.masked_fill(~words.mask[..., None], 37.0)
        torch.testing.assert_close(call(model, TextEmbedding(garbage, words.mask)), expected)
        short = TextEmbedding(words.tokens[:, :3], words.mask[:, :3])
        torch.testing.assert_close(call(model, short), expected, rtol=1e-4, atol=1e-5)
        for position in range(3):
            changed = words.tokens.clone()
            changed[:, position] += torch.randn(12)
            assert (call(model, TextEmbedding(changed, words.mask)) - expected).abs().max() > 1e-4


def test_pooled_text_is_not_attended_and_sequence_is_not_pooled():
    pooled = build(dataclasses.replace(EFFICIENT, text="pooled", attention=("self", "self")))
    with record_attention(pooled) as records, torch.no_grad():
        call(pooled)
    assert [w[0].shape[-1] for w in records.values()] == [64, 16, 16, 64]  # pixels alone
    assert EfficientUNet(dataclasses.replace(EFFICIENT, text="sequence")).pool is None


def test_null_condition_is_finite_and_differs_from_words():
    model = build(EFFICIENT)
    with torch.no_grad():
        null = call(model, text().null())
        assert null.isfinite().all() and (null - call(model, text())).abs().max() > 1e-3


def test_each_picture_of_a_batch_is_drawn_on_its_own():
    model = build(EFFICIENT).eval()
    x_t, t, words = torch.randn(3, 3, 16, 16), torch.rand(3), text(3)
    with torch.no_grad():
        together = model(x_t, t, words)
        alone = torch.cat([model(x_t[i : i + 1], t[i : i + 1], words[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("condition", ["t", "low_res", "aug_level"])
def test_every_condition_reaches_the_output(condition: str):
    model = build(SUPER_RES)
    given = {"t": torch.rand(2), "low_res": torch.randn(2, 3, 16, 16), "aug_level": torch.rand(2)}
    x_t = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = model(x_t, text=text(), **given)
        after = model(x_t, text=text(), **{**given, condition: given[condition] / 2})
    assert ((after - before).abs().amax((1, 2, 3)) > 1e-4).all()


def resolutions(model: EfficientUNet) -> list[int]:
    """Width of the picture in each residual block's second convolution, in order, for a 16-px input."""
    seen: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[-1]))
        for name, module in model.named_modules()
        if name.endswith("conv2")
    ]
    with torch.no_grad():
        call(model)
    for hook in hooks:
        hook.remove()
    return seen


def test_order_moves_the_resampling():
    # Downsample first: no residual block at full size. Convolve first: it starts there, with "biggan" blocks between.
    assert resolutions(build(EFFICIENT)) == [8, 4, 4, 4, 4, 8]
    assert resolutions(build(CLASSIC)) == [16, 8, 8, 8, 8, 8, 16, 16]
    assert resolutions(build(PATCHED)) == [8, 4, 4, 4, 4, 8]


def test_skip_scale_scales_the_skips_and_nothing_else():
    scaled, plain = build(EFFICIENT), build(dataclasses.replace(EFFICIENT, skip_scale=1.0))
    inputs: dict[EfficientUNet, list[Tensor]] = {scaled: [], plain: []}
    for model, seen in inputs.items():
        model.up[1].blocks[0].register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            call(model)
    (a,), (b,) = inputs.values()
    torch.testing.assert_close(a[:, :16], b[:, :16])  # from below
    torch.testing.assert_close(a[:, 16:], b[:, 16:] * 2**-0.5)  # the skip
    assert (call(scaled) - call(plain)).abs().max() > 1e-3


def test_blocks_per_level_go_to_the_low_resolution():
    more = build(dataclasses.replace(EFFICIENT, blocks=(1, 4)))
    assert [len(block.blocks) for block in (*more.down, *more.up)] == [1, 4, 4, 1]


def test_recording_changes_nothing_and_names_every_attention():
    model = build(EFFICIENT).eval()
    with torch.no_grad():
        expected = call(model)
        with record_attention(model) as records:
            torch.testing.assert_close(call(model), expected)
    names = ["down.0.attention.0", "down.1.attention.1", "up.0.attention.1", "up.1.attention.0"]
    assert list(records) == names  # after the last of the level's blocks
    assert records["down.0.attention.0"][0].shape == (2, 1, 64, 5)  # cross: the text alone
    assert records["down.1.attention.1"][0].shape == (2, 2, 16, 16 + 5)  # self: pixels, then text


def test_attention_after_each_block_can_grow_out_of_attention_after_the_last():
    """The added ones begin with a zero output, so a trained network can be given them without forgetting."""
    small = build(CLASSIC).eval()
    grown = EfficientUNet(EACH).eval()
    missing, unexpected = grown.load_state_dict(small.state_dict(), strict=False)
    assert not unexpected and {name.rsplit(".attention.")[0] for name in missing} == {"down.1", "up.0"}
    torch.testing.assert_close(call(grown), call(small))
    with record_attention(grown) as records:
        call(grown)
    assert len(records) == 6 and all(len(calls) == 1 for calls in records.values())


@KINDS
def test_save_and_load(config: UNetConfig, tmp_path: Path):
    model = build(config).eval()
    sha = model.save_pretrained(tmp_path, {"recipe": "toy"})
    loaded = EfficientUNet.from_pretrained(tmp_path)
    assert loaded.config == config and not loaded.training
    assert json.loads((tmp_path / "manifest.json").read_text())["sha256"] == sha
    with torch.no_grad():
        torch.testing.assert_close(call(loaded), call(model.half().float()))


@pytest.mark.parametrize(
    ("text_of_config", "message"),
    [('{"channels": [16], "depth": 3}', "unknown U-Net options.*depth"), ('{"channels": 16}', "describes no U-Net")],
)
def test_config_of_something_else(tmp_path: Path, text_of_config: str, message: str):
    build(EFFICIENT).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text_of_config)
    with pytest.raises(WeightsError, match=message):
        EfficientUNet.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": (16,)}, r"blocks=\(1, 2\) must have one entry a level"),
        ({"channels": (16, 40)}, r"channels=\(16, 40\) must be multiples of 16"),
        ({"blocks": (0, 1)}, r"blocks=\(0, 1\) must be at least 1"),
        ({"attention": (None, "text")}, "attention=.*'text'.* must be None"),
        ({"strides": (4, 2)}, r"strides=\(4, 2\) must be 1 or 2"),
        ({"order": "biggan"}, "order='biggan' must be"),
        ({"order": "classic"}, r"make strides=\(2, 2\) start with 1"),
        ({"text": "mean"}, "text='mean' must be"),
        ({"text": "pooled"}, '"pooled" leaves "cross" attention nothing'),
        ({"patch": 3}, "patch=3 must be 1, 2 or 4"),
        ({"text_dim": 0}, "text_dim=0 must be"),
        ({"head_channels": 24}, r"head_channels=24 must divide .*\[16, 32\]"),
    ],
)
def test_impossible_configs(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EFFICIENT, **change)


def test_inputs_that_do_not_fit():
    model, sr = build(EFFICIENT), build(SUPER_RES)
    x_t, t = torch.randn(2, 3, 16, 16), torch.rand(2)
    with pytest.raises(ValueError, match="pictures are 18x16, but this U-Net needs multiples of 4"):
        model(torch.randn(2, 3, 18, 16), t, text())
    with pytest.raises(ValueError, match=r"text is \(3, 5, 12\), but this U-Net needs \(2, L, 12\)"):
        model(x_t, t, text(3))
    with pytest.raises(ValueError, match="takes neither low_res nor aug_level"):
        model(x_t, t, text(), x_t, t)
    with pytest.raises(ValueError, match="needs both low_res and aug_level"):
        sr(x_t, t, text(), x_t)
    with pytest.raises(ValueError, match=r"low_res is \(2, 3, 4, 4\), but must be upsampled"):
        sr(x_t, t, text(), torch.randn(2, 3, 4, 4), t)
