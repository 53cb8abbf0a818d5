"""Plausible wrong answers to notebook 09's exercises, for test_learn."""

import math

import torch
import torch.nn.functional as F


def psnr(images, low_res, peak=4.0, factor=10.0, mode="area"):
    small = F.interpolate(images, low_res.shape[2:], mode=mode)
    return factor * torch.log10(peak / (small - low_res).square().mean((1, 2, 3)))


WRONG = {
    "augmentation": [
        (lambda x, a, e: math.sqrt(1 - a * a) * x + a * e, "taken for sigma"),
        (lambda x, a, e: x + math.sin(math.pi / 2 * a) * e, "not made weaker"),
        (lambda x, a, e: (1 - a) * x + a * e, "squares must add up to 1"),
        (lambda x, a, e: math.cos(a) * x + math.sin(a) * e, "is the pi/2 there?"),
        (lambda x, a, e: e, "picture is gone"),
        (lambda x, a, e: math.sin(math.pi / 2 * a) * x + math.cos(math.pi / 2 * a) * e, "picture is gone"),
        (lambda x, a, e: (math.cos(math.pi / 2 * a) * x + math.sin(math.pi / 2 * a) * e).clamp(-1, 1), "must stay"),
        (lambda x, a, e: math.cos(math.pi / 2 * a) ** 2 * x + math.sin(math.pi / 2 * a) ** 2 * e, "add up to 1"),
        (lambda x, a, e: x.mean(), "shape"),
    ],
    "consistency": [
        (lambda x, low: psnr(x, low).mean(), "each picture"),
        (lambda x, low: psnr(x[..., ::4, ::4], low), "averaging 4×4"),
        (lambda x, low: -psnr(x, low), "turned round"),
        (lambda x, low: psnr(x, low, peak=1.0), "span 2"),
        (lambda x, low: psnr(x, low, factor=20.0), "ratio of squares"),
        (lambda x, low: psnr(x, low, peak=2.0), "10 log10(4 / mean square error)"),
    ],
}
