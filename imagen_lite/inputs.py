"""What a caller may ask a cascade to draw: prompts, seeds and pictures to begin with, each refused in one sentence."""

import unicodedata
from collections.abc import Sequence

from torch import Tensor

LONGEST_PROMPT = 2000  # characters; what is longer was pasted by mistake


def check_prompts(prompts: str | Sequence[str]) -> list[str]:
    """The prompts as a list; raises ValueError for what is no English prompt, naming it and saying how to mend it."""
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts:
        raise ValueError("there are no prompts; pass at least one, such as 'a red cone on the grass'")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise ValueError(f"a prompt must be a string, not {prompt!r}")
        letters = [c for c in prompt if c.isalpha()]
        if not letters:
            raise ValueError(f"the prompt {prompt[:40]!r} has no words; say what to draw, as 'a red cone on the grass'")
        if len(prompt) > LONGEST_PROMPT:
            raise ValueError(
                f"the prompt has {len(prompt):,} characters ({prompt[:40]!r}…); say it in {LONGEST_PROMPT:,} at most, "
                f"a sentence is enough"
            )
        if sum("LATIN" in unicodedata.name(c, "") for c in letters) < len(letters) / 2:
            raise ValueError(f"the prompt {prompt[:40]!r} is not in English, the only language read here; translate it")
    return prompts


def check_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """A seed for each of `count` pictures, seed + i or the list given; raises ValueError for what fits neither."""
    seeds = [seed + i for i in range(count)] if isinstance(seed, int) else [int(s) for s in seed]
    if len(seeds) != count:
        raise ValueError(f"{len(seeds)} seeds were given for {count} prompts; give one number, or one for each prompt")
    if bad := [s for s in seeds if not 0 <= s < 2**32]:
        raise ValueError(f"a seed must be from 0 to {2**32 - 1}, not {bad[0]}")
    return seeds


def check_low_res(low_res: Tensor, count: int) -> int:
    """The side of the pictures to begin with; raises ValueError for what is no batch of `count` pictures."""
    if not isinstance(low_res, Tensor) or not low_res.is_floating_point():
        kind = low_res.dtype if isinstance(low_res, Tensor) else type(low_res).__name__
        raise ValueError(f"low_res must be a float tensor (B, 3, S, S) in [-1, 1], not {kind}; scale and convert it")
    if low_res.dim() != 4 or low_res.shape[1] != 3 or low_res.shape[2] != low_res.shape[3]:
        raise ValueError(f"low_res must be (B, 3, S, S), square and of three colours, not {tuple(low_res.shape)}")
    if len(low_res) != count:
        raise ValueError(f"there are {len(low_res)} pictures in low_res for {count} prompts; give one for each")
    if not bool(low_res.isfinite().all()) or float(low_res.abs().max()) > 1.001:
        low, high = float(low_res.min()), float(low_res.max())
        raise ValueError(f"low_res must be within [-1, 1], not from {low:.3g} to {high:.3g}; scale it")
    return low_res.shape[-1]
