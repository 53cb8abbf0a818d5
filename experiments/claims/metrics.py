"""What automatic measures do not see: CLIP cannot count; the Fréchet distance knows no caption and has no eyes (§3)."""

from typing import Any

import torch
from torch import Tensor

from experiments.claims.results import folder_of
from experiments.results import load_result
from imagen_lite.evaluate import alignment
from imagen_lite.evaluate.alignment_report import PLAIN, cases
from imagen_lite.evaluate.fidelity import frechet_distance, reader_features
from imagen_lite.recipes.evaluation import kept
from imagen_lite.scenes.clip_lite import kernel_distance
from imagen_lite.scenes.renderer import render

MODELS = ("reader", "clip-lite")
GRAIN = 0.03  # standard deviation of a noise that one hardly sees: four grey levels
MISSING = "duck"  # a kind of which a model might draw none
SEEDS = (0, 1, 2)


def renders(n: int, seed: int) -> tuple[Tensor, list[str], Tensor]:
    """Two sets of `n` real renders of other scenes, (n, 3, 64, 64) each, and the captions of the first."""
    each = -(-n // len(PLAIN))
    every = [cases(name, "test", 2 * each * (seed + 1))[2 * each * seed :] for name in PLAIN]
    first, second = ([case for some in every for case in some[k::2]][:n] for k in (0, 1))
    drawn = [
        torch.cat([render([c.scene for c in some[i : i + 60]], 64) for i in range(0, n, 60)])
        for some in (first, second)
    ]
    return drawn[0], [case.caption for case in first], drawn[1]


def damaged(images: Tensor, captions: list[str], seed: int) -> dict[str, tuple[Tensor, list[str]]]:
    """The pictures as they are, and harmed in ways that a distance should mind, or should not."""
    noise = GRAIN * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    kept = [k for k, caption in enumerate(captions) if MISSING not in caption]
    shuffled = captions[1:] + captions[:1]
    return {
        "as they are": (images, captions),
        "another's caption": (images, shuffled),
        "a grain of four grey levels": ((images + noise).clamp(-1, 1), captions),
        f"no {MISSING}s": (images[kept], [captions[k] for k in kept]),
    }


def compared(n: int, seed: int) -> dict[str, Any]:
    """Distances of all that is damaged to other renders, and alignment with the captions."""
    images, captions, others = renders(n, seed)
    like = reader_features(others)
    rows = {}
    for name, (some, told) in damaged(images, captions, seed).items():
        right = [verdict.aligned for verdict in alignment(some, told)]
        rows[name] = {
            "n": len(some), "aligned": round(sum(right) / len(right), 4),
            "frechet": round(frechet_distance(reader_features(some), like), 5),
            "kernel": round(kernel_distance(some, others), 4),
        }  # fmt: skip
    return {"seed": seed, "ways": rows}


def blindness(n: int = 480) -> dict[str, Any]:
    """The comparisons of three seeds; what CLIP-lite can count is measured by `experiments.blind_spots`."""
    rows = [
        kept(folder_of("metrics", MODELS) / f"{n}-{seed}.json", lambda seed=seed: compared(n, seed)) for seed in SEEDS
    ]
    return {"n": n, "seeds": list(SEEDS), "rows": rows, "clip": load_result("blind_spots")["rows"]}
