"""eps, x0 and v: round trips, targets, and the weights of the loss."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagen_lite.prediction import loss_weight, target, to_eps, to_x0

KINDS = ("eps", "x0", "v")


def draw(seed: int, log_snr: float, dtype=torch.float64):
    """Pictures, noise and the noisy mixture, at one level."""
    x0, eps = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    level = torch.tensor([log_snr] * 2, dtype=torch.float64)
    alpha, sigma = torch.sigmoid(level).sqrt().to(dtype), torch.sigmoid(-level).sqrt().to(dtype)
    return x0, eps, alpha, sigma, alpha.view(-1, 1, 1, 1) * x0 + sigma.view(-1, 1, 1, 1) * eps


@given(seed=st.integers(0, 1000), log_snr=st.floats(-20, 20))
@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_output_gives_x0_and_eps_back(kind, seed, log_snr):
    x0, eps, alpha, sigma, x_t = draw(seed, log_snr)
    output = target(x0, eps, alpha, sigma, kind)
    assert torch.allclose(to_x0(output, x_t, alpha, sigma, kind), x0, atol=1e-9)
    assert torch.allclose(to_eps(output, x_t, alpha, sigma, kind), eps, atol=1e-9)


@given(seed=st.integers(0, 1000), log_snr=st.floats(-8, 8))
def test_any_output_means_the_same_in_every_kind(seed, log_snr):
    """There and back again in float32, for a network that is wrong, as networks are."""
    _, output, alpha, sigma, x_t = draw(seed, log_snr, torch.float32)
    for first, second in itertools.product(KINDS, KINDS):
        x0, eps = to_x0(output, x_t, alpha, sigma, first), to_eps(output, x_t, alpha, sigma, first)
        again = target(x0, eps, alpha, sigma, second)
        assert torch.allclose(to_x0(again, x_t, alpha, sigma, second), x0, rtol=1e-3, atol=1e-3 * float(1 / alpha[0]))
        back = target(x0, eps, alpha, sigma, first)
        assert torch.allclose(back, output, atol=1e-4 * float(1 / (alpha * sigma)[0]))


def test_alpha_belongs_to_pictures_not_columns():
    x_t, output = torch.randn(2, 4, 3, 4, 4).unbind(0)
    alpha = torch.tensor([0.2, 0.5, 0.8, 1.0])
    sigma = (1 - alpha**2).sqrt()
    for kind, function in itertools.product(("eps", "v"), (to_x0, to_eps)):
        together = function(output, x_t, alpha, sigma, kind)
        alone = [function(output[i : i + 1], x_t[i : i + 1], float(alpha[i]), float(sigma[i]), kind) for i in range(4)]
        assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@given(log_snr=st.floats(-20, 20), kind=st.sampled_from(KINDS))
def test_weightings_weigh_errors_of_x0_alike_in_every_kind(log_snr, kind):
    """||output error||² is (1, SNR, SNR + 1) ||x0 error||² for (x0, eps, v); times its weight: what its name says."""
    x0, eps, alpha, sigma, x_t = draw(0, log_snr)
    error = torch.randn_like(x0) * 0.1
    wrong_x0 = x0 + error
    wrong = target(wrong_x0, to_eps(wrong_x0, x_t, alpha, sigma, "x0"), alpha, sigma, kind)
    loss = (wrong - target(x0, eps, alpha, sigma, kind)).square().flatten(1).sum(1)
    snr = torch.tensor([log_snr] * 2, dtype=torch.float64).exp()
    for weighting, factor in (("min-snr", snr.clamp(max=5)), ("snr+1", snr + 1)):
        weighted = loss_weight(snr.log(), kind, weighting) * loss
        assert torch.allclose(weighted, factor * error.square().flatten(1).sum(1), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighting", ["plain", "min-snr"])
def test_weights_are_finite_at_extremes(kind, weighting):
    weight = loss_weight(torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0]), kind, weighting)
    assert bool(weight.isfinite().all()) and bool((weight >= 0).all())
    if weighting == "plain":
        assert bool((weight == 1).all())
    else:
        assert bool((weight <= 5).all())


def test_min_snr_as_printed_for_snr_10():
    log_snr = torch.tensor([10.0]).log()
    weights = [float(loss_weight(log_snr, kind, "min-snr")) for kind in KINDS]
    assert weights == pytest.approx([5 / 10, 5, 5 / 11], rel=1e-5)


def test_unknown_kinds_and_weightings_are_named():
    x = torch.zeros(1, 3, 2, 2)
    for call in (
        lambda: to_x0(x, x, 1, 0, "noise"),  # type: ignore[arg-type]
        lambda: to_eps(x, x, 1, 1, "noise"),  # type: ignore[arg-type]
        lambda: target(x, x, 1, 0, "noise"),  # type: ignore[arg-type]
        lambda: loss_weight(torch.zeros(1), "noise"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="must be 'eps', 'x0' or 'v', not 'noise'"):
            call()
    with pytest.raises(ValueError, match=r"'plain', 'min-snr' or 'snr\+1', not 'snr'"):
        loss_weight(torch.zeros(1), "eps", "snr")  # type: ignore[arg-type]
