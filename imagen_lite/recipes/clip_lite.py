"""Recipe clip-lite: pictures and captions of the world, told apart from one another (CLIP, 2103.00020).

    imagen-lite train clip-lite

It sees the combinations that base64 sees, and none that are held out. CPU: 8 minutes on 2 cores, after rendering;
0.73 of the captions of fresh scenes find their own picture among 256.
"""

import dataclasses
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from imagen_lite import data, weights
from imagen_lite.data import Pool, to_images
from imagen_lite.recipes.stages import caption_rows, forget, precision, token_table
from imagen_lite.scenes.clip_lite import LENGTH, SIDE, ClipLite, contrastive_loss, tokenizer
from imagen_lite.stage import default_device, default_dtype, hardware_name
from imagen_lite.train import TrainConfig, fit, keyed_uniform

FOLDER = weights.DATA / "weights" / "clip-lite"
PICTURES = 12_000
TRAIN = TrainConfig(batch=256, lr=7e-4, warmup=200, steps=700, decay_from=350, ema=0.99, weight_decay=0.1)
SHIFT = 4  # pixels that a picture is moved by, at most


class CaptionedPictures:
    """A pool's pictures, and its captions as tokens; a batch follows from the step."""

    def __init__(self, pool: Pool, device: torch.device):
        self.pictures = pool.tensor(device)
        captions, rows = caption_rows(pool)
        self.first, self.count = rows.to(device).unbind(2)
        self.mirrors = torch.tensor([bool(m) for m in pool.mirrored], device=device)
        self.ids, self.lengths = (part.to(device) for part in token_table(captions, tokenizer(), LENGTH))

    def batch(self, config: TrainConfig, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, 64, 64), ids and mask (B, L) of different pictures; flips, shifts and captions at random."""
        rows = torch.arange(config.batch, device=self.pictures.device)
        u = keyed_uniform(config.seed, step, rows, 6)
        stride = max(1, len(self.pictures) // config.batch)  # one picture of each stretch: never one of them twice
        index = ((rows * stride + (u[:, 0] * stride).long()) + int(u[0, 5] * 1e6)) % len(self.pictures)
        flip = (u[:, 1] < 0.5) & self.mirrors[index]
        images = to_images(self.pictures[index])
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        top, left = (int(v * (2 * SHIFT + 1)) for v in u[0, 3:5])
        images = F.pad(images, (SHIFT,) * 4, mode="replicate")[:, :, top : top + SIDE, left : left + SIDE]
        view = index, flip.long()
        row = self.first[view] + (u[:, 2] * self.count[view]).long()
        lengths = self.lengths[row]
        longest = int(lengths.max())
        mask = torch.arange(longest, device=row.device) < lengths[:, None]
        return images, self.ids[row, :longest].long(), mask


@torch.no_grad()
def found_again(model: ClipLite, held: CaptionedPictures, config: TrainConfig, batches: int = 3) -> float:
    """The share of captions whose own picture is the nearest of the batch, on pictures that were held out."""
    right = []
    for step in range(batches):
        images, ids, mask = held.batch(dataclasses.replace(config, seed=12345), step)
        logits = model.logits(model.of_pictures(images), model.of_text(ids, mask))
        right.append(logits.argmax(0) == torch.arange(len(ids), device=ids.device))
    return round(float(torch.cat(right).float().mean()), 4)


def run(
    max_minutes: float | None = None, device: str | None = None, *, fresh: bool = False, pictures: int = PICTURES,
    out: Path = FOLDER, run_folder: Path | None = None, config: TrainConfig = TRAIN,
) -> float:  # fmt: skip
    """Train, or go on training, measure on the validation split and export to `out`; returns the share found again."""
    where = default_device(device)
    folder = run_folder or data.cache_folder() / "runs" / "clip-lite"
    if fresh:
        forget(folder)
    known = CaptionedPictures(data.pool(pictures, device=where), where)
    held = CaptionedPictures(data.pool(data.SHARD, split="val", device=where), where)
    torch.manual_seed(config.seed)
    model = ClipLite().to(where)

    def loss_at(step: int) -> Tensor:
        images, ids, mask = known.batch(config, step)
        with precision(where, default_dtype(where)):
            pictures, texts = model.of_pictures(images), model.of_text(ids, mask)
        return contrastive_loss(model.logits(pictures.float(), texts.float()))

    ema, progress = fit(model, loss_at, config, folder, max_minutes=max_minutes)
    ema.copy_to(model)
    score = found_again(model.eval(), held, config)
    manifest = {
        "recipe": "clip-lite", "world": data.WORLD_VERSION, "pictures": len(known.pictures),
        "tokenizer_sha256": weights.load_manifest(weights.DATA / "weights" / "t5-lite-base")["tokenizer_sha256"],
        "pictures_seen": progress.pictures, "hours": round(progress.seconds / 3600, 3), "found_again": score,
        "hardware": hardware_name(where), "train": dataclasses.asdict(config),
    }  # fmt: skip
    weights.save_pretrained(out, model, dataclasses.asdict(model.config), manifest)
    print(f"wrote {out}: of {config.batch} captions, {score:.0%} find their own picture among {config.batch}")
    return score
