"""Processes that faults are done to: each writes one thing, and tells errors as the command line does.

python -m experiments.soak.victim checkpoint FOLDER [STEPS [WIDTH]]
"""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.soak.outcome import bind_memory
from imagen_lite import cli, data, viz, weights
from imagen_lite.text import EmbeddingCache, TextEmbedding
from imagen_lite.train import TrainConfig, fit, keyed_normal


def checkpoint(folder: Path, steps: str = "400", width: str = "256", minutes: str = "0", pause: str = "0") -> None:
    """A training that is saved after every step (or so many minutes): a linear layer learns to mirror its input."""
    torch.manual_seed(0)
    model = nn.Linear(int(width), int(width))

    def loss_at(step: int) -> Tensor:
        time.sleep(float(pause))
        x = keyed_normal(1, step, torch.arange(4), (int(width),))
        return (model(x) - x.flip(1)).square().mean()

    config = TrainConfig(batch=4, lr=1e-2, warmup=5, steps=int(steps), checkpoint_minutes=float(minutes))
    fit(model, loss_at, config, folder)


def greedy(folder: Path) -> None:
    """A training whose eleventh step wants more memory than there is."""
    model = nn.Linear(256, 256)

    def loss_at(step: int) -> Tensor:
        x = keyed_normal(1, step, torch.arange(4), (256,))
        return (model(x.repeat(4_000_000 if step == 10 else 1, 1)) ** 2).mean()

    bind_memory(1e9)
    fit(model, loss_at, TrainConfig(batch=4, steps=50, checkpoint_minutes=0.0), folder)


def model(folder: Path) -> None:
    """Weights of another seed."""
    torch.manual_seed(1)
    weights.save_pretrained(folder, nn.Linear(256, 256), {"width": 256}, {"recipe": "none"})


def picture(folder: Path) -> None:
    """A picture of noise, which does not compress."""
    torch.manual_seed(1)
    viz.save(viz.grid(torch.rand(4, 3, 128, 128) * 2 - 1), folder / "out.png")


def shard(folder: Path) -> None:
    """Twenty rendered pictures, as training keeps them, in a folder of their own."""
    data.SHARD = 20
    data._render_shard((folder, 1, 0, 64, None, "training", None))


class Numbers:
    """A text encoder that says how long a caption is."""

    name = fingerprint = "numbers"
    dim, max_length = 256, 16

    def __call__(self, captions: list[str]) -> TextEmbedding:
        """Tokens (B, 16, 256)."""
        lengths = torch.tensor([float(len(caption)) for caption in captions])
        tokens = lengths[:, None, None].expand(-1, 16, 256).contiguous()
        return TextEmbedding(tokens, torch.ones(len(captions), 16, dtype=torch.bool))


def embeddings(folder: Path, count: str = "100") -> None:
    """Captions embedded and kept, 8 KB each."""
    EmbeddingCache(folder / "text.sqlite", Numbers(), batch=8)(["x" * n for n in range(1, int(count) + 1)])


def bounded(folder: Path, megabytes: str) -> None:
    """The command line's sampling, with so much memory beyond what the loaded models take."""
    load = cli._load

    def then_bound(*arguments):
        cascade = load(*arguments)
        bind_memory(1e6 * float(megabytes))
        return cascade

    cli._load = then_bound
    command(folder, "sample", "a red cone on the grass", "--count", "16", "--steps", "4")


def slow(folder: Path) -> None:
    """The command line's rendering of a picture, whose writing takes its time half-way."""
    sync = weights.os.fsync

    def wait(handle: int) -> None:
        print("writing", flush=True)
        time.sleep(30)
        sync(handle)

    weights.os.fsync = wait
    command(folder, "render", "--count", "1", "--size", "16")


def command(folder: Path, *arguments: str) -> None:
    """`imagen-lite ARGUMENTS`, the picture in the folder."""
    sys.argv = ["imagen-lite", *arguments, "-o", str(folder / "out.png")]
    cli.main()


if __name__ == "__main__":
    with cli.one_sentence_errors():
        globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
