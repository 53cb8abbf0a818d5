"""The way of DALL-E 2 (2204.06125): a prior says which picture embedding a caption asks for, a model draws to that.

Both learn from the same pictures; CLIP-lite, whose embeddings they are, stays as it is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.claims.encoders import Encoder
from imagen_lite.data import Pool, to_images
from imagen_lite.recipes.stages import caption_rows
from imagen_lite.scenes.clip_lite import load_clip_lite, tokenizer
from imagen_lite.text import TextEmbedding

STEPS, BATCH = 1500, 512  # of the prior


class Prior(nn.Module):
    """From a caption's unit vector of CLIP-lite to that of its picture."""

    def __init__(self, dim: int = 128, width: int = 512):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim)
        )

    def forward(self, text: Tensor) -> Tensor:
        """(B, 128) -> unit vectors (B, 128)."""
        return F.normalize(text + self.layers(text), dim=-1)


class Predicted(nn.Module):
    """A caption's tokens to one token: the predicted embedding of its picture, at the scale of other embeddings."""

    def __init__(self, prior: Prior):
        super().__init__()
        self.clip, self.prior = load_clip_lite(), prior

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> (B, L, 128): the embedding in the first place, zeros in all others."""
        guess = self.prior(self.clip.of_text(ids, mask))
        return F.pad(guess[:, None] * guess.shape[1] ** 0.5, (0, 0, 0, ids.shape[1] - 1))


class PredictedEncoder(Encoder):
    """Captions in, one token each out."""

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> TextEmbedding:
        """(B, 1, 128)."""
        tokens = self.model(*self.tokenizer(captions))[:, :1]
        return TextEmbedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))


class PictureText:
    """In the place of a caption, the embedding of the very picture that it is of: what the picture model learns by."""

    def __init__(self, pictures: Tensor):
        """`pictures`: unit vectors (N, 128), a row a caption."""
        self.pictures = pictures

    def __call__(self, row: Tensor) -> TextEmbedding:
        """Those rows (B,), as one token each."""
        tokens = self.pictures[row][:, None] * self.pictures.shape[1] ** 0.5
        return TextEmbedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))


@torch.no_grad()
def embedded(pool: Pool) -> tuple[Tensor, Tensor]:
    """CLIP-lite's unit vectors of all captions of a pool, and of the picture (or mirror image) of each: (N, 128)."""
    clip = load_clip_lite()
    captions, rows = caption_rows(pool)
    texts = torch.cat([clip.of_text(*tokenizer()(captions[i : i + 512])) for i in range(0, len(captions), 512)])
    images = to_images(pool.tensor())
    views = [torch.cat([clip.of_pictures(part) for part in side.split(256)]) for side in (images, images.flip(3))]
    pictures = torch.zeros(len(captions), texts.shape[1])
    for i, ((first, count), (second, many)) in enumerate(rows.tolist()):
        pictures[second : second + many] = views[1][i]
        pictures[first : first + count] = views[0][i]  # last: where there is no mirror, the second is the first
    return texts, pictures


def load_predicted(pool: Pool, seed: int) -> tuple[PredictedEncoder, PictureText]:
    """The prior, trained by least squares, as an encoder; and what takes its place while the picture model learns."""
    texts, pictures = embedded(pool)
    torch.manual_seed(seed)
    prior = Prior()
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-3)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / STEPS)
        row = torch.randint(len(texts), (BATCH,))
        (prior(texts[row]) - pictures[row]).square().sum(1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return PredictedEncoder("predicted", Predicted(prior).eval(), texts.shape[1]), PictureText(pictures)
