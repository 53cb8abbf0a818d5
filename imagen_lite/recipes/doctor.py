"""A check-up before hours are spent: data range, masks, caption coverage, and one batch learned by heart.

imagen-lite train base64 --doctor
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite.data import Pool
from imagen_lite.text import FrozenTextEncoder, TextEmbedding


def check_pictures(images: Tensor) -> str:
    """Images (B, 3, H, W) must fill [-1, 1] and differ; returns what was found.

    Raises:
        ValueError: values outside the range or in a small part of it (a forgotten scaling), or all pictures the same.
    """
    low, high = float(images.min()), float(images.max())
    if not (-1 <= low < -0.5 and 0.5 < high <= 1):
        raise ValueError(f"pictures span [{low:.2f}, {high:.2f}], not about [-1, 1]: check how the data is scaled")
    spread = float(images.float().std(0).mean())
    if spread < 0.05:
        raise ValueError(f"the pictures are nearly the same (deviation {spread:.3f}): check how the data is read")
    return f"pictures span [{low:.2f}, {high:.2f}] and differ (deviation {spread:.2f})"


def check_pairs(images: Tensor, low_res: Tensor) -> str:
    """Images (B, 3, H, W), averaged over 4×4 pixels, must be the low-res ones; returns what was found.

    Raises:
        ValueError: they differ, so the pairs do not belong together (another crop, flip or scene).
    """
    difference = float((F.avg_pool2d(images, 4) - low_res).square().mean().sqrt())
    apart = float((F.avg_pool2d(images, 4) - low_res.roll(1, 0)).square().mean().sqrt())
    if not difference < 0.1 or not difference < 0.5 * apart:
        raise ValueError(
            f"pictures and low-res pictures differ by {difference:.2f} (of other pairs by {apart:.2f}): they are not "
            "of the same scenes and crops; check how the pairs are made"
        )
    return f"low-res pictures are the pictures made small, to {difference:.3f} (of other pairs {apart:.2f})"


def check_captions(pool: Pool, encoder: FrozenTextEncoder, length: int, count: int = 2000) -> str:
    """Captions must be known to the tokenizer, fit its length, and differ; returns what was found.

    Raises:
        ValueError: more than 1 % unknown tokens or 2 % cut captions, or hardly any variety.
    """
    captions = [caption for own in pool.captions[:count] for caption in own]
    rows = encoder.tokenizer.tokenizer.encode_batch(captions, add_special_tokens=False)
    unknown = encoder.tokenizer.tokenizer.token_to_id("<unk>")
    share = sum(token == unknown for row in rows for token in row.ids) / sum(len(row.ids) for row in rows)
    cut = sum(len(row.ids) >= length for row in rows) / len(rows)
    variety = len(set(captions)) / len(captions)
    if share > 0.01 or cut > 0.02 or variety < 0.2:
        raise ValueError(
            f"of the captions' tokens {share:.1%} are unknown to {encoder.name}, {cut:.1%} of the captions have more "
            f"than {length} tokens, {variety:.0%} are distinct: use an encoder that knows their words, or mend them"
        )
    return f"captions: {share:.2%} unknown tokens, {cut:.2%} cut at {length}, {variety:.0%} distinct"


@torch.no_grad()
def check_masks(model: nn.Module, text: TextEmbedding, images: Tensor) -> str:
    """What stands in the padding must not change the output; returns what was found.

    Raises:
        ValueError: it does, so a mask is lost on the way.
    """
    garbage = torch.where(text.mask[..., None], text.tokens, 9.0 * torch.randn_like(text.tokens))
    t = torch.full((len(images),), 0.5, device=images.device)
    difference = float((model(images, t, text) - model(images, t, TextEmbedding(garbage, text.mask))).abs().max())
    if difference > 1e-3:
        raise ValueError(f"padding changes the output by {difference:.3g}: a text mask does not reach some attention")
    return f"padding changes the output by {difference:.1e}"


def check_overfit(model: nn.Module, loss: Callable[[], Tensor], lr: float, steps: int = 100) -> str:
    """The model must learn one fixed batch by heart: its loss has to halve; returns what was found.

    Raises:
        ValueError: it does not.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr)
    losses = []
    for _ in range(steps):
        value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(value.detach()))
    first, last = losses[0], sum(losses[-5:]) / 5
    if not last < 0.5 * first:
        raise ValueError(
            f"one batch cannot be learned by heart: the loss went from {first:.3f} to {last:.3f} in {steps} steps; "
            f"check gradients, the target and the learning rate before you train on more"
        )
    return f"one batch learned by heart: loss {first:.3f} to {last:.3f} in {steps} steps"
