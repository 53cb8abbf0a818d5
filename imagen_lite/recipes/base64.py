"""Recipe base64: text to 64×64, the paper's base model in small (eps-prediction, cosine schedule, 10 % text dropout).

    imagen-lite train base64 --max-minutes 60

It first sees its pictures at half their size (`small_pictures`), where text and layout are learned in a quarter of the
time. CPU: about 140 small or 36 whole pictures/s on 2 cores (bf16). GPU: the same command; larger batches,
torch.compile, the pool of pictures in its memory; an H200 saw 21,000 small or 16,000 whole ones/s, 10.8 million in
12 minutes, after a minute of rendering.
A run goes on from its checkpoint; without one, from the shipped weights if there are any (fresh optimiser, short
warm-up, a tenth of the learning rate); `fresh=True` starts from nothing.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite import data, processes, viz, weights
from imagen_lite.cascade import Cascade
from imagen_lite.prediction import loss_weight
from imagen_lite.recipes import doctor as checks
from imagen_lite.recipes.material import Material, own, rendered
from imagen_lite.recipes.stages import ENCODER, Captioned, StageRecipe, denoising_loss, export, precision, start
from imagen_lite.stage import Sampling, Stage, default_device, default_dtype
from imagen_lite.text import EmbeddingCache, load_text_encoder
from imagen_lite.train import Ema, Progress, TrainConfig, fit, keyed_normal, keyed_uniform
from imagen_lite.unet import EfficientUNet, UNetConfig

FOLDER = weights.DATA / "weights" / "base64"
MILESTONES = tuple(1000 * 2**k for k in range(1, 16))
SAMPLING = Sampling(
    steps=16, guidance_weight=3.0, spacing="log_snr", lambda_start=-8.0
)  # see the tables of data/weights/README.md
GOING_ON = 0.1  # of the learning rate, from the shipped weights
VALIDATION = 1024  # pictures of the validation split that a validation loss is measured on
PROMPTS = (
    "a red cone", "a small blue house on the grass", "a shiny yellow sphere on a wooden table", "a green cube",
    "a pink duck on the sand", "a large white mushroom at night", "an orange rocket at sunset", "a purple tree",
    "a snowman on top of a red rocket", "a red cone to the left of a blue cube", "two yellow ducks",
    "a green house behind a white sphere", "a shiny red cone next to a small blue house on the grass",
    "three pink spheres on the tiles", "an orange snowman and a purple cylinder", "a red mushroom",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe(StageRecipe):
    """The base's: pictures get larger on the way."""

    small_pictures: int = 0  # the first so many are seen at half their size, four times as many a second

    def side(self, seen: int) -> int:
        """Pixels a side that training sees after `seen` pictures: 32, then 64."""
        return 32 if seen < self.small_pictures else 64

    def at_size(self, t: Tensor, side: int) -> Tensor:
        """The time at which noise hides as much of a picture of `side` pixels as it hides of a 32-px one at t.

        Averaging 2×2 pixels halves the noise, so lambda has to be lower by 2 log 2 (simple diffusion, 2301.11093).
        """
        return self.schedule.t(self.schedule.log_snr(t) - 2 * math.log(side / 32))


UNET = UNetConfig(attention_after="each")  # 7.1 M parameters; data/weights/README.md says what else was tried
CPU = Recipe(UNET, TrainConfig(batch=32, lr=1e-3, warmup=500, ema=0.9995), pictures=60_000, small_pictures=635_000)
GPU = Recipe(  # what the shipped weights were made with
    UNET, TrainConfig(batch=1024, lr=2e-3, warmup=400, steps=10_500, decay_from=7_500, ema=0.999),
    pictures=48_000, small_pictures=6_100_000,
)  # fmt: skip
OWN = dataclasses.replace(GPU, train=TrainConfig(batch=1024, lr=2e-3, warmup=400, ema=0.999))  # as long as you let it


class Base64Loss:
    """The loss of a step: ‖ε − ε_θ(α x + σ ε, t, c)‖² / α², c dropped with probability 10 %.

    The paper's (§2.1, App. A) but for the weight 1 / α², which makes it the plain loss on v, and for t, which is
    uniform in [0, 1] at 32 px and leans towards noise at 64 px (`Recipe.at_size`). `seen` is how many pictures the
    model has seen before step 0; it decides the size at which it sees them.
    """

    def __init__(
        self, model: Callable[..., Tensor], batches: Captioned[Recipe], seed: int, dtype: torch.dtype, seen: int = 0
    ):
        self.model, self.batches, self.seed, self.dtype, self.seen = model, batches, seed, dtype, seen

    def __call__(self, step: int) -> Tensor:
        """Mean squared error on v, float32 scalar."""
        recipe = self.batches.recipe
        images, row = self.batches.batch(self.seed, step)
        side = recipe.side(self.seen + step * recipe.train.batch)
        images = F.avg_pool2d(images, images.shape[-1] // side)
        samples = self.batches.samples
        u = keyed_uniform(self.seed, step, samples, 2, stream=2)
        t = recipe.at_size(self.batches.spread(self.seed, step), side)
        eps = keyed_normal(self.seed, step, samples, tuple(images.shape[1:]), stream=3)
        with precision(images.device, self.dtype):
            text = self.batches.text(row).drop(u[:, 1] >= recipe.text_dropout)
            return denoising_loss(self.model, recipe.schedule, images, t, eps, self.weight(t), text)

    def weight(self, t: Tensor) -> Tensor:
        """1 / α², which makes a loss on ε the plain loss on v: (B,)."""
        return loss_weight(self.batches.recipe.schedule.log_snr(t), "eps", "snr+1")


@torch.no_grad()
def validation_loss(model: nn.Module, given: Material, recipe: Recipe, dtype: torch.dtype, seen: int) -> float:
    """The training loss after `seen` pictures, on those held out, with fixed noise: comparable between runs."""
    device = next(model.parameters()).device
    batch = min(recipe.train.batch, 64)
    train = dataclasses.replace(recipe.train, batch=batch)
    small = VALIDATION if recipe.side(seen) == 32 else 0
    recipe = dataclasses.replace(recipe, text_dropout=0.0, train=train, small_pictures=small)
    loss = Base64Loss(model, Captioned(given.held, given.encoder, recipe, device), seed=12345, dtype=dtype)
    return float(torch.stack([loss(step) for step in range(VALIDATION // batch)]).mean())


def run(
    max_minutes: float | None = None, device: str | None = None, *, fresh: bool = False, pictures: int | None = None,
    out: Path = FOLDER, run_folder: Path | None = None, recipe: Recipe | None = None, dtype: torch.dtype | None = None,
    source: str | None = None, text_encoder: str | None = None,
) -> Path:  # fmt: skip
    """Train, or go on training, and export the average weights to `out`; returns that folder.

    Args:
        max_minutes: stop, save and export after this long; None trains to the recipe's last step.
        device: "cuda" or "cpu"; None picks.
        fresh: forget the run's checkpoint and the shipped weights.
        pictures: size of the pool, if not the recipe's (all that there are, of your own).
        source, text_encoder: your own pictures and encoder, as in `material.own`; give a folder `out` of your own, too.
    """
    where = processes.join(default_device(device))
    recipe = recipe or _chosen(where, source)
    dtype = dtype or default_dtype(where)
    folder = run_folder or data.cache_folder() / "runs" / "base64"
    samples = processes.share(recipe.train.batch, where)
    with processes.in_turn():
        given, recipe = _material(recipe, where, pictures, source, text_encoder)
    batches = Captioned(given.train, given.encoder, recipe, where, samples)
    torch.manual_seed(recipe.train.seed)
    model = EfficientUNet(recipe.unet).to(where)
    begun = start(model, folder, out, fresh, given.name, given.text_encoder)
    first = begun["pictures_seen"]
    if first and out == FOLDER:
        recipe = _gentler(recipe)
    seed = recipe.train.seed + first  # a run that goes on from shipped weights must not repeat their batches
    called = torch.compile(model, dynamic=False) if where.type == "cuda" else model
    loss = Base64Loss(called, batches, seed, dtype, seen=first)

    def milestone(_: nn.Module, ema: Ema, progress: Progress) -> dict:
        return _milestone(ema, recipe, given, dtype, where, folder, first + progress.pictures)

    whole = max(0, recipe.small_pictures - first) // recipe.train.batch  # the step at which pictures get larger
    ema, progress = fit(
        model, loss, recipe.train, folder, max_minutes=max_minutes, average_from=whole, milestones=MILESTONES,
        on_milestone=milestone,
    )  # fmt: skip
    if processes.place()[0] > 0:
        return out
    if progress.step == recipe.train.steps:
        print(f"the run has had its {progress.step:,} steps: with --fresh it begins again")
    ema.copy_to(model)
    score = validation_loss(model.eval(), given, recipe, dtype, first + progress.pictures)
    stage = Stage(model, recipe.schedule, 64, sampling=SAMPLING)
    export(
        stage, out, "base64", recipe.train, begun, progress, score, given.name, given.text_encoder,
        given.encoder.fingerprint,
    )  # fmt: skip
    return out


def _chosen(device: torch.device, source: str | None) -> Recipe:
    """The recipe for a device and, on a GPU, for whose pictures."""
    return CPU if device.type != "cuda" else GPU if source is None else OWN


def _gentler(recipe: Recipe) -> Recipe:
    """From the shipped weights, whose learning rate was lowered to 0: a high one would undo what that gave."""
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, lr=recipe.train.lr * GOING_ON))


def _material(
    recipe: Recipe, device: torch.device, pictures: int | None, source: str | None, text_encoder: str | None
) -> tuple[Material, Recipe]:
    """What is trained on, and the recipe for it: an encoder has its width, your own pictures are seen whole at once."""
    if source is None:
        return rendered(pictures or recipe.pictures, PROMPTS, device), recipe
    given = own(source, text_encoder, pictures, recipe.pictures, recipe.text_length, device)
    unet = dataclasses.replace(recipe.unet, text_dim=given.encoder.dim)
    return given, dataclasses.replace(recipe, unet=unet, small_pictures=0)


def doctor(
    device: str | None = None, *, recipe: Recipe | None = None, pictures: int = data.SHARD, source: str | None = None,
    text_encoder: str | None = None,
) -> None:  # fmt: skip
    """Check data, captions and masks, and learn one batch by heart; prints what it finds.

    Raises:
        ValueError: the first thing that is wrong, and where to look.
    """
    where = default_device(device)
    recipe = recipe or _chosen(where, source)
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, batch=16))
    given, recipe = _material(recipe, where, pictures, source, text_encoder)
    batches = Captioned(given.train, given.encoder, recipe, where)
    torch.manual_seed(0)
    model = EfficientUNet(recipe.unet).to(where)
    loss = Base64Loss(model, batches, 0, default_dtype(where))
    images, row = batches.batch(0, 0)
    print(checks.check_pictures(images))
    encoder = given.encoder
    if isinstance(encoder, EmbeddingCache):  # it has no tokenizer
        encoder = load_text_encoder(text_encoder or ENCODER, where)
    print(checks.check_captions(given.train, encoder, recipe.text_length))
    print(checks.check_overfit(model, lambda: loss(0), lr=recipe.train.lr))
    print(checks.check_masks(model, batches.text(row), images))  # last: a fresh network does not look at its text yet


def _milestone(
    ema: Ema, recipe: Recipe, given: Material, dtype: torch.dtype, device: torch.device, folder: Path, seen: int
) -> dict:
    """Draw the milestone's grid and measure the validation loss; one line says where the run is."""
    model = EfficientUNet(recipe.unet).to(device).eval()
    ema.copy_to(model)
    score, side = validation_loss(model, given, recipe, dtype, seen), recipe.side(seen)
    stage = Stage(model, recipe.schedule, side, sampling=SAMPLING)
    pictures = Cascade(given.encoder, {side: stage}, dtype).sample(list(given.prompts)).images
    path = folder / "milestones" / f"{seen:09d}.png"
    viz.save(viz.grid(pictures, columns=8), path)
    print(f"\nafter {seen:,} pictures: validation loss {score:.4f}; it looks like {path}")
    return {"validation_loss": score}
