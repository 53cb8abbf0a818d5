"""Schedules: the paper's closed forms, float32 at the ends, the discrete linear schedule, inverses."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagen_lite.schedule import CosineSchedule, LinearSchedule

SCHEDULES = [
    CosineSchedule(),
    CosineSchedule(-10, 10),
    CosineSchedule(-20, 20, 2 * math.log(64 / 256)),
    LinearSchedule(),
]
EVERY = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


@EVERY
def test_float32_at_the_ends_is_finite_and_close_to_float64(schedule):
    t = torch.cat([torch.linspace(0, 1, 1001), torch.tensor([1e-7, 1 - 6e-8])])
    for function in (schedule.log_snr, schedule.alpha, schedule.sigma):
        single, double = function(t), function(t.double())
        assert single.dtype == torch.float32 and bool(single.isfinite().all())
        assert torch.allclose(single.double(), double, rtol=1e-5, atol=2e-6)
    assert bool((schedule.alpha(t) > 0).all()) and bool((schedule.sigma(t) > 0).all())
    assert torch.allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))


@EVERY
def test_log_snr_falls_and_is_what_its_name_says(schedule):
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    log_snr = schedule.log_snr(t)
    assert bool((log_snr.diff() < 0).all())
    assert torch.allclose(log_snr, (schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2).log(), atol=1e-6)


@EVERY
@given(t=st.floats(0, 1))
def test_t_inverts_log_snr(schedule, t):
    t = torch.tensor(t, dtype=torch.float64)
    assert torch.allclose(schedule.t(schedule.log_snr(t)), t, atol=1e-9)
    assert torch.allclose(schedule.t(schedule.log_snr(t.float())), t.float(), atol=2e-6)


@EVERY
def test_t_beyond_the_range_is_the_nearest_end(schedule):
    assert schedule.t(torch.tensor([-99.0, 99.0])).tolist() == [1.0, 0.0]


def test_cosine_is_truncated_at_the_stated_ends():
    for schedule in (CosineSchedule(-20, 20), CosineSchedule(-10, 12), CosineSchedule(-15, 15, shift=-2.0)):
        assert schedule.at(0).log_snr == pytest.approx(schedule.lambda_max, abs=1e-9)
        assert schedule.at(1).log_snr == pytest.approx(schedule.lambda_min, abs=1e-9)


def test_cosine_is_the_formula_of_the_guidance_paper():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    b = math.atan(math.exp(-10))
    a = math.atan(math.exp(10)) - b
    assert torch.allclose(CosineSchedule(-20, 20).log_snr(t), -2 * torch.tan(a * t + b).log(), atol=1e-9)


def test_shift_is_a_shift_far_from_the_ends():
    t = torch.linspace(0.2, 0.8, 13, dtype=torch.float64)
    shift = 2 * math.log(64 / 256)
    moved = CosineSchedule(shift=shift).log_snr(t) - CosineSchedule().log_snr(t)
    assert torch.allclose(moved, torch.full_like(t, shift), atol=1e-3)


def test_linear_is_close_to_the_papers_thousand_steps():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alphas_bar = (1 - betas).cumprod(0)
    discrete = (alphas_bar / (1 - alphas_bar)).log()
    closed = LinearSchedule().log_snr(torch.linspace(0, 1, 1000, dtype=torch.float64))
    error = (closed - discrete).abs()
    assert error.max() < 0.0102  # as its docstring says
    assert error[0] < 1e-9 and error[-1] < 1e-9


def test_add_noise_uses_each_pictures_own_time():
    schedule = CosineSchedule()
    x0, eps = torch.randn(2, 4, 3, 4, 4).unbind(0)  # as many pictures as columns: wrong broadcasting would pass
    t = torch.tensor([0.0, 0.3, 0.6, 1.0])
    together = schedule.add_noise(x0, t, eps)
    for i in range(4):
        alpha, sigma = schedule.alpha(t[i]), schedule.sigma(t[i])
        assert torch.allclose(together[i], alpha * x0[i] + sigma * eps[i], atol=1e-6)
    assert torch.allclose(schedule.add_noise(x0, 0.3, eps)[1], together[1], atol=1e-6)
    assert torch.allclose(together[0], x0[0], atol=1e-3) and torch.allclose(together[3], eps[3], atol=1e-3)


def test_a_level_agrees_with_its_schedule():
    level = CosineSchedule(-10, 10).at(0.25)
    t = torch.tensor(0.25, dtype=torch.float64)
    assert level.alpha == pytest.approx(float(CosineSchedule(-10, 10).alpha(t)), rel=1e-12)
    assert level.sigma == pytest.approx(float(CosineSchedule(-10, 10).sigma(t)), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineSchedule(5, -5), "lambda_min must be below lambda_max"),
        (lambda: CosineSchedule(-30, 20), r"within \[-20, 20\], not -30"),
        (lambda: CosineSchedule(float("nan"), 20), "not nan"),
        (lambda: CosineSchedule(shift=float("nan")), "shift .* not nan"),
        (lambda: LinearSchedule(beta_max=0.9), "betas must grow"),
        (lambda: LinearSchedule(steps=1), "steps must be at least 2, not 1"),
        (lambda: CosineSchedule().at(1.5), "time t must be between 0 .* not 1.5"),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
