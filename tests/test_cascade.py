"""The cascade with tiny random stages, 16 → 32: what reaches each network, what a seed fixes, what is refused."""

import dataclasses
import json
import math
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import imagen_lite as il
from imagen_lite import cascade as cascade_module
from imagen_lite import weights
from imagen_lite.augmentation import noise_conditioning_augmentation, upsample
from imagen_lite.cascade import Cascade, load_cascade, to_pil
from imagen_lite.stage import Sampling, Stage, default_device, default_dtype, load_stage
from imagen_lite.text import TextEmbedding
from imagen_lite.unet import EfficientUNet, UNetConfig

PROMPTS = ["a red cone", "a small blue house on the grass next to a tree", "two ducks", "a cube"]
TINY = UNetConfig(
    channels=(16, 32), blocks=(1, 1), attention=(None, "self"), strides=(1, 2), text_dim=8, head_channels=16
)


class FakeEncoder:
    """One random token for each word of a caption, the same for the same word."""

    name, fingerprint, dim, max_length = "fake", "fake", 8, 32

    def __call__(self, captions: list[str]) -> TextEmbedding:
        longest = max(len(c.split()) for c in captions)
        tokens, mask = torch.zeros(len(captions), longest, 8), torch.zeros(len(captions), longest, dtype=torch.bool)
        for i, caption in enumerate(captions):
            for j, word in enumerate(caption.split()):
                generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
                tokens[i, j], mask[i, j] = torch.randn(8, generator=generator), True
        return TextEmbedding(tokens, mask)


def tiny_stage(resolution: int, *, low_res: bool = False, **kw) -> Stage:
    torch.manual_seed(resolution)
    unet = EfficientUNet(dataclasses.replace(TINY, low_res=low_res)).eval().requires_grad_(False)
    for parameter in unet.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))  # the last layer starts at zero, which would prove nothing
    schedule = il.LinearSchedule() if low_res else il.CosineSchedule(-8.0, 8.0)
    return Stage(unet, schedule, resolution, sampling=Sampling(steps=4, guidance_weight=2.0), **kw)


@pytest.fixture
def base():
    return Cascade(FakeEncoder(), {16: tiny_stage(16)}, torch.float32)


@pytest.fixture
def both():
    return Cascade(FakeEncoder(), {32: tiny_stage(32, low_res=True), 16: tiny_stage(16)}, torch.float32)


def record(stage: Stage, monkeypatch) -> list[tuple]:
    """All inputs of a stage's network calls."""
    calls, forward = [], stage.unet.forward
    monkeypatch.setattr(stage.unet, "forward", lambda *inputs: calls.append(inputs) or forward(*inputs))
    return calls


# What a seed fixes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ddpm", "ddim", "dpmpp_2m"])
def test_a_picture_is_the_same_alone_and_in_a_batch(both, method):
    prompts = (PROMPTS * 2)[:8]
    batch = both.sample(prompts, seed=5, method=method).images
    for i in (0, 1, 7):
        alone = both.sample([prompts[i]], seed=5 + i, method=method).images
        assert (alone[0] - batch[i]).abs().max() <= 1e-4


def test_seeds_differ_and_may_be_a_list(base):
    out = base.sample(["a red cone"] * 3, seed=[7, 8, 7])
    assert out.seeds == [7, 8, 7]
    assert (out.images[0] - out.images[2]).abs().max() <= 1e-4
    assert (out.images[0] - out.images[1]).abs().mean() > 0.05


def test_reduced_precision_draws_the_same_picture(both):
    exact = both.sample(PROMPTS).images
    reduced = Cascade(both.text_encoder, both.stages, torch.bfloat16).sample(PROMPTS).images
    assert 0 < (exact - reduced).abs().mean() <= 2 / 127.5


# What reaches the networks --------------------------------------------------------------------------------------


def test_the_cascade_runs_stage_after_stage(both):
    out = both.sample(PROMPTS)
    assert list(out.stages) == [16, 32] and out.stages[16].shape == (4, 3, 16, 16)
    assert out.images is out.stages[32] and out.images.shape == (4, 3, 32, 32) and out.images.dtype == torch.float32
    assert out.images.abs().max() <= 1
    small = both.sample(PROMPTS, resolution=16)
    assert list(small.stages) == [16] and torch.equal(small.images, out.stages[16])


def test_low_res_is_augmented_once_and_alike_for_both_halves(both, monkeypatch):
    calls = record(both.stages[32], monkeypatch)
    out = both.sample(PROMPTS, aug_level=0.25, method="ddpm")
    assert len(calls) == 4
    first = calls[0][3]
    for _, _, _, low_res, aug_level in calls:
        assert torch.equal(low_res, first) and torch.equal(low_res[:4], low_res[4:])
        assert torch.all(aug_level == 0.25)  # the level, not its sigma
    # What was added is noise of sigma = sin(pi/8), at the low resolution: upsampling it is a known linear map.
    rest = (first[:4] - math.cos(math.pi / 8) * upsample(out.stages[16], 32)) / math.sin(math.pi / 8)
    assert rest.std() == pytest.approx(upsample(torch.randn(64, 3, 16, 16), 32).std().item(), rel=0.1)


def test_a_picture_of_ones_own_is_where_the_cascade_begins(both, monkeypatch):
    drawn = both.sample(PROMPTS, seed=3)
    small = record(both.stages[16], monkeypatch)
    given = both.sample(PROMPTS, seed=3, low_res=drawn.stages[16])
    assert not small and list(given.stages) == [32]
    assert torch.equal(given.images, drawn.images)  # the same noise, whoever drew the picture before


@pytest.mark.parametrize("start", [-5.0, 1.0])
def test_sampling_that_begins_late_begins_with_what_the_low_res_picture_says(both, start):
    """Noise alone would say that the picture is grey, at a level where there should be some of it."""
    stage = both.stages[32]
    stage = dataclasses.replace(stage, sampling=dataclasses.replace(stage.sampling, lambda_start=start, aug_level=0.0))
    states = []
    low_res = torch.full((len(PROMPTS), 3, 16, 16), 0.8)
    Cascade(FakeEncoder(), {16: both.stages[16], 32: stage}).sample(
        PROMPTS, low_res=low_res, seed=0, callback=lambda size, state: states.append(state)
    )
    alpha, sigma = states[0].t.alpha, states[0].t.sigma
    noise = (states[0].x_t - alpha * 0.8) / sigma
    assert states[0].t.log_snr == pytest.approx(start)
    assert float(noise.mean()) == pytest.approx(0, abs=0.03) and float(noise.std()) == pytest.approx(1, abs=0.03)


def test_large_pictures_go_through_the_network_a_few_at_a_time(both, monkeypatch):
    whole = both.sample(PROMPTS, seed=3).images
    calls = record(both.stages[32], monkeypatch)
    monkeypatch.setattr(cascade_module, "AT_ONCE", 3 * 32**2)
    few = both.sample(PROMPTS, seed=3).images
    assert [len(call[0]) for call in calls] == [3, 3, 2] * 4
    assert (few - whole).abs().max() <= 1e-4


def test_a_network_is_told_the_angle_of_its_noise_whatever_the_schedule(both, monkeypatch):
    calls, seen = record(both.stages[32], monkeypatch), []
    both.sample(PROMPTS, callback=lambda size, state: seen.append(state.t) if size == 32 else None)
    for call, level in zip(calls, seen, strict=True):
        assert float(call[1][0]) == pytest.approx(math.atan2(level.sigma, level.alpha) * 2 / math.pi, abs=1e-5)


def test_guidance_off_costs_half(base, monkeypatch):
    calls = record(base.stages[16], monkeypatch)
    base.sample(PROMPTS, guidance_weight=1.0)
    base.sample(PROMPTS, guidance_weight=1.5)
    assert [len(call[0]) for call in calls] == [4] * 4 + [8] * 4


def test_text_and_its_masks_reach_the_network(base, monkeypatch):
    calls = record(base.stages[16], monkeypatch)
    base.sample(PROMPTS)
    text: TextEmbedding = calls[0][2]
    assert text.mask.sum(1).tolist() == [3, 11, 2, 2, 1, 1, 1, 1]
    assert text.tokens[4:].abs().max() == 0


def test_values_for_each_stage(both, monkeypatch):
    first, second = record(both.stages[16], monkeypatch), record(both.stages[32], monkeypatch)
    both.sample(PROMPTS, steps={16: 3, 32: 2}, guidance_weight={32: 1.0})
    assert len(first) == 3 and len(second) == 2
    assert len(first[0][0]) == 8 and len(second[0][0]) == 4  # 16 keeps its own weight, 2


def test_your_own_guidance_and_threshold(base):
    plain = base.sample(PROMPTS, guidance_weight=1.0, threshold="static").images
    own = base.sample(PROMPTS, guidance_weight=9.0, guidance=lambda c, u, w: c, threshold=lambda x: x.clamp(-1, 1))
    assert (own.images - plain).abs().max() <= 1e-4
    assert not torch.equal(base.sample(PROMPTS, guidance_weight=9.0, threshold="static").images, plain)


def test_percentile_matters_to_dynamic_alone(base):
    def drawn(threshold, percentile):
        return base.sample(PROMPTS, guidance_weight=9.0, threshold=threshold, percentile=percentile).images

    assert not torch.equal(drawn("dynamic", 0.5), drawn("dynamic", 0.995))
    assert torch.equal(drawn("static", 0.5), drawn("static", 0.995))


def test_callback_sees_every_state(both):
    seen = []
    both.sample(
        ["a cube"], callback=lambda resolution, state: seen.append((resolution, state.index, state.x0.shape[-1]))
    )
    assert seen == [(16, i, 16) for i in range(4)] + [(32, i, 32) for i in range(4)]


# Noise conditioning augmentation --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1))
def test_augmentation_preserves_variance(level):
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    out = noise_conditioning_augmentation(x, level, torch.Generator().manual_seed(2))
    assert out.std().item() == pytest.approx(1, abs=0.03)
    eps = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    expected = math.cos(math.pi / 2 * level) * x + math.sin(math.pi / 2 * level) * eps
    assert (out - expected).abs().max() < 1e-5


def test_augmentation_takes_a_level_for_each_picture():
    x = torch.randn(2, 3, 8, 8)
    out = noise_conditioning_augmentation(x, torch.tensor([0.0, 1.0]))
    assert torch.equal(out[0], x[0]) and (out[1] - x[1]).abs().mean() > 0.5


@pytest.mark.parametrize("level", [-0.1, 1.1, math.nan])
def test_augmentation_refuses_levels_out_of_range(level):
    with pytest.raises(ValueError, match=r"aug_level must be within \[0, 1\]"):
        noise_conditioning_augmentation(torch.zeros(1, 3, 8, 8), level)


# What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({"guidance_weight": math.nan}, "guidance weight must be a finite number.*nan"),
        ({"guidance_weight": -1.0}, "guidance weight.*-1"),
        ({"guidance_weight": math.inf}, "guidance weight.*inf"),
        ({"guidance_weight": {128: 2.0}}, "guidance_weight names a stage 128; the stages are 16"),
        ({"threshold": "clip"}, "threshold must be 'none', 'static', 'dynamic'.*'clip'"),
        ({"percentile": 99.5}, "percentile is a fraction in.*99.5"),
        ({"percentile": math.nan}, "percentile.*nan"),
        ({"percentile": 0.0, "threshold": "static"}, "percentile"),
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"seed": -1}, "a seed must be from 0.*-1"),
        ({"seed": [1, 2]}, "2 seeds were given for 1 prompts"),
        ({"low_res": torch.zeros(1, 3, 16, 16)}, "low_res is 16×16, but .* below one that is to run"),
        ({"low_res": torch.zeros(1, 3, 20, 20)}, "low_res is 20×20"),
        ({"low_res": torch.zeros(1, 3, 64, 32)}, "square"),
        ({"low_res": torch.zeros(1, 1, 64, 64)}, "three colours"),
        ({"low_res": torch.zeros(2, 3, 64, 64)}, "2 pictures in low_res for 1 prompts"),
        ({"low_res": torch.full((1, 3, 64, 64), 255.0)}, r"within \[-1, 1\], not from 255 to 255"),
        ({"low_res": torch.full((1, 3, 64, 64), torch.nan)}, "within"),
        ({"low_res": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}, "float tensor.*uint8"),
        ({"low_res": [[0.0]]}, "float tensor.*list"),
        ({"aug_level": 2.0}, "aug_level must be within"),
        ({"method": "euler"}, "method must be ddpm, ddim, dpmpp_2m.*'euler'"),
        ({"resolution": 128}, "resolution must be 16, the stages that are there, not 128"),
        ({"resolution": 256}, "no 256-pixel stage.*imagen-lite train sr256.*resolution of 16"),
    ],
)
def test_values_that_cannot_be_drawn(base, monkeypatch, given_values, message):
    calls = record(base.stages[16], monkeypatch)
    with pytest.raises(ValueError, match=message) as caught:
        base.sample(["a red cone"], **given_values)
    assert not calls and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "there are no prompts"),
        ([""], "the prompt '' has no words"),
        (["a cone", "  \n"], "has no words"),
        (["123 !?"], "'123 !\\?' has no words"),
        ([None], "a prompt must be a string, not None"),
        (["a red cone " * 500], "5,500 characters.*2,000 at most"),
        (["красный конус на траве"], "'красный конус на траве' is not in English"),
        (["草地上的红色圆锥"], "is not in English"),
    ],
)
def test_prompts_that_cannot_be_drawn(base, prompts, message):
    with pytest.raises(ValueError, match=message):
        base.sample(prompts)


def test_words_it_never_saw_are_drawn_all_the_same(base):
    assert base.sample("ein Astronaut auf einem Pferd").images.shape == (1, 3, 16, 16)


def test_stages_must_be_named_by_their_resolution():
    with pytest.raises(ValueError, match=r"stages must be \{resolution: Stage\}"):
        Cascade(FakeEncoder(), {64: tiny_stage(16)})


# Pictures -------------------------------------------------------------------------------------------------------


def test_pil_clips_and_rounds():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 7.0]).expand(1, 3, 2, 5)
    (picture,) = to_pil(x)
    assert picture.size == (5, 2) and picture.mode == "RGB"
    assert [picture.getpixel((i, 0))[0] for i in range(5)] == [0, 0, 128, 255, 255]


def test_a_sample_gives_pil_images(base):
    out = base.sample(PROMPTS, threshold="none", guidance_weight=50.0)
    assert [p.size for p in out.pil()] == [(16, 16)] * 4
    assert out.images.abs().max() <= 1 and out.prompts == PROMPTS


# Weights --------------------------------------------------------------------------------------------------------


def save_stage(stage: Stage, folder, **more) -> None:
    weights.save_pretrained(folder, stage.unet, stage.config() | more, {"recipe": "test"}, dtype=None)


def test_a_stage_comes_back_as_it_was_saved(tmp_path):
    stage = tiny_stage(32, low_res=True, kind="v")
    save_stage(stage, tmp_path)
    loaded = load_stage(tmp_path, "cpu")
    assert loaded.config() == stage.config() and loaded.schedule == stage.schedule and not loaded.unet.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.unet.parameters(), stage.unet.parameters(), strict=True))


def test_load_cascade_takes_the_stages_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(cascade_module, "load_text_encoder", lambda path, device: FakeEncoder())
    save_stage(tiny_stage(64), tmp_path / "base64")
    save_stage(tiny_stage(1024, low_res=True), tmp_path / "sr1024")  # of no use without sr256
    loaded = load_cascade("cpu", torch.float32, tmp_path)
    assert list(loaded.stages) == [64] and loaded.sample(["a cone"], steps=1).images.shape == (1, 3, 64, 64)
    assert loaded.describe().startswith("base64 (0.") and "fake on cpu, float32" in loaded.describe()
    save_stage(tiny_stage(256, low_res=True), tmp_path / "sr256")
    assert list(load_cascade("cpu", torch.float32, tmp_path).stages) == [64, 256, 1024]


def test_missing_and_damaged_stages_are_one_sentence(tmp_path):
    with pytest.raises(weights.WeightsError, match="No weights at .*base64"):
        load_cascade("cpu", folder=tmp_path)
    save_stage(tiny_stage(64), tmp_path / "base64", schedule={"name": "sigmoid"})
    with pytest.raises(weights.WeightsError, match="describes no stage of this version.*sigmoid"):
        load_cascade("cpu", folder=tmp_path)
    save_stage(tiny_stage(64), tmp_path / "base64")
    tensors = tmp_path / "base64" / weights.TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(weights.WeightsError, match="damaged or incomplete") as caught:
        load_cascade("cpu", folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_config_is_json(tmp_path):
    assert json.loads(json.dumps(tiny_stage(16).config()))["schedule"] == {
        "name": "cosine", "lambda_min": -8.0, "lambda_max": 8.0, "shift": 0.0,
    }  # fmt: skip


def test_devices_and_precision(monkeypatch):
    assert default_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device 'tpu' is not there; choose from .*cpu"):
        default_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_device().type == "cuda"
    for capability, dtype in (((8, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert default_dtype(torch.device("cuda")) == dtype
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda n=native: n, raising=False)
        assert default_dtype(torch.device("cpu")) == dtype
