"""What the two super-resolution recipes share: pairs of a picture and the stage before's view of it, the loss, the run.

Imagen §2.4, App. A, D.2, F.2, F.3; DESIGN §4. The pictures are rendered at both sizes, as the stages see them.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from imagen_lite import data, processes, viz, weights
from imagen_lite.augmentation import augment, expected_picture, upsample
from imagen_lite.cascade import Cascade
from imagen_lite.data import Pool, to_images
from imagen_lite.recipes import doctor as checks
from imagen_lite.recipes.stages import (
    ENCODER,
    Captioned,
    StageRecipe,
    denoising_loss,
    export,
    precision,
    start,
)
from imagen_lite.scenes.reader import box_of
from imagen_lite.scenes.world import sample_scene
from imagen_lite.stage import STAGES, Sampling, Stage, default_device, default_dtype
from imagen_lite.text import FrozenTextEncoder, TextEmbedding, load_text_encoder
from imagen_lite.train import Ema, Progress, fit, keyed_normal, keyed_uniform
from imagen_lite.unet import EfficientUNet, preconditioning

MILESTONES = tuple(1000 * 2**k for k in range(1, 16))
VALIDATION = 256  # pictures of the validation split that a validation loss is measured on


@dataclass(frozen=True)
class Recipe(StageRecipe):
    """A super-resolution stage's: from pictures a quarter as large to `size`.

    Attributes:
        size: of the whole picture, which is also the stage's resolution.
        window: the pool keeps only so many pixels a side of each; None keeps all.
        crop: pixels a side of what one training step sees of each.
        near: the share of crops that look at a thing; the others look anywhere.
        sampling: how the stage is sampled.
        augmentation: levels are drawn from [0, augmentation]: 1 as in the paper, 0 trains without.
        log_snr: the range that noise levels are drawn from, noisiest first.
    """

    size: int = 256
    window: int | None = None
    crop: int = 128
    near: float = 0.0
    sampling: Sampling = Sampling()
    augmentation: float = 1.0
    log_snr: tuple[float, float] = (-5.0, 8.5)

    def pools(self, count: int, split: str, device: torch.device) -> tuple[Pool, Pool]:
        """The pictures, and the same scenes as the stage before draws them."""
        small = None if self.window is None else self.window // 4
        return (
            data.pool(count, split=split, size=self.size, window=self.window, device=device),
            data.pool(count, split=split, size=self.size // 4, window=small, device=device),
        )


class Pairs(Captioned[Recipe]):
    """Captioned crops of pictures, each with the same crop of the picture that is a quarter as large."""

    def __init__(
        self, pools: tuple[Pool, Pool], encoder: FrozenTextEncoder, recipe: Recipe, device: torch.device,
        samples: Tensor | None = None,
    ):  # fmt: skip
        """As `Captioned`."""
        super().__init__(pools[0], encoder, recipe, device, samples)
        self.low_res = pools[1].tensor(device)
        if recipe.near:
            self.middles, self.things = (part.to(device) for part in _middles(pools[0].seeds))

    def pair(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, C, C), low-res images (B, 3, C/4, C/4) and captions' rows (B,) of a step."""
        index, flip, row = self.rows(seed, step)
        side = self.recipe.crop // 4
        corner = self.corners(seed, step, index, side)
        small = to_images(_crops(self.low_res, index, corner, side))
        large = to_images(_crops(self.pictures, index, 4 * corner, 4 * side))
        flip = flip[:, None, None, None]
        return torch.where(flip, large.flip(3), large), torch.where(flip, small.flip(3), small), row

    def corners(self, seed: int, step: int, index: Tensor, side: int) -> Tensor:
        """The upper left corners (B, 2) of low-res crops of `side` pixels: anywhere, or so that a thing is in sight."""
        u = keyed_uniform(seed, step, self.samples, 6, stream=5)
        size = self.low_res.shape[1]
        anywhere = (u[:, :2] * (size - side + 1)).long()
        if not self.recipe.near:
            return anywhere
        middle = self.middles[index, (u[:, 2] * self.things[index]).long()] * size
        corner = (middle + (u[:, 3:5] - 1.0) * side).round().clamp(0, size - side).long()
        return torch.where(u[:, 5:] < self.recipe.near, corner, anywhere)


def _middles(seeds: list[int]) -> tuple[Tensor, Tensor]:
    """Where the things of scenes are in their pictures, as shares of it, (N, 4, 2), y first, and how many, (N,)."""
    found, counts = torch.zeros(len(seeds), 4, 2), []
    for i, seed in enumerate(seeds):
        scene = sample_scene(seed)
        boxes = [box_of(scene, k) for k in range(len(scene.things))]
        found[i, : len(boxes)] = torch.tensor([(y, x) for x, y, _, _ in boxes])
        counts.append(len(boxes))
    return found, torch.tensor(counts)


def _crops(pictures: Tensor, index: Tensor, corner: Tensor, side: int) -> Tensor:
    """Squares (B, side, side, 3) of pictures (N, H, W, 3), their upper left corners at `corner` (B, 2)."""
    along = torch.arange(side, device=pictures.device)
    rows, columns = (corner[:, None, k] + along for k in (0, 1))
    return pictures[index[:, None, None], rows[:, :, None], columns[:, None, :]]


class SuperResolutionLoss:
    """The noise's error, given the low-res picture, augmented at a random level in [0, 1] and upsampled (§2.4, A.32).

    The paper's but for two things. Each error is weighted by 1 / c_out² (`unet.preconditioning`), so that the layers'
    own output counts alike at every noise level. And log-SNR is uniform over `Recipe.log_snr`, not t over [0, 1]: the
    detail to be added is drowned by little noise already, and at half of all t there is nothing to see of it.
    """

    def __init__(self, model: Callable[..., Tensor], batches: Pairs, seed: int, dtype: torch.dtype):
        self.model, self.batches, self.seed, self.dtype = model, batches, seed, dtype

    def __call__(self, step: int) -> Tensor:
        """Mean squared error on v, float32 scalar."""
        recipe = self.batches.recipe
        images, small, row = self.batches.pair(self.seed, step)
        u = keyed_uniform(self.seed, step, self.batches.samples, 3, stream=2)
        noisiest, cleanest = recipe.log_snr
        t = recipe.schedule.t(noisiest + (cleanest - noisiest) * self.batches.spread(self.seed, step))
        with precision(images.device, self.dtype):
            text = self.batches.text(row).drop(u[:, 1] >= recipe.text_dropout)
        return self.at(step, images, small, text, t, u[:, 2] * recipe.augmentation)

    def at(self, step: int, images: Tensor, small: Tensor, text: TextEmbedding, t: Tensor, aug_level: Tensor) -> Tensor:
        """The same of these pictures (B, 3, H, W), at times t (B,) and levels (B,), with the noise of a step."""
        recipe, samples = self.batches.recipe, self.batches.samples[: len(images)]
        noise = keyed_normal(self.seed, step, samples, tuple(small.shape[1:]), stream=4)
        low_res = upsample(augment(small, aug_level, noise), images.shape[-1])
        eps = keyed_normal(self.seed, step, samples, tuple(images.shape[1:]), stream=3)
        error = expected_picture(low_res, aug_level, recipe.unet.low_res_error)[1]
        weight = preconditioning(recipe.schedule.angle(t), error)[2].flatten() ** -2
        with precision(images.device, self.dtype):
            return denoising_loss(self.model, recipe.schedule, images, t, eps, weight, text, low_res, aug_level)


@torch.no_grad()
def validation_loss(
    model: nn.Module, encoder: FrozenTextEncoder, pools: tuple[Pool, Pool], recipe: Recipe, dtype: torch.dtype
) -> float:
    """The training loss on the validation split, with fixed noise: comparable between runs."""
    device = next(model.parameters()).device
    batch = min(recipe.train.batch, 32)
    recipe = dataclasses.replace(
        recipe, text_dropout=0.0, augmentation=1.0, train=dataclasses.replace(recipe.train, batch=batch)
    )
    loss = SuperResolutionLoss(model, Pairs(pools, encoder, recipe, device), seed=12345, dtype=dtype)
    return float(torch.stack([loss(step) for step in range(VALIDATION // batch)]).mean())


def run(
    cpu: Recipe, gpu: Recipe, max_minutes: float | None = None, device: str | None = None, *, fresh: bool = False,
    pictures: int | None = None, out: Path | None = None, run_folder: Path | None = None,
    dtype: torch.dtype | None = None,
) -> Path:  # fmt: skip
    """Train, or go on training, and export the average weights to `out`; returns that folder.

    Args:
        cpu, gpu: the recipe, for one and the other.
        max_minutes: stop, save and export after this long; None trains to the recipe's last step.
        device: "cuda" or "cpu"; None picks.
        fresh: forget the run's checkpoint and the shipped weights.
        pictures: size of the pool, if not the recipe's.
    """
    where = processes.join(default_device(device))
    recipe, dtype = gpu if where.type == "cuda" else cpu, dtype or default_dtype(where)
    name = STAGES[recipe.size]
    out, folder = out or weights.DATA / "weights" / name, run_folder or data.cache_folder() / "runs" / name
    encoder = load_text_encoder(ENCODER, where)
    with processes.in_turn():
        pools = recipe.pools(pictures or recipe.pictures, "train", where)
        held = recipe.pools(data.SHARD, "val", where)
    pairs = Pairs(pools, encoder, recipe, where, processes.share(recipe.train.batch, where))
    torch.manual_seed(recipe.train.seed)
    model = EfficientUNet(recipe.unet).to(where)
    begun = start(model, folder, out, fresh)
    first = begun["pictures_seen"]
    called = torch.compile(model, dynamic=False) if where.type == "cuda" else model
    loss = SuperResolutionLoss(called, pairs, recipe.train.seed + first, dtype)

    def milestone(_: nn.Module, ema: Ema, progress: Progress) -> dict:
        return _milestone(ema, recipe, encoder, held, dtype, where, folder, first + progress.pictures)

    ema, progress = fit(
        model, loss, recipe.train, folder, max_minutes=max_minutes, milestones=MILESTONES, on_milestone=milestone
    )
    if processes.place()[0] > 0:
        return out
    ema.copy_to(model)
    score = validation_loss(model.eval(), encoder, held, recipe, dtype)
    stage = Stage(model, recipe.schedule, recipe.size, sampling=recipe.sampling)
    export(stage, out, name, recipe.train, begun, progress, score)
    return out


def doctor(cpu: Recipe, gpu: Recipe, device: str | None = None, *, pictures: int = data.SHARD) -> None:
    """Check data and captions, and learn one batch by heart; prints what it finds.

    Raises:
        ValueError: the first thing that is wrong, and where to look.
    """
    where = default_device(device)
    recipe = gpu if where.type == "cuda" else cpu
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, batch=8))
    encoder = load_text_encoder(ENCODER, where)
    pools = recipe.pools(pictures, "train", where)
    pairs = Pairs(pools, encoder, recipe, where)
    model = EfficientUNet(recipe.unet).to(where)
    loss = SuperResolutionLoss(model, pairs, 0, default_dtype(where))
    images, small, _ = pairs.pair(0, 0)
    print(checks.check_pictures(images))
    print(checks.check_pairs(images, small))
    print(checks.check_captions(pools[0], encoder, recipe.text_length))
    print(checks.check_overfit(model, lambda: loss(0), lr=recipe.train.lr))


def _milestone(
    ema: Ema, recipe: Recipe, encoder: FrozenTextEncoder, held: tuple[Pool, Pool], dtype: torch.dtype,
    device: torch.device, folder: Path, seen: int,
) -> dict:  # fmt: skip
    """Draw the milestone's grid, low-res pictures above what is made of them, and measure the validation loss."""
    model = EfficientUNet(recipe.unet).to(device).eval()
    ema.copy_to(model)
    score = validation_loss(model, encoder, held, recipe, dtype)
    side = recipe.window or recipe.size
    low = to_images(held[1].tensor(device)[:4])
    stage = Stage(model, recipe.schedule, side, sampling=recipe.sampling)
    captions = [held[0].captions[i][0] for i in range(4)]
    drawn = Cascade(encoder, {side: stage}, dtype).sample(captions, low_res=low).images
    path = folder / "milestones" / f"{seen:09d}.png"
    viz.save(viz.grid(torch.cat([upsample(low, side), drawn]), columns=4), path)
    print(f"\nafter {seen:,} pictures: validation loss {score:.4f}; it looks like {path}")
    return {"validation_loss": score}
