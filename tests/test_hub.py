"""DeepFloyd IF's kind of model in our cascade: tiny random U-Nets in the published layout, against `diffusers`."""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.deepfloyd_if import pipeline_if_superresolution
from diffusers.schedulers import scheduling_ddpm
from transformers import AutoTokenizer, T5EncoderModel

from imagen_lite import weights
from imagen_lite.cascade import Cascade
from imagen_lite.hub import EmptyNull, PipelineTextEncoder, load_diffusers_stage
from imagen_lite.hub.pipeline import resolve_pipeline
from imagen_lite.hub.schedule import DiscreteSchedule
from imagen_lite.sampler import keyed_noise
from imagen_lite.text import EmbeddingCache, TextEmbedding, load_text_encoder, null_text
from imagen_lite.thresholding import dynamic_threshold
from imagen_lite.weights import WeightsError

T5 = weights.DATA / "weights" / "t5-lite-base"
PROMPTS = ["a Red cone on the grass", "two small ducks next to a blue house"]
BLOCKS = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
}
IF = {
    **BLOCKS, "sample_size": 16, "in_channels": 3, "out_channels": 6, "cross_attention_dim": 64,
    "encoder_hid_dim": 256, "encoder_hid_dim_type": "text_proj", "attention_head_dim": 16, "act_fn": "gelu",
    "cross_attention_norm": "group_norm", "resnet_time_scale_shift": "scale_shift", "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
}  # fmt: skip
IF_II = {**IF, "sample_size": 32, "in_channels": 6, "class_embed_type": "timestep"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CUSTOM = {"trained_betas": [0.01 + 0.001 * i for i in range(40)], "num_train_timesteps": 40}
DYNAMIC = {"thresholding": True, "dynamic_thresholding_ratio": 0.95, "sample_max_value": 1.5}
PUBLISHED = {**COSINE, **DYNAMIC, "variance_type": "fixed_small", "timestep_spacing": "trailing"}
MILD = partial(dynamic_threshold, percentile=0.95, cap=1.5)  # DYNAMIC in our words


def save_pipeline(folder: Path, config: dict, scheduler=None, noising=None, seed: int = 0, **options) -> Path:
    """A pipeline with a random U-Net, of the class that the config is of."""
    torch.manual_seed(seed)
    kind = UNet2DConditionModel if "cross_attention_dim" in config else UNet2DModel
    kind(**config).save_pretrained(folder / "unet", **options)
    (scheduler or DDPMScheduler(**PUBLISHED)).save_pretrained(folder / "scheduler")
    if noising:
        noising.save_pretrained(folder / "image_noising_scheduler")
    (folder / "text_encoder").symlink_to(T5)
    (folder / "tokenizer").symlink_to(T5)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("if"), IF)


@pytest.fixture(scope="module")
def sr(tmp_path_factory) -> Path:
    """Of linear betas: where the cosine's alpha begins, at 5e-5, the last bit of x_T moves the picture by 3e-3."""
    linear = DDPMScheduler(**{**PUBLISHED, "beta_schedule": "linear"})
    return save_pipeline(tmp_path_factory.mktemp("if2"), IF_II, linear, noising=DDPMScheduler(**SCALED), seed=1)


@pytest.fixture(scope="module")
def encoder(base) -> EmptyNull:
    return EmptyNull(PipelineTextEncoder(base, dtype=torch.float32))


def load(folder: Path, **options):
    return load_diffusers_stage(folder, device="cpu", dtype=torch.float32, **options)


def theirs(folder: Path, kind=IFPipeline, **parts):
    """The published pipeline on the same weights, from the same folder."""
    parts |= dict.fromkeys(("safety_checker", "feature_extractor", "watermarker"))
    parts |= {
        "scheduler": DDPMScheduler.from_pretrained(folder / "scheduler"),
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "tokenizer": AutoTokenizer.from_pretrained(T5),
        "text_encoder": T5EncoderModel.from_pretrained(T5, dtype=torch.float32),
    }
    pipeline = kind(requires_safety_checker=False, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def record(stage, monkeypatch) -> list[dict]:
    """What each call of the network of `diffusers` was given."""
    calls, forward = [], stage.unet.unet.forward

    def recorded(sample, timestep, **conditions):
        calls.append({"sample": sample, "timestep": timestep, **conditions})
        return forward(sample, timestep, **conditions)

    monkeypatch.setattr(stage.unet.unet, "forward", recorded)
    return calls


# The whole loop, against diffusers ------------------------------------------------------------------------------


def test_the_base_draws_what_the_published_pipeline_draws(base, encoder):
    """From prompts to pictures: text, null condition, timesteps, guidance, IF's dynamic threshold, DDPM."""
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    expected = theirs(base)(
        PROMPTS, num_inference_steps=10, guidance_scale=7.0, generator=generators, output_type="pt", clean_caption=False
    ).images
    cascade = Cascade(encoder, {16: load(base)}, torch.float32)
    ours = cascade.sample(PROMPTS, steps=10, guidance_weight=7.0, threshold=MILD, method="ddpm", seed=5).images
    assert (ours - expected).abs().max() <= 1e-3 and ours.std() > 0.1
    assert (cascade.sample(PROMPTS, steps=10, guidance_weight=7.0, threshold="dynamic").images - ours).std() > 0.01


@pytest.mark.parametrize("noise_level", [0, 250, 999])
def test_super_resolution_draws_what_the_published_pipeline_draws(base, sr, encoder, monkeypatch, noise_level):
    small = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    shape, noising = (2, 3, 32, 32), DDPMScheduler.from_pretrained(sr / "image_noising_scheduler")
    noise, of_low_res = keyed_noise(5, shape, stream=2), keyed_noise(5, shape, stream=3)
    drawn = iter([noise(), of_low_res()])  # first x_T, then the noise of the low-res picture
    monkeypatch.setattr(pipeline_if_superresolution, "randn_tensor", lambda *_, **__: next(drawn))
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: noise())
    pipeline = theirs(sr, IFSuperResolutionPipeline, image_noising_scheduler=noising)
    settings = {
        "num_inference_steps": 10,
        "guidance_scale": 4.0,
        "output_type": "pt",
        "noise_level": noise_level,
        "clean_caption": False,
    }
    expected = pipeline(PROMPTS, image=small, **settings).images
    stage = load(sr)
    cascade = Cascade(encoder, {16: load(base), 32: stage}, torch.float32)
    ours = cascade.sample(
        PROMPTS, low_res=small, steps=10, threshold=MILD, seed=5, aug_level=stage.aug_level(noise_level)
    ).images
    assert (ours - expected).abs().max() <= 2e-4 and ours.std() > 0.1


def test_ddim_draws_what_the_loop_of_diffusers_draws(tmp_path, encoder):
    folder = save_pipeline(tmp_path, IF, DDIMScheduler(clip_sample=False, timestep_spacing="trailing"))
    cascade = Cascade(encoder, {16: load(folder)}, torch.float32)
    ours = []
    settings = {"method": "ddim", "threshold": "none", "guidance_weight": 3.0, "steps": 20}
    cascade.sample(PROMPTS, seed=5, callback=lambda _, state: ours.append(state.x0), **settings)
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(20)
    unet, text = UNet2DConditionModel.from_pretrained(folder / "unet"), encoder(PROMPTS)
    x_t = keyed_noise(5, (2, 3, 16, 16))()
    with torch.no_grad():
        for t in scheduler.timesteps:
            cond, uncond = (unet(x_t, t, e.tokens).sample[:, :3] for e in (text, text.null()))
            x_t = scheduler.step(uncond + 3.0 * (cond - uncond), t, x_t).prev_sample
    assert (ours[-1] - x_t).abs().max() <= 1e-3 * float(x_t.abs().max()) and x_t.std() > 0.1


def test_a_network_without_text_draws_what_its_pipeline_draws(tmp_path, encoder):
    config = {
        "sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    folder = save_pipeline(tmp_path, config, DDPMScheduler(timestep_spacing="trailing"))
    pipeline = DDPMPipeline(
        UNet2DModel.from_pretrained(folder / "unet"), DDPMScheduler.from_pretrained(folder / "scheduler")
    )
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    expected = pipeline(2, generators, num_inference_steps=10, output_type="np").images
    stage = load(folder)
    assert stage.sampling.guidance_weight == 1.0
    ours = Cascade(encoder, {16: stage}, torch.float32).sample(PROMPTS, steps=10, threshold="static", seed=5).images
    assert ((ours + 1) / 2 - torch.from_numpy(expected).permute(0, 3, 1, 2)).abs().max() <= 1e-3


def test_a_cascade_of_two_runs_as_ours_do(base, sr, encoder):
    stages, seen = {16: load(base), 32: load(sr)}, []
    cascade = Cascade(encoder, stages, torch.float32)
    out = cascade.sample(
        PROMPTS, steps={16: 3, 32: 2}, method="dpmpp_2m", callback=lambda size, state: seen.append((size, state.index))
    )
    assert seen == [(16, 0), (16, 1), (16, 2), (32, 0), (32, 1)]
    assert out.images.shape == (2, 3, 32, 32) and bool(out.images.isfinite().all())
    alone = cascade.sample(PROMPTS[1], seed=1, steps={16: 3, 32: 2}, method="dpmpp_2m").images
    assert (alone[0] - out.images[1]).abs().max() <= 1e-4
    assert stages[16].sampling.guidance_weight == 7.0 and stages[32].sampling.guidance_weight == 4.0
    assert "16×16, 32×32" in cascade.describe()


# Time and noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("betas", [COSINE, SCALED, CUSTOM, {}], ids=["cosine", "scaled", "custom", "linear"])
def test_the_schedule_is_the_schedulers_own(tmp_path, betas):
    scheduler = DDPMScheduler(**betas)
    stage = load(save_pipeline(tmp_path, IF, scheduler))
    steps = torch.arange(len(scheduler.alphas_cumprod))
    t = stage.schedule.time(steps)
    assert (stage.schedule.alpha(t) - scheduler.alphas_cumprod.sqrt()).abs().max() <= 1e-5
    assert (stage.schedule.sigma(t) - (1 - scheduler.alphas_cumprod).sqrt()).abs().max() <= 1e-5
    assert torch.equal(stage.schedule.step(stage.schedule.angle(t)), steps)  # in float32, as a cascade passes it
    assert (stage.schedule.t(stage.schedule.log_snr(t.double())) - t).abs().max() <= 1e-6


def test_between_steps_the_nearest_is_told():
    schedule = DiscreteSchedule(tuple(DDPMScheduler(**COSINE).alphas_cumprod.double().tolist()))
    between = schedule.time(torch.tensor([500.4, 500.6, -0.7]))
    assert schedule.step(schedule.angle(between)).tolist() == [500, 501, 0]
    assert schedule.step(torch.tensor([0.0, 1.0])).tolist() == [0, 999]
    snr = schedule.log_snr(schedule.time(torch.tensor([500.0, 500.4, 501.0])))
    assert snr[0] > snr[1] > snr[2] and (snr[1] - (0.6 * snr[0] + 0.4 * snr[2])).abs() < 1e-4


def test_the_network_is_told_integer_steps(base, encoder, monkeypatch):
    stage = load(base)
    calls = record(stage, monkeypatch)
    Cascade(encoder, {16: stage}, torch.float32).sample(PROMPTS, steps=8, guidance_weight=1.0)
    assert [call["timestep"].tolist() for call in calls] == [[i] * 2 for i in range(999, 0, -125)]
    assert calls[0]["timestep"].dtype == torch.int64


@pytest.mark.parametrize("table", [(), (0.5,), (0.9, 0.5, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, math.nan)])
def test_a_table_that_does_not_fall_is_refused(table):
    with pytest.raises(ValueError, match="alphas_cumprod must fall at every step within"):
        DiscreteSchedule(table)


def test_every_noise_level_goes_there_and_back_and_is_the_noise_applied(base, sr):
    stage, scheduler = load(sr), DDPMScheduler(**SCALED)
    levels = torch.arange(1000)
    angles = torch.tensor([stage.aug_level(n) for n in range(1000)])
    assert torch.equal(stage.unet.noising.step(angles), levels)
    assert (torch.cos(math.pi / 2 * angles) - scheduler.alphas_cumprod.sqrt()).abs().max() <= 1e-5
    small, noise = torch.rand(1000, 3, 2, 2), torch.randn(1000, 3, 32, 32)
    low_res = stage.condition(small, angles, lambda shape: noise)
    large = torch.nn.functional.interpolate(small, (32, 32), mode="bilinear", align_corners=True)
    assert (low_res - scheduler.add_noise(large, noise, levels)).abs().max() <= 1e-4
    assert stage.sampling.aug_level == stage.aug_level(250)
    for number in (-1, 1000):
        with pytest.raises(ValueError, match=f"one of this stage's 1000 steps, from 0, not {number}"):
            stage.aug_level(number)
    with pytest.raises(ValueError, match="0 steps"):
        load(base).aug_level(0)


def test_the_low_res_picture_and_its_level_reach_the_network(base, sr, encoder, monkeypatch):
    stage = load(sr)
    calls = record(stage, monkeypatch)
    cascade = Cascade(encoder, {16: load(base), 32: stage}, torch.float32)
    cascade.sample(PROMPTS, low_res=torch.zeros(2, 3, 16, 16), steps=2, seed=3, aug_level=stage.aug_level(777))
    alpha2 = DDPMScheduler(**SCALED).alphas_cumprod[777]
    for call in calls:
        assert call["class_labels"].tolist() == [777] * 4
        low_res = call["sample"][:, 3:] / (1 - alpha2).sqrt()
        assert torch.equal(call["sample"][:2, 3:], calls[0]["sample"][:2, 3:])  # once, for both halves and all steps
        assert torch.equal(low_res[:2], low_res[2:])
        assert (low_res[:2] - keyed_noise(3, (2, 3, 32, 32), stream=3)()).abs().max() <= 1e-4


# What the network says and is given -----------------------------------------------------------------------------


def test_the_learned_variance_is_dropped(base, encoder):
    stage = load(base)
    text, x_t = encoder(PROMPTS), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        said = stage.unet.unet(x_t, torch.tensor([899, 899]), text.tokens).sample
        ours = stage.unet(x_t, stage.schedule.angle(torch.tensor([0.9, 0.9])), text)
    assert said.shape[1] == 6 and ours.shape == (2, 3, 16, 16)
    assert (ours - said[:, :3]).abs().max() <= 1e-5 and (said[:, 3:] - said[:, :3]).abs().max() > 0.01


def test_the_null_condition_is_the_empty_string(base, encoder, monkeypatch):
    stage = load(base)
    calls = record(stage, monkeypatch)
    Cascade(encoder, {16: stage}, torch.float32).sample(PROMPTS, steps=1)
    given = calls[0]["encoder_hidden_states"]
    ids = torch.tensor([[1] + [0] * 76])  # the end, and padding
    expected = T5EncoderModel.from_pretrained(T5, dtype=torch.float32)(ids, attention_mask=(ids == 1).long())[0]
    assert given.shape == (4, 77, 256) and expected.abs().max() > 0.1
    assert (given[2:] - expected).abs().max() <= 1e-5
    assert bool(calls[0]["encoder_attention_mask"].all())


def test_zeros_for_the_null_condition_are_refused(base):
    cascade = Cascade(load_text_encoder(T5), {16: load(base)}, torch.float32)
    assert cascade.sample(PROMPTS, steps=1, guidance_weight=1.0).images.shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="null condition is zeros.*EmptyNull") as caught:
        cascade.sample(PROMPTS, steps=1, guidance_weight=2.0)
    assert "\n" not in str(caught.value)


def test_masked_tokens_are_not_attended_to(tmp_path):
    """With an encoder that masks its padding, where the U-Net pools and normalises no tokens over that (IF's does)."""
    config = {name: value for name, value in IF.items() if not name.startswith(("addition", "cross_attention_norm"))}
    unet = load(save_pipeline(tmp_path, config)).unet
    text = EmptyNull(load_text_encoder(T5))(["a cone"])
    junk = torch.cat([text.tokens, torch.full((1, 3, 256), 7.0)], dim=1)
    masked, real = (torch.cat([text.mask, torch.full((1, 3), v)], dim=1) for v in (False, True))
    x_t, t = torch.randn(1, 3, 16, 16), torch.tensor([0.5])
    alone, with_junk, junk_seen = (
        unet(x_t, t, e) for e in (text, TextEmbedding(junk, masked), TextEmbedding(junk, real))
    )
    assert (alone - with_junk).abs().max() <= 1e-5 and (alone - junk_seen).abs().max() > 1e-3


def test_precision_and_resolution(tmp_path):
    """Half precision takes the weights stored in it; what comes out is float32, at any size that fits."""
    folder = save_pipeline(tmp_path, IF, seed=0)
    torch.manual_seed(1)
    other = UNet2DConditionModel(**IF).half()
    other.save_pretrained(folder / "unet", variant="fp16")
    full, half = load(folder), load_diffusers_stage(folder, 32, "cpu", torch.bfloat16)
    assert half.resolution == 32 and full.resolution == 16
    weight, other_weight = next(half.unet.parameters()), next(other.parameters())
    assert weight.dtype == torch.bfloat16 and torch.equal(weight, other_weight.to(torch.bfloat16))
    assert next(full.unet.parameters()).dtype == torch.float32
    text = EmptyNull(load_text_encoder(T5))(PROMPTS)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            out = half.unet(torch.randn(2, 3, 32, 32), torch.tensor([0.5, 0.5]), text)
        assert out.dtype == torch.float32 and out.shape == (2, 3, 32, 32)


# Text -----------------------------------------------------------------------------------------------------------


def test_captions_are_read_as_the_pipeline_reads_them(base, encoder, monkeypatch):
    expected, empty = theirs(base).encode_prompt(PROMPTS, device="cpu")
    text = encoder(PROMPTS)
    assert (text.tokens - expected).abs().max() <= 1e-5 and bool(text.mask.all())
    assert (text.null().tokens - empty).abs().max() <= 1e-5 and len(text.null()) == 2
    read, tokenizer = [], encoder.encoder.tokenizer  # this tokenizer knows no capitals, T5's own does
    monkeypatch.setattr(
        encoder.encoder, "tokenizer", lambda texts, **rest: read.extend(texts) or tokenizer(texts, **rest)
    )
    encoder([" A Red Cone "])
    assert read == ["a red cone", ""]


def test_t5_is_loaded_when_it_is_needed_and_let_go(base, tmp_path):
    reader = PipelineTextEncoder(base, dtype=torch.float32)
    encoder = EmptyNull(EmbeddingCache(tmp_path / "cache.sqlite", reader))
    assert "model" not in vars(reader)
    text = encoder(PROMPTS)
    assert "model" in vars(reader)
    reader.free()
    again = encoder(PROMPTS[::-1])  # from the cache
    assert "model" not in vars(reader)
    assert torch.equal(again.tokens, text.tokens.flip(0)) and torch.equal(again.empty.tokens, text.empty.tokens)
    shorter = PipelineTextEncoder(base, dtype=torch.float32, max_length=12)
    assert shorter.fingerprint != reader.fingerprint and shorter(PROMPTS).tokens.shape == (2, 12, 256)


def test_a_prompt_embedding_keeps_its_null_condition(encoder):
    text = encoder(PROMPTS)
    for kept in (text[1:], text.to(dtype=torch.float64), text.padded(80), text[torch.tensor([1])]):
        null = kept.null()
        assert len(null) == len(kept) and null.tokens.shape == kept.tokens.shape
        assert (null.tokens[0, :77] - text.empty.tokens[0]).abs().max() == 0
    assert text.to(dtype=torch.float64).null().tokens.dtype == torch.float64
    dropped = text.drop(torch.tensor([True, False]))
    assert torch.equal(dropped.tokens, torch.stack([text.tokens[0], text.empty.tokens[0]]))


# What is refused ------------------------------------------------------------------------------------------------

LATENT = {**IF, "in_channels": 4, "out_channels": 4}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LATENT, "4 input and 4 output channels, but only a U-Net on pixels can be a stage"),
        ({**IF, "in_channels": 6}, "6 input channels, class_embed_type None"),
        ({**IF, "class_embed_type": "timestep"}, "3 input channels, class_embed_type 'timestep'"),
        ({**IF, "num_class_embeds": 10}, "num_class_embeds 10, but the only class"),
        ({**IF, "addition_embed_type": "text_time"}, "addition_embed_type 'text_time', a condition beyond text"),
        ({**IF, "_class_name": "VQModel"}, "holds a VQModel, but a stage needs a UNet2DConditionModel"),
        ({**IF, "sample_size": None}, "names no one size, but None; say at which resolution"),
    ],
)
def test_networks_that_are_no_stage(tmp_path, config, message):
    (tmp_path / "unet").mkdir()
    named = {"_class_name": "UNet2DConditionModel", **config}
    (tmp_path / "unet" / "config.json").write_text(json.dumps(named))
    with pytest.raises(WeightsError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_pipeline(tmp_path):
    with pytest.raises(WeightsError, match="there is no folder .*nowhere; give that of a diffusers pipeline"):
        load(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="config.json is missing or no configuration .FileNotFoundError"):
        load(tmp_path)
    folder = save_pipeline(tmp_path, IF_II)
    with pytest.raises(WeightsError, match="image_noising_scheduler.*missing"):
        load(folder)
    (folder / "unet" / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="no configuration .ValueError"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, "FlowMatch.*a stage needs betas"),
        ({**COSINE, "prediction_type": "flow"}, "prediction_type 'flow'.*epsilon, sample, v_prediction"),
        ({"beta_schedule": "spiral"}, "spiral is not implemented"),
        ({"beta_schedule": "linear", "rescale_betas_zero_snr": True}, "alphas_cumprod must fall"),
    ],
)
def test_schedulers_without_a_noise_for_a_stage(tmp_path, change, message):
    folder = save_pipeline(tmp_path, IF)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(change))
    with pytest.raises(WeightsError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_what_a_network_predicts_is_read_from_its_scheduler(tmp_path):
    assert load(save_pipeline(tmp_path, IF, DDPMScheduler(prediction_type="v_prediction"))).kind == "v"


def test_pickled_damaged_and_foreign_weights(tmp_path):
    folder = save_pipeline(tmp_path, IF)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="unet could not be read: .*download it again") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    torch.manual_seed(0)
    UNet2DConditionModel(**{**IF, "addition_embed_type": None}).save_pretrained(tmp_path / "other")
    path.write_bytes((tmp_path / "other" / path.name).read_bytes())
    with pytest.raises(WeightsError, match="do not fit its config.json, add_embedding.* for one"):
        load(folder)
    path.rename(path.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(WeightsError, match="holds no safetensors, and pickled weights are not read") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "text_encoder").mkdir()
    (tmp_path / "text" / "text_encoder" / "config.json").write_text((T5 / "config.json").read_text())
    (tmp_path / "text" / "text_encoder" / "pytorch_model.bin").touch()
    with pytest.raises(WeightsError, match="text_encoder holds no safetensors"):
        PipelineTextEncoder(tmp_path / "text")


def test_a_hub_out_of_reach_is_one_sentence(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("first line\nsecond line")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(WeightsError, match="'some/model' is no folder here.*ConnectionError.*local folder") as caught:
        load_diffusers_stage("some/model", device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "stored", "asked"), [("half", "fp16", 1), ("half", "whole", 2), ("float", "fp16", 1)]
)
def test_half_precision_downloads_the_half_where_it_is_there(tmp_path, monkeypatch, dtype, stored, asked):
    calls = []
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **rest: calls.append(rest) or tmp_path)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").touch()
    (tmp_path / "unet" / f"model.{stored}.safetensors").touch()
    dtype = getattr(torch, dtype)
    assert resolve_pipeline("some/model", ("unet", "scheduler"), dtype) == tmp_path and len(calls) == asked
    fp16_alone = "unet/*fp16*.safetensors" in calls[-1]["allow_patterns"]
    assert fp16_alone == (dtype == torch.half and stored == "fp16")
    assert fp16_alone or calls[-1]["ignore_patterns"] == ["*fp16*"]
    assert all(
        pattern.endswith((".json", ".model", ".safetensors")) for call in calls for pattern in call["allow_patterns"]
    )


def test_conditions_that_do_not_fit(base, sr, encoder):
    x_t, t, text, low_res = torch.zeros(1, 3, 16, 16), torch.tensor([0.5]), encoder(["a cone"]), torch.zeros(1, 3, 8, 8)
    first, second = load(base), load(sr)
    for unet, conditions, message in (
        (first.unet, (x_t, t, text, x_t, t), "3 input channels takes neither low_res nor aug_level"),
        (second.unet, (x_t, t, text), "6 input channels needs both low_res and aug_level"),
        (second.unet, (x_t, t, text, low_res, t), r"low_res is \(1, 3, 8, 8\), but must be upsampled to \(1, 3, 16"),
        (first.unet, (x_t, t, null_text(1, 8)), r"text is \(1, 1, 8\), but this U-Net needs \(1, L, 256\)"),
    ):
        with pytest.raises(ValueError, match=message):
            unet(*conditions)
    with pytest.raises(ValueError, match="16-pixel U-Net takes no low-res picture; make it the first stage"):
        first.condition(low_res, t, torch.zeros)
    with pytest.raises(TypeError, match="only a stage with an EfficientUNet is stored, not one with a DiffusersUNet"):
        first.config()


def test_diffusers_is_imported_when_a_stage_is_loaded_and_not_before():
    code = "import sys, imagen_lite as il; il.load_cascade; il.hub.load_diffusers_stage, il.hub.PipelineTextEncoder; "
    code += "print(sorted({'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
