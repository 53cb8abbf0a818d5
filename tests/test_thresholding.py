"""Thresholding: parity with diffusers, what must hold for any x0, and the traps other Imagens fell into."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from imagen_lite.thresholding import (
    applied_scale,
    dynamic_scale,
    dynamic_threshold,
    named_threshold,
    no_threshold,
    static_threshold,
)

percentiles = st.floats(0.01, 1)
spreads = st.floats(0.05, 50)
seeds = st.integers(0, 10_000)


def picture(seed: int, spread: float, batch: int = 2) -> torch.Tensor:
    return spread * torch.randn(batch, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_dynamic_agrees_with_diffusers(percentile, cap):
    reference = DDPMScheduler(
        thresholding=True, dynamic_thresholding_ratio=percentile, sample_max_value=1e6 if cap is None else cap
    )
    x0 = torch.cat([spread * torch.randn(1, 3, 64, 64) for spread in (0.1, 1.0, 3.0, 40.0)])
    difference = dynamic_threshold(x0, percentile, cap) - reference._threshold_sample(x0)
    assert difference.abs().max() <= 1e-4


@given(seed=seeds, spread=spreads, percentile=percentiles)
def test_the_scale_is_torchs_quantile(seed, spread, percentile):
    x0 = picture(seed, spread).double()
    expected = torch.quantile(x0.abs().flatten(1), percentile, dim=1).clamp(min=1)
    assert torch.allclose(dynamic_scale(x0, percentile).flatten(), expected, rtol=1e-9)


@given(seed=seeds, spread=spreads, percentile=percentiles)
def test_results_are_in_range_and_stay_there(seed, spread, percentile):
    for function in (static_threshold, lambda x: dynamic_threshold(x, percentile)):
        once = function(picture(seed, spread))
        assert once.abs().max() <= 1
        assert torch.equal(function(once), once)


@given(seed=seeds, percentile=st.floats(0.5, 1))
def test_dynamic_is_static_where_s_is_1(seed, percentile):
    x0 = picture(seed, 1.0)
    x0 = torch.where(x0.abs() > x0.abs().quantile(percentile - 0.1), 3 * x0.sign(), 0.5 * x0.clamp(-1, 1))
    quiet = x0 * 0.3
    for x in (x0, quiet):
        ones = (dynamic_scale(x, percentile) == 1).flatten()
        assert torch.equal(dynamic_threshold(x, percentile)[ones], static_threshold(x)[ones])
    assert bool((dynamic_scale(quiet, percentile) == 1).all())


@given(seed=seeds, spread=spreads)
def test_neighbours_in_the_batch_do_not_matter(seed, spread):
    """The quantile is each picture's own: a batch quantile would dim a calm picture beside a wild one."""
    calm, wild = picture(seed, 0.3, 1), picture(seed + 1, 40 * spread, 1)
    together = dynamic_threshold(torch.cat([calm, wild]))
    assert torch.equal(together[:1], dynamic_threshold(calm))
    assert torch.equal(together[1:], dynamic_threshold(wild))


def test_over_all_channels_at_once():
    """A scale of each channel's own would change the colours' balance."""
    x0 = torch.full((1, 3, 4, 4), 0.5)
    x0[:, 0] = 4.0
    out = dynamic_threshold(x0)
    assert float(dynamic_scale(x0)) == 4
    assert torch.allclose(out[:, 0], torch.ones(())) and torch.allclose(out[:, 1:], torch.tensor(0.125))


def test_capped_at_1_it_is_static_and_without_it_is_not():
    x0 = picture(0, 3.0)
    assert torch.equal(dynamic_threshold(x0, cap=1.0), static_threshold(x0))
    assert (dynamic_threshold(x0) - static_threshold(x0)).abs().max() > 0.3
    assert bool((dynamic_scale(x0) > 2).all()) and bool((dynamic_scale(x0, cap=1.5) == 1.5).all())


def test_it_saturates_less_than_static():
    x0 = picture(0, 3.0)
    share = [float((f(x0).abs() >= 0.999).float().mean()) for f in (static_threshold, dynamic_threshold)]
    assert share[0] > 0.6 and share[1] < 0.03


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype):
    x0 = picture(3, 2.0)
    out = dynamic_threshold(x0.to(dtype))
    assert out.dtype == dtype and torch.allclose(out.float(), dynamic_threshold(x0), atol=2e-2)


def test_the_applied_scale_is_read_off_the_result():
    x0 = torch.cat([picture(0, 0.2, 1), picture(1, 3.0, 1), torch.full((1, 3, 6, 6), 7.0)])
    assert torch.allclose(applied_scale(x0, dynamic_threshold(x0))[:2], dynamic_scale(x0).flatten()[:2])
    for function in (no_threshold, static_threshold):
        assert applied_scale(x0, function(x0)).tolist() == [1, 1, 1]
    assert applied_scale(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).tolist() == [1]


def test_thresholds_by_name():
    x0 = picture(0, 3.0)
    for name, function in (("none", no_threshold), ("static", static_threshold), ("dynamic", dynamic_threshold)):
        assert torch.equal(named_threshold(name)(x0), function(x0))
    assert torch.equal(named_threshold("dynamic", 0.9)(x0), dynamic_threshold(x0, 0.9))
    assert named_threshold(torch.tanh) is torch.tanh
    with pytest.raises(ValueError, match="'none', 'static', 'dynamic' or a function of x0, not 'dynamik'"):
        named_threshold("dynamik")


@pytest.mark.parametrize("percentile", [99.5, 0.0, -0.1, float("nan")])
def test_bad_percentiles_say_how_to_fix_them(percentile):
    for call in (dynamic_threshold, dynamic_scale, lambda x, p: named_threshold("static", p)):
        with pytest.raises(ValueError, match=r"fraction in \(0, 1\], 99.5 percent is 0.995, not "):
            call(picture(0, 1.0), percentile)


def test_bad_caps_are_named():
    for cap in (0.5, float("nan")):
        with pytest.raises(ValueError, match="cap .* at least 1, not "):
            dynamic_scale(picture(0, 1.0), cap=cap)
