"""What a U-Net is spared: what is known of a picture without it, and the scales of what it is given and has to say."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from test_unet import SUPER_RES, text

from imagen_lite.augmentation import POWER, SMOOTHED, augment, expected_picture, upsample
from imagen_lite.prediction import to_x0
from imagen_lite.unet import EfficientUNet, preconditioning

TIMES = torch.tensor([0.02, 0.3, 0.7, 0.98])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_base_predicts_v():
    c_skip, c_in, c_out = (c.flatten() for c in preconditioning(TIMES, torch.ones(1, 1, 1, 1)))
    torch.testing.assert_close(c_skip, (TIMES * math.pi / 2).sin())
    torch.testing.assert_close(c_in, torch.ones(4))
    torch.testing.assert_close(c_out, (TIMES * math.pi / 2).cos())


@pytest.mark.parametrize("error", [0.05, 0.3])
@pytest.mark.parametrize("time", [0.01, 0.05, 0.3, 0.9])
def test_what_the_layers_are_given_and_should_say_is_of_variance_one_and_unrelated(error, time):
    t, alpha, sigma = torch.tensor([time]), math.cos(math.pi * time / 2), math.sin(math.pi * time / 2)
    rest, eps = error * noise(1, 1, 500, 500), noise(1, 1, 500, 500, seed=1)
    surprise = alpha * rest + sigma * eps  # x_t - alpha m
    c_skip, c_in, c_out = preconditioning(t, torch.tensor(error).view(1, 1, 1, 1))
    given, wanted = c_in * surprise, (eps - c_skip * surprise) / c_out
    assert float(given.std()) == pytest.approx(1, abs=0.01)
    assert float(wanted.std()) == pytest.approx(1, abs=0.01)
    assert float((given * wanted).mean()) == pytest.approx(0, abs=0.01)


def test_white_noise_keeps_as_much_variance_as_is_said_when_it_is_upsampled():
    large = upsample(noise(1, 1, 200, 200), 800)
    assert float(large[..., 8:-8, 8:-8].square().mean()) == pytest.approx(SMOOTHED, abs=0.01)


@pytest.mark.parametrize("level", [0.0, 0.2, 0.6, 1.0])
def test_the_guess_is_as_far_off_as_it_says_and_no_other_gain_is_nearer(level):
    small = POWER**0.5 * noise(1, 1, 300, 300)
    large = F.interpolate(small, (1200, 1200), mode="nearest")  # so that upsampling is not what is measured
    a = torch.tensor([level])
    given = F.interpolate(augment(small, a, noise(1, 1, 300, 300, seed=1)), (1200, 1200), mode="nearest")
    power, kept = POWER, math.sin(math.pi / 2 * level) ** 2  # nearest keeps all of the noise's variance
    guess, error = expected_picture(given, a, 0.1)
    best = power * math.cos(math.pi / 2 * level) / (power * math.cos(math.pi / 2 * level) ** 2 + SMOOTHED * kept)
    torch.testing.assert_close(guess, best * given)
    smooth = augment(small, a, SMOOTHED**0.5 * noise(1, 1, 300, 300, seed=1))  # as upsampling leaves the noise
    off = (best * F.interpolate(smooth, (1200, 1200), mode="nearest") - large).square().mean()
    assert float(off + 0.1**2) ** 0.5 == pytest.approx(float(error), rel=0.02)


def test_an_untrained_super_resolution_takes_the_low_res_picture_for_the_picture():
    torch.manual_seed(0)
    model, low_res = EfficientUNet(SUPER_RES).eval(), 0.5 * noise(1, 3, 16, 16)
    t, level = torch.tensor([0.9]), torch.tensor([0.0])
    alpha, sigma = math.cos(math.pi * 0.45), math.sin(math.pi * 0.45)
    x_t = alpha * low_res + sigma * noise(1, 3, 16, 16, seed=1)
    with torch.no_grad():
        eps = model(x_t, t, text(1), low_res, level)
    assert (to_x0(eps, x_t, alpha, sigma, "eps") - low_res).abs().max() < 0.05


def test_a_gate_grows_out_of_a_model_without_and_passes_the_surprise_on():
    torch.manual_seed(0)
    plain, gated = EfficientUNet(SUPER_RES).eval(), EfficientUNet(dataclasses.replace(SUPER_RES, gate=True)).eval()
    torch.nn.init.normal_(plain.out.weight)
    weights = plain.state_dict()
    grown = {f"out.{k}": torch.cat([weights[f"out.{k}"], 0 * weights[f"out.{k}"]]) for k in ("weight", "bias")}
    gated.load_state_dict(weights | grown)
    x_t, low_res, t, level = noise(1, 3, 16, 16), noise(1, 3, 16, 16, seed=1), torch.tensor([0.3]), torch.zeros(1)
    with torch.no_grad():
        before, after = plain(x_t, t, text(1), low_res, level), gated(x_t, t, text(1), low_res, level)
        torch.testing.assert_close(after, before)
        gated.out.bias[len(gated.out.bias) // 2 :] = 0.5
        guess, error = expected_picture(low_res, level, SUPER_RES.low_res_error)
        surprise = x_t - math.cos(math.pi * 0.15) * guess
        _, c_in, c_out = preconditioning(t, error)
        after = gated(x_t, t, text(1), low_res, level)
        torch.testing.assert_close(after, before + 0.5 * c_out * c_in * surprise, atol=1e-4, rtol=1e-4)
