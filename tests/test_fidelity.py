"""Fréchet distance, consistency, spectrum: cases with a known answer."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.looks import color_shift, random_features, spectrum
from imagen_lite.evaluate.fidelity import consistency, frechet_distance, reader_features
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import sample_scene


def whitened(n: int, d: int, seed: int) -> torch.Tensor:
    """Rows whose mean is exactly 0 and whose covariance is exactly the identity."""
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_the_distance_of_two_normal_distributions_is_the_closed_form():
    a, b = whitened(400, 5, 0), whitened(300, 5, 1)
    shift, scale = torch.tensor([3.0, 0, 0, 0, 4.0]).double(), torch.tensor([1.0, 2.0, 3.0, 1.0, 0.5]).double()
    assert frechet_distance(a, b) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b + shift) == pytest.approx(25, rel=1e-9)
    assert frechet_distance(a[:, :1], b[:, :1] + 2) == pytest.approx(4, rel=1e-9)  # one feature alone
    assert frechet_distance(a, b * scale) == pytest.approx(float((scale - 1).square().sum()), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_distance_is_that_of_the_matrix_square_root(seed):
    """Against (Σ_a Σ_b)^½ by its eigenvalues, for covariances that do not commute; symmetric, and blind to rotation."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64) + 2 * torch.eye(4)
    a, b = whitened(100, 4, seed) @ mix[0], whitened(90, 4, seed + 1) @ mix[1] + 1
    roots = torch.linalg.eigvals(torch.cov(a.T) @ torch.cov(b.T)).sqrt().sum().real
    expected = (a.mean(0) - b.mean(0)).square().sum() + torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6, abs=1e-8)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-6, abs=1e-8)
    turn = torch.linalg.qr(mix[0] - mix[1]).Q
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-6, abs=1e-8)


def test_too_few_pictures_and_other_widths_are_refused():
    with pytest.raises(ValueError, match="7 pictures are too few for 4 features"):
        frechet_distance(torch.randn(7, 4), torch.randn(100, 4))
    with pytest.raises(ValueError, match=r"\(100, 4\) and \(100, 5\)"):
        frechet_distance(torch.randn(100, 4), torch.randn(100, 5))


@pytest.fixture(scope="module")
def sharp():
    return render([sample_scene(seed) for seed in range(24)], 128)


@pytest.fixture(scope="module")
def many():
    return render([sample_scene(seed) for seed in range(900)], 64, supersample=1)


def blur(images, factor):
    return F.interpolate(F.avg_pool2d(images, factor), images.shape[2:], mode="bicubic")


@pytest.mark.parametrize("features", [reader_features, random_features])
def test_the_distance_grows_with_blur(many, features):
    sharp = features(many[:450])
    distances = [frechet_distance(features(blur(many[:450], k)), sharp) for k in (1, 2, 4)]
    assert distances[0] < 1e-3 and distances[1] > 0.01 and distances[2] > 2 * distances[1]


def test_random_features_see_blur_more_than_which_scenes_there_are(many):
    one, other = random_features(many[:450]), random_features(many[450:])
    assert frechet_distance(random_features(blur(many[:450], 2)), other) > 10 * frechet_distance(one, other)


def test_consistency_and_color_shift_are_what_they_say(sharp):
    low = F.avg_pool2d(sharp, 4)
    assert (consistency(sharp, low) > 90).all()
    assert consistency(sharp + 0.02, low) == pytest.approx([40.0] * 24, abs=0.01)  # 20 log10(2 / 0.02)
    tinted = sharp + torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1)
    assert color_shift(tinted, low).mean(0).tolist() == pytest.approx([0.1, 0, -0.1], abs=1e-5)


def test_a_wave_has_its_power_at_its_frequency():
    x = torch.arange(64)
    for cycles in (4, 10, 25):
        wave = torch.cos(2 * torch.pi * cycles * x / 64).expand(1, 3, 64, 64)
        assert int(spectrum(wave, bins=16).argmax()) == cycles // 2  # 32 cycles fill 16 rings


def test_the_spectrum_of_white_noise_is_flat_and_blur_darkens_its_end(sharp):
    noise = torch.randn(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    power = spectrum(noise, 8)[1:]
    assert float(power.max() / power.min()) < 1.2
    blurred = blur(sharp, 4)
    assert (spectrum(blurred)[-8:] < 0.2 * spectrum(sharp)[-8:]).all()
