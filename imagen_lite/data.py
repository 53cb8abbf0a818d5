"""Captioned pictures to train on: scenes rendered once into a cache folder, in shards that can be added to.

A shard holds the pictures of 1,000 consecutive seeds (`00012.npy`, uint8, channels last, so a batch is already in
torch's channels_last order) and their captions (`00012.json`: for each seed, captions of the picture and of its mirror
image; the mirror's list is empty where letters forbid a flip). Everything follows from the seeds, so a shard that is
lost is simply rendered again.
"""

import io
import json
import os
import random
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from imagen_lite.scenes.world import SPLITS, WORLD_VERSION, Scene, sample_scene
from imagen_lite.weights import write_atomic

SHARD = 1000
CAPTIONS = 4  # per picture, and as many for its mirror image
WORKER_BYTES = 3.5e9  # what a process that renders on a GPU may take of its memory


def cache_folder() -> Path:
    """Where rendered pictures and training runs live: `$IMAGEN_LITE_CACHE`, else ~/.cache/imagen_lite."""
    return Path(os.environ.get("IMAGEN_LITE_CACHE") or Path.home() / ".cache" / "imagen_lite")


@dataclass(frozen=True)
class Pool:
    """Pictures and captions of one split, in memory or memory-mapped.

    `pictures` (N, H, W, 3) uint8, in arrays of `SHARD` and one of the rest; `captions[i]` and `mirrored[i]` are lists
    of strings; `seeds[i]` makes scene i.
    """

    pictures: list[np.ndarray]
    captions: list[list[str]]
    mirrored: list[list[str]]
    seeds: list[int]

    def __len__(self) -> int:
        return len(self.seeds)

    def picture(self, index: int) -> np.ndarray:
        """Picture `index`, (H, W, 3) uint8."""
        return self.pictures[index // SHARD][index % SHARD]

    def tensor(self, device: torch.device | str = "cpu") -> Tensor:
        """All pictures as one uint8 tensor (N, H, W, 3) on `device`."""
        return torch.from_numpy(np.concatenate(self.pictures)).to(device)


def to_images(pictures: Tensor) -> Tensor:
    """uint8 pictures (B, H, W, 3) -> images (B, 3, H, W) in [-1, 1], in channels_last memory order."""
    return pictures.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] -> uint8 pictures (B, H, W, 3); values outside are clipped."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def pool(
    count: int, *, split: str = "train", size: int = 64, window: int | None = None, combinations: str = "training",
    device: torch.device | str | None = None, progress: bool = True,
) -> Pool:  # fmt: skip
    """The first `count` pictures of a split (rounded up to whole shards), rendering the shards that are missing.

    Args:
        count: how many pictures, at most the split's seeds.
        split: "train", "val" or "test".
        size: pixels a side.
        window: keep only a square of so many pixels of each picture, its place (`window_of`) the same at every size.
        combinations: as in `sample_scene`; generative models train on "training" alone.
        device: a CUDA device renders there; with any other every CPU core renders shards of its own.

    Raises:
        ValueError: unknown split, or more pictures than it has seeds. RuntimeError: a shard is damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    first, shards = SPLITS[split].start, -(-count // SHARD)
    if not 0 < shards * SHARD <= len(SPLITS[split]):
        raise ValueError(f"the {split} split has {len(SPLITS[split]):,} seeds; asked for {count:,} pictures")
    name = f"{size}" if window is None else f"{size}w{window}"
    folder = cache_folder() / "pictures" / f"{WORLD_VERSION}-{name}-{combinations}-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.device(device or "cpu").type == "cuda" else None
    jobs = [(folder, k, first + k * SHARD, size, window, combinations, device) for k in range(shards)]
    _render_shards([job for job in jobs if not (folder / f"{job[1]:05d}.npy").exists()], device, progress)
    pictures, texts = zip(*(read_shard(folder, k) for k in range(shards)), strict=True)
    captions, mirrored = ([c for shard in texts for c in shard[key]] for key in ("captions", "mirrored"))
    return Pool(list(pictures), captions, mirrored, list(range(first, first + shards * SHARD)))


def read_shard(folder: Path, k: int) -> tuple[np.ndarray, dict]:
    """The pictures of a shard, memory-mapped, and what stands beside them. Raises RuntimeError: it is damaged."""
    name = folder / f"{k:05d}"
    try:
        pictures, told = np.load(f"{name}.npy", mmap_mode="r"), json.loads(Path(f"{name}.json").read_text())
        if pictures.dtype != np.uint8 or len(told["captions"]) != len(pictures):
            raise ValueError("its pictures and captions do not belong together")
    except Exception as error:  # of many kinds, for what is truncated or from elsewhere
        raise RuntimeError(f"the shard {name} is damaged ({error}); delete {folder}, to make it again") from error
    return pictures, told


def _render_shards(jobs: list[tuple], device: str | None, progress: bool) -> None:
    """Render shards, a process each: one per core, or a few that share a GPU and keep it busy. One is rendered here."""
    bar = tqdm(total=len(jobs) * SHARD, desc="rendering", unit="picture", disable=not (progress and jobs))
    room = int(torch.cuda.mem_get_info()[0] // WORKER_BYTES) if device else len(jobs)
    count = max(1, min(len(jobs), os.cpu_count() or 1, room))
    # Processes of one thread each: small tensors on two threads spend their time waiting for one another.
    with bar, nullcontext() if count < 2 else get_context("spawn").Pool(count, torch.set_num_threads, (1,)) as workers:
        for _ in map(_render_shard, jobs) if workers is None else workers.imap_unordered(_render_shard, jobs):
            bar.update(SHARD)


def _render_shard(job: tuple) -> None:
    """Render one shard; the picture file appears last and whole, so its presence means the shard is complete."""
    from imagen_lite.scenes.renderer import render

    folder, k, first, size, window, combinations, device = job
    scenes = [sample_scene(seed, combinations=combinations) for seed in range(first, first + SHARD)]
    if window is None:
        parts = [render(scenes[i : i + 100], size, device=device) for i in range(0, SHARD, 100)]
    else:
        parts = [render([s], size, window=window_of(s, size, window), device=device) for s in scenes]
    pictures = np.concatenate([to_uint8(part).cpu().numpy() for part in parts])
    captions, mirrored = caption_lists(scenes)
    array = io.BytesIO()
    np.save(array, pictures)
    write_atomic(folder / f"{k:05d}.json", json.dumps({"captions": captions, "mirrored": mirrored}))
    write_atomic(folder / f"{k:05d}.npy", array.getvalue())


def window_of(scene: Scene, size: int, side: int) -> tuple[int, int, int, int]:
    """The square part of a `size`-pixel picture that training sees: (top, left, side, side).

    Half of the windows look at a thing, half anywhere. The place follows from the scene and from side / size alone,
    on a grid of size / 64 pixels, so that a picture four times as large has its window at the same place.
    """
    from imagen_lite.scenes.reader import box_of

    rng = random.Random(f"window {scene.seed}")
    x, y = rng.random(), rng.random()  # the window's centre, as shares of the picture
    if scene.things and rng.random() < 0.5:
        middle_x, middle_y, width, height = box_of(scene, rng.randrange(len(scene.things)))
        x, y = middle_x + (x - 0.5) * width, middle_y + (y - 0.5) * height
    last = 64 - 64 * side // size
    left, top = (min(max(round(64 * (v - side / size / 2)), 0), last) * size // 64 for v in (x, y))
    return top, left, side, side


def caption_lists(scenes: list) -> tuple[list[list[str]], list[list[str]]]:
    """`CAPTIONS` captions for each scene, and for each mirrored scene (empty where it cannot be mirrored)."""
    from imagen_lite.scenes.captions import caption

    plain, mirrored = [], []
    for scene in scenes:
        for out, view in ((plain, scene), (mirrored, scene.mirrored())):
            rng = random.Random(f"captions {scene.seed}")
            out.append([caption(view, rng) for _ in range(CAPTIONS)] if view is not None else [])
    return plain, mirrored
