"""Samplers: parity with diffusers, the exact recursion on Gaussian data, keyed noise, and the loop."""

import math
from functools import partial

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from imagen_lite.sampler import STEPS, ddim_step, ddpm_step, dpmpp_2m_step, final, keyed_noise, sample, time_grid
from imagen_lite.schedule import CosineSchedule, Level, LinearSchedule
from imagen_lite.thresholding import dynamic_threshold, no_threshold, static_threshold

WILD = {"thresholding": True, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1e6}
LINEAR = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


# --- against diffusers -------------------------------------------------------------------------------------------


def levels_of(scheduler) -> list[Level]:
    """The levels that a scheduler of diffusers visits, and its clean end."""
    alphas_bar = scheduler.alphas_cumprod.double()[scheduler.timesteps]
    log_snr = (alphas_bar / (1 - alphas_bar)).log().tolist()
    levels = [Level(float(t) / 1000, value) for t, value in zip(scheduler.timesteps, log_snr, strict=True)]
    return [*levels, Level(0.0, math.inf)]


def network(x_t: torch.Tensor, t: Level) -> torch.Tensor:
    """A smooth stand-in for a network's eps: its x0 leaves the range as a guided one's does, several times over."""
    v = 3 * torch.sin(2 * x_t + t.t) + x_t.flip(-1)
    return t.sigma * x_t + t.alpha * v


def run_both(scheduler, step, threshold, **options) -> float:
    """The largest difference in x over all steps; the inputs of each step are the reference's own."""
    scheduler.set_timesteps(20)
    levels, worst = levels_of(scheduler), 0.0
    x_t, last = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), None
    for i, (t, s) in enumerate(zip(levels, levels[1:], strict=False)):
        eps = network(x_t, t)
        x0 = threshold((x_t - t.sigma * eps) / t.alpha)
        generator = torch.Generator().manual_seed(i)
        noise = partial(torch.randn, x_t.shape, generator=torch.Generator().manual_seed(i))
        theirs = scheduler.step(eps, scheduler.timesteps[i], x_t, generator=generator, **options).prev_sample
        is_last = i + 1 == len(scheduler.timesteps)  # our loop ends with x0, theirs with a step to it
        ours = x0 if is_last else step(x_t, x0, t, s, noise, last)
        worst = max(worst, float((ours - theirs).abs().max()))
        x_t, last = theirs, (x0, t)
    return worst


@pytest.mark.parametrize(
    ("config", "threshold"), [({}, no_threshold), (WILD, dynamic_threshold)], ids=["none", "dynamic"]
)
class TestAgainstDiffusers:
    @pytest.mark.parametrize(("variance", "gamma"), [("fixed_small", 0.0), ("fixed_large", 1.0)])
    def test_ddpm(self, config, threshold, variance, gamma):
        scheduler = DDPMScheduler(**LINEAR, clip_sample=False, variance_type=variance, **config)
        assert run_both(scheduler, partial(ddpm_step, gamma=gamma), threshold) <= 1e-4

    def test_ddim(self, config, threshold):
        scheduler = DDIMScheduler(**LINEAR, clip_sample=False, **config)
        assert run_both(scheduler, ddim_step, threshold, use_clipped_model_output=True) <= 1e-4

    def test_dpmpp_2m(self, config, threshold):
        scheduler = DPMSolverMultistepScheduler(**LINEAR, solver_order=2, algorithm_type="dpmsolver++", **config)
        assert run_both(scheduler, dpmpp_2m_step, threshold) <= 1e-4


def test_ddim_derives_eps_again():
    """The trap: x0 clipped, the network's eps kept. diffusers does this by default, and it is another sampler."""
    scheduler = DDIMScheduler(**LINEAR, clip_sample=False, **WILD)
    assert run_both(scheduler, ddim_step, dynamic_threshold, use_clipped_model_output=False) > 0.05


# --- on Gaussian data --------------------------------------------------------------------------------------------

MEAN, VARIANCE = 0.3, 0.25


def gain(level: Level) -> float:
    """E[x0 | x_t] = gain x_t + (1 - alpha gain) mean, for data N(mean, variance)."""
    return level.alpha * VARIANCE / (level.alpha**2 * VARIANCE + level.sigma**2)


def exact_eps(x_t, level):
    x0 = gain(level) * x_t + (1 - level.alpha * gain(level)) * MEAN
    return (x_t - level.alpha * x0) / level.sigma


def recursion(name: str, levels: list[Level]) -> tuple[torch.Tensor, float]:
    """How the sampled x0 depends on all the noise drawn, and its offset: x0 = coefficients · noise + offset.

    Written from the equations with numbers alone: x_t and x0 are each a row of coefficients and an offset.
    """
    row = torch.zeros(len(levels) + 1, dtype=torch.float64)  # the last entry is the offset
    row[0] = 1.0
    mean = torch.zeros_like(row)
    mean[-1] = MEAN
    last = None
    for i, (t, s) in enumerate(zip(levels, levels[1:], strict=False)):
        x0 = gain(t) * row + (1 - t.alpha * gain(t)) * mean
        if i == len(levels) - 2:
            return x0[:-1], float(x0[-1])
        used = x0
        if name == "ddpm":
            kept = (t.alpha / s.alpha) ** 2 * s.sigma**2 / t.sigma**2  # SNR_t / SNR_s
            row = kept * s.alpha / t.alpha * row + (1 - kept) * s.alpha * x0
            row[i + 1] = math.sqrt(s.sigma**2 - kept * s.sigma**2)
            continue
        if name == "dpmpp_2m" and last is not None:
            used = x0 + (x0 - last[0]) * (s.log_snr - t.log_snr) / (t.log_snr - last[1].log_snr) / 2
        scale = s.sigma / t.sigma
        row, last = s.alpha * used + scale * (row - t.alpha * used), (x0, t)
    raise AssertionError("no levels")


def impulses(count: int):
    """Noise that tells draws apart: picture k of a batch of count + 1 is 1 in draw k, and picture `count` is 0."""
    draws = iter(torch.eye(count + 1, dtype=torch.float64)[:count].view(count, count + 1, 1, 1, 1))
    return lambda: next(draws)


def response(name: str, levels: list[Level]) -> tuple[torch.Tensor, float]:
    """The same as `recursion`, measured on the sampler itself."""
    states = sample(exact_eps, impulses(len(levels)), levels, threshold=no_threshold, step=STEPS[name])
    x0 = final(states).flatten()
    return x0[:-1] - x0[-1], float(x0[-1])


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("spacing", ["time", "log_snr"])
@pytest.mark.parametrize("schedule", [CosineSchedule(), CosineSchedule(-10, 10), LinearSchedule()], ids=str)
def test_gaussian_data_follows_the_closed_recursion(name, spacing, schedule):
    levels = time_grid(24, schedule, spacing=spacing)
    coefficients, offset = response(name, levels)
    expected, expected_offset = recursion(name, levels)
    assert (coefficients - expected).abs().max() <= 1e-5 and abs(offset - expected_offset) <= 1e-5


def variance_error(name: str, steps: int, spacing="time") -> float:
    """Relative error of the samples' variance, exactly (no sampling error)."""
    coefficients, _ = response(name, time_grid(steps, CosineSchedule(), spacing=spacing))
    return abs(float(coefficients.square().sum()) / VARIANCE - 1)


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_the_variance_error_falls_at_first_order(name):
    errors = [variance_error(name, steps) for steps in (64, 128, 256)]
    assert all(1.7 < a / b < 2.3 for a, b in zip(errors, errors[1:], strict=False))


def test_2m_falls_faster_and_is_within_2_percent_at_64_steps():
    for spacing in ("time", "log_snr"):
        errors = [variance_error("dpmpp_2m", steps, spacing) for steps in (64, 128, 256)]
        assert errors[0] <= 0.02
        assert all(a / b > 2.5 for a, b in zip(errors, errors[1:], strict=False))
    assert variance_error("dpmpp_2m", 64) < variance_error("ddim", 64) / 3


def test_gamma_lies_between_the_two_variances():
    t, s = CosineSchedule().at(0.6), CosineSchedule().at(0.5)
    zero = torch.zeros(1, dtype=torch.float64)
    low, middle, high = (float(ddpm_step(zero, zero, t, s, lambda: zero + 1, gamma=g)) for g in (0.0, 0.3, 1.0))
    assert high**2 == pytest.approx(1 - (t.alpha / s.alpha) ** 2, rel=1e-6)  # 1 - alpha_t²/alpha_s² = sigma²_{t|s}
    assert math.log(middle) == pytest.approx(0.7 * math.log(low) + 0.3 * math.log(high))


# --- the loop and its noise --------------------------------------------------------------------------------------


def toy(x_t, level):
    return torch.tanh(x_t) * 0.9 + 0.1 * x_t.mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("name", STEPS)
def test_a_seed_gives_the_same_picture_alone_and_in_a_batch(name):
    levels = time_grid(6, CosineSchedule(-10, 10))
    batch = final(sample(toy, keyed_noise(10, (8, 3, 8, 8)), levels, step=STEPS[name]))
    for i in (0, 3, 7):
        alone = final(sample(toy, keyed_noise(10 + i, (1, 3, 8, 8)), levels, step=STEPS[name]))
        assert torch.allclose(alone[0], batch[i], atol=1e-4)
    shuffled = final(sample(toy, keyed_noise([17, 10], (2, 3, 8, 8)), levels, step=STEPS[name]))
    assert torch.allclose(shuffled, batch[[7, 0]], atol=1e-4)
    assert (batch[0] - batch[1]).abs().max() > 0.1


def test_noise_is_standard_normal_fresh_at_each_draw_and_in_each_stream():
    noise = keyed_noise(0, (2, 3, 64, 64))
    draws = [noise(), noise(), keyed_noise(0, (2, 3, 64, 64), stream=1)()]
    flat = torch.stack(draws).view(6, -1)
    assert (torch.corrcoef(flat) - torch.eye(6)).abs().max() < 0.05
    assert flat.mean(1).abs().max() < 0.05 and (flat.std(1) - 1).abs().max() < 0.03
    assert torch.equal(keyed_noise(0, (2, 3, 64, 64))(), draws[0])


def test_each_step_is_seen_and_the_last_x0_is_the_result():
    levels = time_grid(5, CosineSchedule(-10, 10))
    states = list(sample(toy, keyed_noise(0, (2, 3, 8, 8)), levels, step=ddim_step))
    assert [(state.index, state.steps) for state in states] == [(i, 5) for i in range(5)]
    assert [state.t for state in states] == levels[:-1]
    for state in states:
        raw = (state.x_t - state.t.sigma * toy(state.x_t, state.t)) / state.t.alpha
        assert torch.allclose(state.raw_x0, raw) and torch.allclose(state.x0, dynamic_threshold(raw))
        assert state.s.shape == (2,) and bool((state.s >= 1).all())
    for now, then in zip(states, states[1:], strict=False):
        assert torch.allclose(then.x_t, ddim_step(now.x_t, now.x0, now.t, then.t), atol=1e-6)
    assert float(states[0].s.min()) > 10  # at the start, alpha is tiny
    assert torch.equal(final(sample(toy, keyed_noise(0, (2, 3, 8, 8)), levels)), states[-1].x0)


def test_steps_see_the_thresholded_x0_and_no_step_follows_the_last():
    seen = []

    def step(x_t, x0, t, s, noise, last):
        seen.append((x0, last))
        return x0

    states = list(
        sample(toy, keyed_noise(0, (1, 3, 8, 8)), time_grid(4, CosineSchedule()), threshold=static_threshold, step=step)
    )
    assert len(seen) == 3 and all(x0 is state.x0 for (x0, _), state in zip(seen, states, strict=False))
    assert seen[0][1] is None and seen[1][1] == (states[0].x0, states[0].t)


def test_no_gradients_are_kept():
    weight = torch.ones((), requires_grad=True)
    states = sample(lambda x, _: weight * x, keyed_noise(0, (1, 3, 4, 4)), time_grid(2, CosineSchedule()))
    assert not final(states).requires_grad and torch.is_grad_enabled()


# --- the grid ----------------------------------------------------------------------------------------------------


def test_the_grid_is_even_in_time_from_1_to_0():
    levels = time_grid(4, CosineSchedule())
    assert [level.t for level in levels] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert levels[0].log_snr == pytest.approx(-20) and levels[-1].log_snr == pytest.approx(20)


def test_the_grid_can_be_even_in_log_snr_and_start_later():
    schedule = CosineSchedule()
    levels = time_grid(5, schedule, spacing="log_snr", lambda_start=-5)
    assert [level.log_snr for level in levels] == pytest.approx([-5, 0, 5, 10, 15, 20])
    assert all(schedule.at(level.t).log_snr == pytest.approx(level.log_snr, abs=1e-6) for level in levels)
    late = time_grid(5, schedule, lambda_start=-5)
    assert late[0].log_snr == pytest.approx(-5) and late[1].t == pytest.approx(late[0].t * 0.8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: time_grid(0, CosineSchedule()), "steps must be a whole number of at least 1, not 0"),
        (lambda: time_grid(2.5, CosineSchedule()), "whole number of at least 1, not 2.5"),  # type: ignore[arg-type]
        (lambda: time_grid(4, CosineSchedule(), spacing="sigma"), "'time' or 'log_snr', not 'sigma'"),  # type: ignore
        (lambda: time_grid(4, CosineSchedule(-10, 10), lambda_start=-15), "between the schedule's -10.00 and 10.00"),
        (lambda: time_grid(4, CosineSchedule(), lambda_start=float("nan")), "not nan"),
        (lambda: keyed_noise([1, 2, 3], (2, 3, 8, 8)), "one seed for each of the 2 pictures, not 3"),
        (lambda: final([]), "no state"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
