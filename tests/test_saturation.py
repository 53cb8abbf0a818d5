"""Saturation, colourfulness and contrast: pictures for which the answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagen_lite.evaluate.saturation import colorfulness, contrast, outside_share, saturated_share


def halves(left: tuple[float, ...], right: tuple[float, ...]) -> torch.Tensor:
    """A picture of two plain halves, (1, 3, 8, 8)."""
    image = torch.empty(1, 3, 8, 8)
    image[..., :4], image[..., 4:] = (torch.tensor(v)[None, :, None, None] for v in (left, right))
    return image


def test_shares_count_values_picture_by_picture():
    x0 = torch.zeros(3, 3, 4, 4)
    x0[1, 0] = 1.5  # a third of the values
    x0[2, :, 0] = torch.nan  # a quarter
    assert outside_share(x0).tolist() == pytest.approx([0, 1 / 3, 1 / 4])
    assert saturated_share(x0).tolist() == pytest.approx([0, 1 / 3, 1 / 4])
    assert outside_share(torch.ones(1, 3, 4, 4)).item() == 0  # the end itself is in range,
    assert saturated_share(-torch.ones(1, 3, 4, 4)).item() == 1  # and saturated


@given(st.floats(0, 255))
def test_saturated_is_what_a_file_stores_as_0_or_255(value):
    image = torch.full((1, 3, 2, 2), value / 127.5 - 1, dtype=torch.float64)
    stored = math.floor(value + 0.5)
    if abs(value % 1 - 0.5) > 1e-6:
        assert saturated_share(image).item() == float(stored in (0, 255))


def test_colourfulness_of_known_pictures():
    assert colorfulness(halves((0.3, 0.3, 0.3), (-0.8, -0.8, -0.8))).item() == pytest.approx(0, abs=1e-4)  # greys
    # Red and cyan halves: rg is ±255, yb is 127.5 and -127.5: spread 255 sqrt(1.25), means 0.
    assert colorfulness(halves((1, -1, -1), (-1, 1, 1))).item() == pytest.approx(255 * 1.25**0.5, rel=1e-5)
    # One plain red: no spread, means 255 and 127.5.
    assert colorfulness(halves((1, -1, -1), (1, -1, -1))).item() == pytest.approx(0.3 * 255 * 1.25**0.5, rel=1e-5)


def test_contrast_of_known_pictures():
    assert contrast(halves((1, 1, 1), (-1, -1, -1))).item() == pytest.approx(0.5)
    assert contrast(halves((0.2, 0.2, 0.2), (0.2, 0.2, 0.2))).item() == pytest.approx(0, abs=1e-6)
    assert contrast(halves((-1, 1, -1), (-1, -1, -1))).item() == pytest.approx(0.587 / 2)
