"""Each exercise in its states: stub, reference, and the plausible wrong answers, each with a message of its own.

The wrong answers of notebooks 03, 06, 07 and 08 are here, the others' in test_learn_<group>.py.
"""

import pytest
import test_learn_cascade
import test_learn_network
import test_learn_text
import test_learn_training
import test_learn_world
import torch

from imagen_lite import learn, weights
from imagen_lite.guidance import classifier_free_guidance
from imagen_lite.learn import sampling
from imagen_lite.prediction import to_x0
from imagen_lite.sampler import ddim_step, ddpm_step, dpmpp_2m_step, time_grid
from imagen_lite.schedule import CosineSchedule
from imagen_lite.stage import load_stage
from imagen_lite.thresholding import dynamic_threshold


def batch_quantile(x0):
    s = torch.quantile(x0.abs(), 0.995).clamp(min=1)
    return x0.clamp(-s, s) / s


def step_of(level):
    return round((level.log_snr + 8) / 1.125)


def normalised(x0):
    s = torch.quantile(x0.abs().flatten(1), 0.995, dim=1).view(-1, 1, 1, 1)
    return x0.clamp(-s, s) / s


def undivided(x0):
    s = torch.quantile(x0.abs().flatten(1), 0.995, dim=1).clamp(min=1).view(-1, 1, 1, 1)
    return x0.clamp(-s, s)


def lam(t):
    return -2 * torch.tan(torch.pi * t / 2).log()


def plain_average(x_t, data, alpha, sigma):
    return data.mean(0, keepdim=True)


def nearest(x_t, data, alpha, sigma):
    return data[(x_t - alpha * data).square().flatten(1).sum(1).argmin()][None]


def unscaled(x_t, data, alpha, sigma):
    weights = (-(x_t - data).square().flatten(1).sum(1) / (2 * sigma**2)).softmax(0)
    return (weights.view(-1, 1, 1, 1) * data).sum(0, keepdim=True)


WRONG = {
    "add noise": [
        (lambda x0, eps, alpha, sigma: x0 + sigma * eps, "without alpha"),
        (lambda x0, eps, alpha, sigma: alpha**2 * x0 + sigma**2 * eps, "leave out the squares"),
        (lambda x0, eps, alpha, sigma: alpha * eps + sigma * x0, "must stay as it is"),
        (lambda x0, eps, alpha, sigma: (alpha * x0 + sigma * eps).clamp(-1, 1), "must stay as it is"),
        (lambda x0, eps, alpha, sigma: alpha * x0 + sigma**2 * eps, "neither"),
        (lambda x0, eps, alpha, sigma: alpha * x0.mean() + sigma * eps.mean(), "shape"),
    ],
    "log-SNR": [
        (lambda t: -lam(t), "turned round"),
        (lambda t: lam(t) / 2, "half of it"),
        (lambda t: lam(t).exp(), "logarithm"),
        (lambda t: 1 - t, "must be 0"),
        (lambda t: 10 - 20 * t, "t = 1/2 alone"),
        (lambda t: lam(t).mean(), "one number for each"),
    ],
    "eps to x0": [
        (lambda eps, x_t, alpha, sigma: x_t - sigma * eps, "divide"),
        (lambda eps, x_t, alpha, sigma: x_t - eps, "only sigma times"),
        (lambda eps, x_t, alpha, sigma: (x_t - alpha * eps) / sigma, "not undone"),
        (lambda eps, x_t, alpha, sigma: ((x_t - sigma * eps) / alpha).clamp(-2, 2), "must come out as it is"),
    ],
    "DDIM step": [
        (lambda x, x0, t, s: s.alpha * x0 + t.sigma * (x - t.alpha * x0) / t.sigma, "no less noisy"),
        (lambda x, x0, t, s: x, "x_t again"),
        (lambda x, x0, t, s: s.alpha * x0 + s.sigma * sampling.EPS, "derive it again"),
        (lambda x, x0, t, s: s.alpha * x0 + s.sigma * x, "just these two"),
        (lambda x, x0, t, s: x0.mean(), "shape"),
    ],
    "DDPM step": [
        (lambda x, x0, t, s, noise: ddpm_step(x, x0, t, s, lambda: torch.zeros_like(x)), "nothing random"),
        (lambda x, x0, t, s, noise: s.alpha * x0 + s.sigma * noise(), "all of the noise"),
        (lambda x, x0, t, s, noise: ddpm_step(x, x0, t, s, noise, gamma=1.0), "coming back"),
        (lambda x, x0, t, s, noise: ddpm_step(x, x0, t, s, lambda: sampling._posterior(t, s) ** 0.5 * noise()), "root"),
        (lambda x, x0, t, s, noise: ddpm_step(0 * x, x0, t, s, noise), "the mean is not"),
        (lambda x, x0, t, s, noise: ddpm_step(x, x0, t, s, lambda: 0.5 * noise()), "variance is not"),
    ],
    "2M step": [
        (lambda x, x0, t, s, noise, last: ddim_step(x, x0, t, s), "not used"),
        (lambda x, x0, t, s, noise, last: ddim_step(x, x0, t, s) if last is None else sampling._full(x, x0, t, s, last),
         "half as far"),
        (lambda x, x0, t, s, noise, last: dpmpp_2m_step(x, x0 if last is None else last[0], t, s, None,
         None if last is None else (x0, last[1])), "swapped"),
        (lambda x, x0, t, s, noise, last: ddim_step(x, x0 if last is None else x0 + (x0 - last[0]) / 2, t, s),
         "log-SNR"),
        (lambda x, x0, t, s, noise, last: x if last is None else dpmpp_2m_step(x, x0, t, s, None, last), "be DDIM"),
    ],
    "best guess": [
        (plain_average, "plain average"),
        (unscaled, "not the softmax"),
        (nearest, "not the softmax"),
        (lambda x_t, data, alpha, sigma: data, "one picture"),
        (lambda x_t, data, alpha, sigma: data[:1], "the picture itself"),
    ],
    "guidance": [
        (lambda c, u, w: (1 + w) * c - w * u, "Ho & Salimans"),
        (lambda c, u, w: c + w * (u - c), "swapped"),
        (lambda c, u, w: (u + w * (c - u)).clamp(-1, 1), "eps_cond itself"),
        (lambda c, u, w: u + w**2 * (c - u), "straight line"),
        (lambda c, u, w: c.mean(), "shape"),
    ],
    "oscillating guidance": [
        (lambda level: 15.0, "now and then"),
        (lambda level: 1.0, "first four"),
        (lambda level: 15.0 if step_of(level) < 4 else 1.0, "now and then"),
        (lambda level: 15.0 if round((1 - level.t) * 16) < 4 or round((1 - level.t) * 16) % 2 else 1.0, "every step"),
        (lambda level: 15.0 if step_of(level) < 4 or step_of(level) // 2 % 2 else 1.0, "every step"),
        (lambda level: 15.0 if step_of(level) < 4 or step_of(level) % 2 == 0 else 1.0, "first change"),
    ],
    "static threshold": [
        (lambda x0: x0 / x0.abs().amax().clamp(min=1e-9), "clipping is not scaling"),
        (lambda x0: x0.clamp(0, 1), "must stay as it is"),
        (lambda x0: x0, "are left"),
        (lambda x0: x0.clamp(-1, 1) * 0.999 if x0.abs().max() > 1 else x0, "must not move"),
    ],
    "dynamic threshold": [
        (lambda x0: x0.clamp(-1, 1), "static clipping"),
        (lambda x0: dynamic_threshold(x0, cap=1.0), "static clipping"),
        (normalised, "never be below 1"),
        (undivided, "divide by s"),
        (batch_quantile, "not the batch's"),
        (lambda x0: dynamic_threshold(x0, 0.9), "s is not"),
    ],
}  # fmt: skip
for _group in (test_learn_world, test_learn_text, test_learn_network, test_learn_training, test_learn_cascade):
    WRONG |= _group.WRONG


def test_every_exercise_has_wrong_answers():
    assert set(WRONG) == set(learn.EXERCISES)
    assert all(len(rows) >= 4 for rows in WRONG.values())


@pytest.mark.parametrize("name", learn.EXERCISES)
def test_a_stub_is_not_attempted_and_the_reference_passes(name):
    assert learn.check(name, lambda *args: None).endswith("not attempted")

    def todo(*args):
        raise NotImplementedError

    assert learn.check(name, todo).endswith("not attempted")
    assert learn.check(name, learn.EXERCISES[name].solution).endswith("passed")
    assert learn.solution(name).startswith("def ")


@pytest.mark.parametrize(("name", "wrong", "why"), [(n, f, w) for n, rows in WRONG.items() for f, w in rows])
def test_each_plausible_wrong_answer_is_told_why(name, wrong, why):
    told = learn.check(name, wrong)
    assert "not yet" in told and why in told


def test_what_is_taken_is_ones_own_only_once_it_passes():
    def mine(eps_cond, eps_uncond, weight):
        return weight * eps_cond + (1 - weight) * eps_uncond

    assert learn.take("guidance", mine) is mine
    assert learn.take("guidance", lambda c, u, w: None) is classifier_free_guidance
    assert learn.take("guidance", WRONG["guidance"][0][0]) is classifier_free_guidance


def test_an_answer_that_stops_is_told_so():
    told = learn.check("guidance", lambda c, u, w: c + undefined)  # noqa: F821
    assert "NameError" in told and "undefined" in told
    with pytest.raises(KeyError):
        learn.check("no such exercise", classifier_free_guidance)


def test_the_oscillating_weight_is_what_sixteen_steps_of_the_shipped_base_see():
    own = load_stage(weights.DATA / "weights" / "base64").sampling
    levels = time_grid(16, CosineSchedule(-10, 10), spacing=own.spacing, lambda_start=own.lambda_start)[:-1]
    assert [learn.EXERCISES["oscillating guidance"].solution(level) for level in levels] == [15] * 4 + [1, 15] * 6


def test_solutions_that_are_spelt_out_are_what_the_library_does():
    right = {name: exercise.solution for name, exercise in learn.EXERCISES.items()}
    x0, eps = torch.randn(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    schedule = CosineSchedule(-20.0, 20.0)
    for time in (0.2, 0.5, 0.8):
        level, t = schedule.at(time), torch.tensor(time, dtype=torch.float64)
        x_t = right["add noise"](x0, eps, level.alpha, level.sigma)
        torch.testing.assert_close(x_t, schedule.add_noise(x0, t, eps))
        x0_again = right["eps to x0"](eps, x_t, level.alpha, level.sigma)
        torch.testing.assert_close(x0_again, to_x0(eps, x_t, level.alpha, level.sigma, "eps"))
        assert float(right["log-SNR"](t)) == pytest.approx(level.log_snr, abs=1e-3)  # but for the truncated ends
