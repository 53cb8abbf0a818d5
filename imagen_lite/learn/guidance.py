"""The exercises of notebook 07: guidance."""

from imagen_lite.guidance import classifier_free_guidance
from imagen_lite.learn.exercise import Exercise, pictures, same
from imagen_lite.sampler import time_grid
from imagen_lite.schedule import CosineSchedule, Level


def oscillating_weight(level: Level, high: float = 15.0, low: float = 1.0, first: int = 4) -> float:
    """`high` for the `first` steps, then `low` and `high` in turn (Imagen Video §2.6.2, which writes w for our w - 1).

    For steps that lie 9/8 of log-SNR apart, from -8 on: sixteen of the shipped base's.
    """
    index = round((level.log_snr + 8) * 8 / 9)
    return high if index < first or (index - first) % 2 else low


def _at(index: int) -> Level:
    return time_grid(16, CosineSchedule(-10.0, 10.0), spacing="log_snr", lambda_start=-8.0)[index]


COND, UNCOND = pictures(1.0, 1), pictures(1.0, 2)

EXERCISES: dict[str, Exercise] = {
    "guidance": Exercise(
        "Classifier-free guidance",
        (
            (lambda f: f(COND, UNCOND, 3.0).shape == COND.shape, "the answer must have the shape of eps_cond"),
            (
                lambda f: not same(f(COND, UNCOND, 1.0), 2 * COND - UNCOND),
                "w = 1 goes beyond eps_cond: this is Ho & Salimans' w, one less than the paper's, in which 1 is off",
            ),
            (
                lambda f: not same(f(COND, UNCOND, 3.0), 3 * UNCOND - 2 * COND),
                "the two are swapped: it moves away from the text. Start at eps_uncond and go towards eps_cond",
            ),
            (lambda f: same(f(COND, UNCOND, 1.0), COND), "w = 1 must give eps_cond itself: guidance off"),
            (lambda f: same(f(COND, UNCOND, 0.0), UNCOND), "w = 0 must give eps_uncond itself: the text ignored"),
            (
                lambda f: same(f(COND, UNCOND, 8.0), UNCOND + 8 * (COND - UNCOND)),
                "right at w = 0 and w = 1, but not a straight line between and beyond: nothing may be clipped here",
            ),
        ),
        classifier_free_guidance,
        (COND, UNCOND, 3.0),
    ),
    "oscillating guidance": Exercise(
        "Oscillating guidance",
        (
            (lambda f: all(f(_at(i)) == 15 for i in range(4)), "the first four steps, log-SNR -8 to -4.6, need w = 15"),
            (
                lambda f: {f(_at(i)) for i in range(4, 16)} == {1, 15},
                "after the first four steps w must be 1 or 15, and each of them now and then",
            ),
            (
                lambda f: all(f(_at(i)) != f(_at(i + 1)) for i in range(4, 15)),
                "after the first four steps w must change at every step; log-SNR rises by 9/8 from step to step",
            ),
            (lambda f: f(_at(4)) == 1, "the first change is to w = 1, at step 4 (counted from 0)"),
        ),
        oscillating_weight,
        (_at(0),),
    ),
}  # fmt: skip
