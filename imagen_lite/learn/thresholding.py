"""The exercises of notebook 08: thresholding."""

import torch

from imagen_lite.learn.exercise import Exercise, pictures, same
from imagen_lite.thresholding import dynamic_threshold, static_threshold

LOUD, CALM = pictures(1.0, 3), pictures(0.2, 4)

EXERCISES: dict[str, Exercise] = {
    "static threshold": Exercise(
        "Static thresholding",
        (
            (lambda f: same(f(CALM), CALM), "a picture within [-1, 1] must stay as it is: clipping is not scaling"),
            (lambda f: float(f(LOUD).abs().max()) <= 1, "values beyond [-1, 1] are left"),
            (lambda f: float(f(LOUD).min()) < 0, "pictures live in [-1, 1], not in [0, 1]"),
            (lambda f: same(f(LOUD), LOUD.clamp(-1, 1)), "what lies within [-1, 1] must not move"),
        ),
        static_threshold,
        (LOUD,),
    ),
    "dynamic threshold": Exercise(
        "Dynamic thresholding",
        (
            (
                lambda f: same(f(CALM), CALM),
                "a picture within [-1, 1] was changed: s must never be below 1, or dim pictures are stretched",
            ),
            (
                lambda f: not same(f(LOUD), LOUD.clamp(-1, 1)),
                "this is static clipping: s may be above 1 (and `sample_max_value=1` would undo it)",
            ),
            (
                lambda f: float(f(3 * LOUD).abs().max()) <= 1 + 1e-5,
                "values beyond [-1, 1] are left: after clipping to [-s, s], divide by s",
            ),
            (
                lambda f: same(f(torch.cat([LOUD, 5 * LOUD]))[:2], f(LOUD)),
                "one picture changes another: the percentile is each picture's own, not the batch's",
            ),
            (
                lambda f: same(f(2 * LOUD), dynamic_threshold(2 * LOUD)),
                "the shape is right, s is not: the 0.995 quantile of |x0|, over all channels and pixels of a picture",
            ),
        ),
        dynamic_threshold,
        (LOUD,),
    ),
}  # fmt: skip
