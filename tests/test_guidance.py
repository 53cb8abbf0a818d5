"""Guidance: the paper's convention for w, and what the network is asked."""

import math

import pytest
import torch

from imagen_lite.guidance import (
    OnX0,
    adaptive_projected_guidance,
    classifier_free_guidance,
    guided,
    interval_weight,
    projected_guidance,
    rescaled_guidance,
)
from imagen_lite.prediction import target
from imagen_lite.schedule import CosineSchedule
from imagen_lite.text import TextEmbedding

LEVEL = CosineSchedule().at(0.4)


def captions(batch: int = 2) -> TextEmbedding:
    mask = torch.ones(batch, 5, dtype=torch.bool)
    return TextEmbedding(torch.randn(batch, 5, 8, generator=torch.Generator().manual_seed(0)), mask)


class Recorder:
    """A model whose output depends on its text, and that keeps what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, x_t, t, text, low_res=None, aug_level=None):
        self.calls.append((x_t, t, text, low_res, aug_level))
        return x_t * 0.5 + text.tokens.mean((1, 2)).view(-1, 1, 1, 1)


def test_w_1_is_off_and_w_0_ignores_the_text_exactly():
    cond, uncond = torch.randn(2, 4, 3, 8, 8).unbind(0)
    assert torch.equal(classifier_free_guidance(cond, uncond, 1.0), cond)
    assert torch.equal(classifier_free_guidance(cond, uncond, 0.0), uncond)


def test_the_convention_is_imagens_not_ho_and_salimans():
    cond, uncond = torch.randn(2, 4, 3, 8, 8).unbind(0)
    ours = classifier_free_guidance(cond, uncond, 3.0)
    assert torch.allclose(ours, uncond + 3 * (cond - uncond), atol=1e-5)
    assert torch.allclose(ours, (1 + 2) * cond - 2 * uncond, atol=1e-5)  # their w is ours less 1


def test_one_weight_per_picture():
    cond, uncond = torch.randn(2, 4, 3, 8, 4).unbind(0)  # 4 pictures of 4 columns
    weight = torch.tensor([0.0, 1.0, 2.0, 8.0])
    together = classifier_free_guidance(cond, uncond, weight)
    alone = [classifier_free_guidance(cond[i], uncond[i], float(weight[i])) for i in range(4)]
    assert torch.allclose(together, torch.stack(alone))


def test_both_halves_go_as_one_batch_and_see_the_same_low_res():
    model, text = Recorder(), captions()
    x_t, low_res, aug_level = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.tensor([0.1, 0.2])
    eps = guided(model, text, 3.0, low_res=low_res, aug_level=aug_level)(x_t, LEVEL)
    ((x, t, both, low, aug),) = model.calls
    assert torch.equal(x, torch.cat([x_t, x_t])) and torch.equal(low, torch.cat([low_res, low_res]))
    assert torch.equal(aug, torch.cat([aug_level, aug_level])) and t.shape == (4,) and float(t[0]) == pytest.approx(0.4)
    assert torch.equal(both.tokens[:2], text.tokens) and torch.equal(both.tokens[2:], text.null().tokens)
    assert torch.equal(both.mask[2:], text.null().mask)
    cond, uncond = Recorder()(x_t, t, text), Recorder()(x_t, t, text.null())
    assert torch.allclose(eps, uncond + 3 * (cond - uncond), atol=1e-5)


@pytest.mark.parametrize("weight", [1, 1.0, torch.ones(2)])
def test_w_1_costs_one_evaluation(weight):
    model, text, x_t = Recorder(), captions(), torch.randn(2, 3, 8, 8)
    eps = guided(model, text, weight)(x_t, LEVEL)
    assert [len(call[0]) for call in model.calls] == [2]
    assert torch.equal(eps, Recorder()(x_t, None, text))


def test_guidance_of_ones_own_always_gets_both_halves():
    model, text, x_t = Recorder(), captions(), torch.randn(2, 3, 8, 8)
    eps = guided(model, text, 1.0, guidance=lambda cond, uncond, w: uncond)(x_t, LEVEL)
    assert torch.allclose(eps, Recorder()(x_t, None, text.null()))


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_the_kind_of_prediction_does_not_matter(kind):
    """Three networks that know the same pictures, each in its own terms."""
    x0, eps = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64).unbind(0)
    x_t = LEVEL.alpha * x0 + LEVEL.sigma * eps
    output = target(x0, eps, LEVEL.alpha, LEVEL.sigma, kind)
    predicted = guided(lambda *_: output.repeat(2, 1, 1, 1), captions(), 4.0, kind=kind)(x_t, LEVEL)
    assert torch.allclose(predicted, eps)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0, torch.tensor([1.0, float("nan")])])
def test_bad_weights_are_named(weight):
    with pytest.raises(ValueError, match="guidance weight must be a finite number, .* not "):
        guided(Recorder(), captions(), weight)


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 3, 8, 8, generator=generator, dtype=torch.float64).unbind(0)


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescaled_guidance_is_diffusers(phi):
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    cond, uncond = pair()
    expected = rescale_noise_cfg(classifier_free_guidance(cond, uncond, 7.5), cond, phi)
    torch.testing.assert_close(rescaled_guidance(cond, uncond, 7.5, phi), expected)


def test_rescaled_guidance_has_the_size_of_the_conditional_prediction():
    cond, uncond = pair()
    assert (classifier_free_guidance(cond, uncond, 9.0).std((1, 2, 3)) > 5 * cond.std((1, 2, 3))).all()
    torch.testing.assert_close(rescaled_guidance(cond, uncond, 9.0, 1.0).std((1, 2, 3)), cond.std((1, 2, 3)))


@pytest.mark.parametrize(("eta", "radius"), [(0.0, math.inf), (0.5, math.inf), (0.0, 3.0), (1.0, 3.0)])
def test_projected_guidance_is_diffusers_over_several_steps(eta, radius):
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    ours, theirs = adaptive_projected_guidance(eta, radius, momentum=-0.5).guidance, MomentumBuffer(-0.5)
    norm = 0.0 if math.isinf(radius) else radius
    for step in range(3):
        cond, uncond = pair(step)
        expected = normalized_guidance(cond, uncond, 4.0, theirs, eta, norm, use_original_formulation=True)
        # diffusers multiplies by the scale it is given, on top of the conditional prediction: our w - 1
        torch.testing.assert_close(ours(cond, uncond, 5.0), expected, rtol=1e-5, atol=1e-5)


def test_projected_guidance_with_all_of_the_parallel_part_is_plain_guidance():
    cond, uncond = pair()
    plain = classifier_free_guidance(cond, uncond, 5.0)
    torch.testing.assert_close(projected_guidance(cond, uncond, 5.0, eta=1.0), plain)
    without = projected_guidance(cond, uncond, 5.0, eta=0.0) - cond
    torch.testing.assert_close((without * cond).sum((1, 2, 3)), torch.zeros(4, dtype=torch.float64))
    short = projected_guidance(cond, uncond, 2.0, eta=1.0, radius=0.1) - cond
    torch.testing.assert_close(short.flatten(1).norm(dim=1), torch.full((4,), 0.1, dtype=torch.float64))


def test_guidance_on_x0_is_the_same_as_on_eps_where_it_is_linear():
    text, x_t = captions(), torch.randn(2, 3, 8, 8)
    on_eps = guided(Recorder(), text, 4.0)(x_t, LEVEL)
    on_x0 = guided(Recorder(), text, 4.0, guidance=OnX0(classifier_free_guidance))(x_t, LEVEL)
    torch.testing.assert_close(on_x0, on_eps, rtol=1e-4, atol=1e-4)


def test_a_weight_may_depend_on_the_level_and_costs_half_where_it_is_1():
    schedule, text, x_t = CosineSchedule(), captions(), torch.randn(2, 3, 8, 8)
    weight, model = interval_weight(6.0, 0.3, 3.0), Recorder()
    for t, noise, w in ((0.1, 0.158, 1.0), (0.5, 1.0, 6.0), (0.9, 6.3, 1.0)):
        level = schedule.at(t)
        assert level.sigma / level.alpha == pytest.approx(noise, rel=0.02)
        assert torch.equal(guided(model, text, weight)(x_t, level), guided(Recorder(), text, w)(x_t, level))
    assert [len(call[0]) for call in model.calls] == [2, 4, 2]


def test_what_cannot_be_a_weight_or_an_interval_is_refused():
    with pytest.raises(ValueError, match="0 <= low < high, not 2 and 1"):
        interval_weight(5.0, 2, 1)
    with pytest.raises(ValueError, match="not nan"):
        interval_weight(math.nan, 0, 1)
    with pytest.raises(ValueError, match="not -3"):
        guided(Recorder(), captions(), lambda level: -3.0)(torch.randn(2, 3, 8, 8), LEVEL)
