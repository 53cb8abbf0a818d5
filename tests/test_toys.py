"""Mixtures: the formulas against autograd, against sampling, and through the library's own sampler."""

import math

import pytest
import torch

from imagen_lite.prediction import to_x0
from imagen_lite.sampler import ddim_step, final, keyed_noise, sample, time_grid
from imagen_lite.schedule import CosineSchedule
from imagen_lite.thresholding import no_threshold
from imagen_lite.toys import Mixture, best_guess

SCHEDULE = CosineSchedule(-10.0, 10.0)
THREE = Mixture(
    torch.tensor([[0.5, 0.0], [-0.5, 0.3], [0.0, -0.6]], dtype=torch.float64),
    torch.tensor([0.1, 0.2, 0.05], dtype=torch.float64), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
)  # fmt: skip


@pytest.mark.parametrize("t", [0.05, 0.4, 0.95])
def test_eps_is_minus_sigma_times_the_gradient_of_the_log_density(t):
    level = SCHEDULE.at(t)
    x = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(THREE.log_density(x, level).sum(), x)
    torch.testing.assert_close(THREE.eps(x, level), -level.sigma * gradient)


def test_the_density_integrates_to_one():
    axis = torch.linspace(-3, 3, 601, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    for level in (None, SCHEDULE.at(0.3)):
        assert THREE.log_density(points, level).exp().sum().item() * 0.01**2 == pytest.approx(1, abs=1e-3)


def test_the_x0_it_stands_for_is_the_mean_of_those_it_may_be():
    """E[x0 | x_t], by weighing many clean points with the likelihood of their noise."""
    level, x_t = SCHEDULE.at(0.5), torch.tensor([[0.2, 0.1]], dtype=torch.float64)
    clean = THREE.draw(400_000)
    weight = (-(x_t - level.alpha * clean).square().sum(1) / (2 * level.sigma**2)).softmax(0)
    x0 = to_x0(THREE.eps(x_t, level), x_t, level.alpha, level.sigma, "eps")
    torch.testing.assert_close(x0[0], (weight[:, None] * clean).sum(0), atol=5e-3, rtol=0)


def test_the_sampler_draws_the_mixture():
    levels = time_grid(200, SCHEDULE)
    noise = keyed_noise(0, (4000, 2))
    drawn = final(sample(THREE.eps, noise, levels, threshold=no_threshold, step=ddim_step)).double()
    nearest = torch.cdist(drawn, THREE.means).argmin(1)
    shares = torch.bincount(nearest, minlength=3) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.03, rtol=0)
    for k in range(3):
        assert drawn[nearest == k].std(0).mean().item() == pytest.approx(THREE.stds[k].item(), rel=0.12)


def test_one_gaussian_is_the_closed_form():
    one = Mixture(torch.zeros(1, 2), torch.full((1,), 0.5), torch.ones(1))
    level, x = SCHEDULE.at(0.6), torch.randn(5, 2)
    torch.testing.assert_close(one.eps(x, level), level.sigma * x / (level.alpha**2 * 0.25 + level.sigma**2))
    assert one.log_density(torch.zeros(2)).item() == pytest.approx(-math.log(2 * math.pi * 0.25))


def test_what_is_no_mixture_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\), \(2,\), \(3,\)"):
        Mixture(torch.zeros(3, 2), torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="above 0"):
        Mixture(torch.zeros(1, 2), torch.zeros(1), torch.ones(1))


def test_the_best_guess_is_the_average_of_what_it_may_have_been():
    """By weighing pictures with the density of the noise that each would need; and at both ends."""
    data = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_t = 0.6 * data[2:3] + 0.8 * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    density = torch.distributions.Normal(0.6 * data, 0.8).log_prob(x_t).sum((1, 2, 3)).exp()
    expected = (density.view(-1, 1, 1, 1) * data).sum(0) / density.sum()
    torch.testing.assert_close(best_guess(x_t, data, 0.6, 0.8)[0], expected)
    torch.testing.assert_close(best_guess(data[4:5], data, 1.0, 1e-3), data[4:5])
    torch.testing.assert_close(best_guess(x_t, data, 1e-6, 1.0)[0], data.mean(0), atol=1e-4, rtol=0)


def test_the_best_guess_of_points_is_that_of_a_mixture_of_them():
    points = torch.randn(5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sharp = Mixture(points, torch.full((5,), 1e-4, dtype=torch.float64), torch.ones(5, dtype=torch.float64))
    level, x_t = SCHEDULE.at(0.5), torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    x0 = to_x0(sharp.eps(x_t, level), x_t, level.alpha, level.sigma, "eps")
    torch.testing.assert_close(best_guess(x_t, points, level.alpha, level.sigma), x0, atol=1e-6, rtol=0)
