"""Recipe base64: text to 64×64, the paper's base model in small (eps-prediction, cosine schedule, 10 % text dropout).

    imagen-lite train base64 --max-minutes 60

It first sees its pictures at half their size (`small_pictures`), where text and layout are learned in a quarter of the
time. CPU: about 140 small or 45 whole pictures/s on 2 cores (bf16). GPU: the same command; larger batches,
torch.compile, the pool of pictures in its memory.
A run goes on from its checkpoint; without one, from the shipped weights if there are any (fresh optimiser, short
warm-up); `fresh=True` starts from nothing.
"""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imagen_lite import data, viz, weights
from imagen_lite.cascade import Cascade
from imagen_lite.data import Pool, to_images
from imagen_lite.prediction import loss_weight
from imagen_lite.recipes import doctor as checks
from imagen_lite.schedule import CosineSchedule
from imagen_lite.stage import Sampling, Stage, default_device, default_dtype
from imagen_lite.text import T5TextEncoder, TextEmbedding, load_text_encoder
from imagen_lite.train import Ema, Progress, TrainConfig, fit, keyed_normal, keyed_uniform
from imagen_lite.unet import EfficientUNet, UNetConfig

FOLDER = weights.DATA / "weights" / "base64"
MILESTONES = tuple(1000 * 2**k for k in range(1, 16))
SAMPLING = Sampling(steps=16, guidance_weight=5.0, lambda_start=-8.0)  # see the tables of data/weights/README.md
VALIDATION = 1024  # pictures of the validation split that a validation loss is measured on
PROMPTS = (
    "a red cone", "a small blue house on the grass", "a shiny yellow sphere on a wooden table", "a green cube",
    "a pink duck on the sand", "a large white mushroom at night", "an orange rocket at sunset", "a purple tree",
    "a snowman on top of a red rocket", "a red cone to the left of a blue cube", "two yellow ducks",
    "a green house behind a white sphere", "a shiny red cone next to a small blue house on the grass",
    "three pink spheres on the tiles", "an orange snowman and a purple cylinder", "a red mushroom",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but for the world and the text encoder."""

    unet: UNetConfig
    train: TrainConfig
    schedule: CosineSchedule = CosineSchedule(-10.0, 10.0)
    pictures: int = 100_000  # size of the pool
    small_pictures: int = 0  # the first so many are seen at half their size, four times as many a second
    text_dropout: float = 0.1
    text_length: int = 48  # tokens; captions are cut or padded to it on a GPU, where shapes must not change

    def side(self, seen: int) -> int:
        """Pixels a side that training sees after `seen` pictures: 32, then 64."""
        return 32 if seen < self.small_pictures else 64

    def at_size(self, t: Tensor, side: int) -> Tensor:
        """The time at which noise hides as much of a picture of `side` pixels as it hides of a 32-px one at t.

        Averaging 2×2 pixels halves the noise, so lambda has to be lower by 2 log 2 (simple diffusion, 2301.11093).
        """
        return self.schedule.t(self.schedule.log_snr(t) - 2 * math.log(side / 32))


UNET = UNetConfig()  # 6.3 M parameters, 2.2 GFLOP a call; data/weights/README.md says what else was tried
CPU = Recipe(UNET, TrainConfig(batch=32, lr=1e-3, warmup=500, ema=0.9995), pictures=60_000, small_pictures=635_000)
GPU = Recipe(
    UNET, TrainConfig(batch=1024, lr=1.5e-3, warmup=500, ema=0.9995), pictures=400_000, small_pictures=2_000_000
)


class Captioned:
    """A pool's pictures and its captions' token ids, on the training device; a batch follows from the step."""

    def __init__(self, pool: Pool, encoder: T5TextEncoder, recipe: Recipe, device: torch.device):
        self.pictures, self.recipe, self.device = pool.tensor(device), recipe, device
        self.ids, self.lengths = _token_table(pool, encoder, recipe.text_length, device)
        self.mirrors = torch.tensor([bool(m) for m in pool.mirrored], device=device)

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W), token ids (B, L) and mask (B, L) of a step: pictures, flips and captions at random."""
        size, total = self.recipe.train.batch, len(self.mirrors)
        samples = torch.arange(size, device=self.device)
        u = keyed_uniform(seed, step, samples, 3, stream=1)
        index = (u[:, 0] * total).long()
        flip = (u[:, 1] < 0.5) & self.mirrors[index]
        caption = (u[:, 2] * data.CAPTIONS).long()
        images = to_images(self.pictures[index])
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        row = (index * 2 + flip.long()) * data.CAPTIONS + caption
        lengths = self.lengths[row].long()
        longest = self.recipe.text_length if self.device.type == "cuda" else int(lengths.max())
        mask = torch.arange(longest, device=self.device) < lengths[:, None]
        return images, self.ids[row, :longest].long(), mask


def _token_table(pool: Pool, encoder: T5TextEncoder, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (2NK, length) int16 and lengths (2NK,) of every caption; a missing mirror's rows repeat the picture's own."""
    captions = [c for own, mirror in zip(pool.captions, pool.mirrored, strict=True) for c in (*own, *(mirror or own))]
    ids = torch.zeros(len(captions), length, dtype=torch.int16)
    lengths = torch.zeros(len(captions), dtype=torch.int16)
    for start in range(0, len(captions), 4096):
        rows, mask = encoder.tokenizer(captions[start : start + 4096])
        keep = min(length, rows.shape[1])
        ids[start : start + len(rows), :keep] = rows[:, :keep].to(torch.int16)
        lengths[start : start + len(rows)] = mask[:, :keep].sum(1).to(torch.int16)
    return ids.to(device), lengths.to(device)


class Base64Loss:
    """The loss of a step: ‖ε − ε_θ(α x + σ ε, t, c)‖² / α², c dropped with probability 10 %.

    The paper's (§2.1, App. A) but for the weight 1 / α², which makes it the plain loss on v, and for t, which is
    uniform in [0, 1] at 32 px and leans towards noise at 64 px (`Recipe.at_size`). `seen` is how many pictures the
    model has seen before step 0; it decides the size at which it sees them.
    """

    def __init__(
        self, model: Callable[..., Tensor], encoder: T5TextEncoder, batches: Captioned, seed: int, dtype: torch.dtype,
        seen: int = 0,
    ):  # fmt: skip
        self.model, self.encoder, self.batches, self.seed, self.dtype = model, encoder, batches, seed, dtype
        self.seen = seen

    def __call__(self, step: int) -> Tensor:
        """Mean squared error on v, float32 scalar."""
        recipe = self.batches.recipe
        images, ids, mask = self.batches.batch(self.seed, step)
        side = recipe.side(self.seen + step * len(images))
        images = F.avg_pool2d(images, images.shape[-1] // side)
        samples = torch.arange(len(images), device=images.device)
        u = keyed_uniform(self.seed, step, samples, 2, stream=2)
        t = recipe.at_size((u[:1, 0] + samples / len(images)) % 1.0, side)  # one draw, evenly spread over the batch
        eps = keyed_normal(self.seed, step, samples, tuple(images.shape[1:]), stream=3)
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            with torch.no_grad():
                text = TextEmbedding(self.encoder.model(ids, mask) * mask[..., None], mask)
            text = text.drop(u[:, 1] >= recipe.text_dropout)
            x_t = recipe.schedule.add_noise(images, t, eps).contiguous(memory_format=torch.channels_last)
            output = self.model(x_t, t, text)
        weight = loss_weight(recipe.schedule.log_snr(t), "eps", "snr+1")
        return (weight * (output.float() - eps).square().mean((1, 2, 3))).mean()


@torch.no_grad()
def validation_loss(
    model: nn.Module, encoder: T5TextEncoder, pool: Pool, recipe: Recipe, dtype: torch.dtype, seen: int
) -> float:
    """The training loss after `seen` pictures, on the validation split, with fixed noise: comparable between runs."""
    device = next(model.parameters()).device
    batch = min(recipe.train.batch, 64)
    train = dataclasses.replace(recipe.train, batch=batch)
    small = VALIDATION if recipe.side(seen) == 32 else 0
    recipe = dataclasses.replace(recipe, text_dropout=0.0, train=train, small_pictures=small)
    loss = Base64Loss(model, encoder, Captioned(pool, encoder, recipe, device), seed=12345, dtype=dtype)
    return float(torch.stack([loss(step) for step in range(VALIDATION // batch)]).mean())


def run(
    max_minutes: float | None = None, device: str | None = None, *, fresh: bool = False, pictures: int | None = None,
    out: Path = FOLDER, run_folder: Path | None = None, recipe: Recipe | None = None, dtype: torch.dtype | None = None,
) -> Path:  # fmt: skip
    """Train, or go on training, and export the average weights to `out`; returns that folder.

    Args:
        max_minutes: stop, save and export after this long; None trains to the recipe's last step.
        device: "cuda" or "cpu"; None picks.
        fresh: forget the run's checkpoint and the shipped weights.
        pictures: size of the pool, if not the recipe's.
    """
    where = default_device(device)
    recipe = recipe or (GPU if where.type == "cuda" else CPU)
    dtype = dtype or default_dtype(where)
    folder = run_folder or data.cache_folder() / "runs" / "base64"
    encoder = load_text_encoder(weights.DATA / "weights" / "t5-lite-base", where)
    render_on = "cuda" if where.type == "cuda" else None
    batches = Captioned(data.pool(pictures or recipe.pictures, device=render_on), encoder, recipe, where)
    held = data.pool(1000, split="val", device=render_on)
    torch.manual_seed(recipe.train.seed)
    model = EfficientUNet(recipe.unet).to(where)
    begun = _start(model, folder, out, fresh)
    first = begun["pictures_seen"]
    seed = recipe.train.seed + first  # a run that goes on from shipped weights must not repeat their batches
    called = torch.compile(model) if where.type == "cuda" else model
    loss = Base64Loss(called, encoder, batches, seed, dtype, seen=first)

    def milestone(_: nn.Module, ema: Ema, progress: Progress) -> dict:
        return _milestone(ema, recipe, encoder, held, dtype, where, folder, first + progress.pictures)

    whole = max(0, recipe.small_pictures - first) // recipe.train.batch  # the step at which pictures get larger
    ema, progress = fit(
        model, loss, recipe.train, folder, max_minutes=max_minutes, average_from=whole, milestones=MILESTONES,
        on_milestone=milestone,
    )  # fmt: skip
    ema.copy_to(model)
    score = validation_loss(model.eval(), encoder, held, recipe, dtype, first + progress.pictures)
    _export(model, recipe, out, begun, progress, score, where)
    return out


def doctor(device: str | None = None, *, recipe: Recipe | None = None, pictures: int = 1000) -> None:
    """Check data, captions and masks, and learn one batch by heart; prints what it finds.

    Raises:
        ValueError: the first thing that is wrong, and where to look.
    """
    where = default_device(device)
    recipe = recipe or (GPU if where.type == "cuda" else CPU)
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, batch=16))
    encoder = load_text_encoder(weights.DATA / "weights" / "t5-lite-base", where)
    pool = data.pool(pictures, device="cuda" if where.type == "cuda" else None)
    batches = Captioned(pool, encoder, recipe, where)
    torch.manual_seed(0)
    model = EfficientUNet(recipe.unet).to(where)
    loss = Base64Loss(model, encoder, batches, 0, default_dtype(where))
    images, ids, mask = batches.batch(0, 0)
    text = TextEmbedding(encoder.model(ids, mask) * mask[..., None], mask)
    print(checks.check_pictures(images))
    print(checks.check_captions(pool, encoder, recipe.text_length))
    print(checks.check_overfit(model, lambda: loss(0), lr=recipe.train.lr))
    print(checks.check_masks(model, text, images))  # last: a fresh network does not look at its text yet


def _start(model: EfficientUNet, folder: Path, out: Path, fresh: bool) -> dict:
    """Prepare the run's folder; returns the pictures that the weights had seen, and the hours, when the run began."""
    state, begun = folder / "state.safetensors", folder / "begun.json"
    folder.mkdir(parents=True, exist_ok=True)
    if fresh:
        state.unlink(missing_ok=True)
    if state.exists() and begun.exists():
        return json.loads(begun.read_text())
    past = {"pictures_seen": 0, "hours": 0.0}
    if not fresh and (out / weights.TENSORS).exists():
        weights.load_into(model, out)
        manifest = weights.load_manifest(out)
        past = {key: manifest[key] for key in past}
        print(f"going on from {out.name}, which has seen {past['pictures_seen']:,} pictures")
    weights.write_atomic(begun, json.dumps(past))
    return past


def _milestone(
    ema: Ema, recipe: Recipe, encoder: T5TextEncoder, held: Pool, dtype: torch.dtype, device: torch.device,
    folder: Path, seen: int,
) -> dict:  # fmt: skip
    """Draw the milestone's grid and measure the validation loss; one line says where the run is."""
    model = EfficientUNet(recipe.unet).to(device).eval()
    ema.copy_to(model)
    score, side = validation_loss(model, encoder, held, recipe, dtype, seen), recipe.side(seen)
    stage = Stage(model, recipe.schedule, side, sampling=SAMPLING)
    pictures = Cascade(encoder, {side: stage}, dtype).sample(list(PROMPTS)).images
    path = folder / "milestones" / f"{seen:09d}.png"
    viz.save(viz.grid(pictures, columns=8), path)
    print(f"\nafter {seen:,} pictures: validation loss {score:.4f}; it looks like {path}")
    return {"validation_loss": score}


def _export(
    model: EfficientUNet, recipe: Recipe, out: Path, begun: dict, progress: Progress, score: float, device: torch.device
) -> None:
    """Write the averaged weights with their history."""
    manifest = {
        "recipe": "base64",
        "world": data.WORLD_VERSION,
        "text_encoder": weights.load_manifest(weights.DATA / "weights" / "t5-lite-base")["sha256"],
        "pictures_seen": begun["pictures_seen"] + progress.pictures,
        "hours": round(begun["hours"] + progress.seconds / 3600, 3),
        "hardware": torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} CPU cores",
        "validation_loss": round(score, 5),
        "train": dataclasses.asdict(recipe.train),
    }
    stage = Stage(model, recipe.schedule, 64, sampling=SAMPLING)
    weights.save_pretrained(out, model, stage.config(), manifest)
    print(f"wrote {out}: {manifest['pictures_seen']:,} pictures seen, validation loss {score:.4f}")
