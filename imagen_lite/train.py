"""The training loop that every recipe shares: keyed randomness, EMA, checkpoints that survive a kill, a log.

A recipe gives `fit` a model and a function of the step that returns the loss; nothing is kept between steps but
what the checkpoint holds, so a run that was stopped at any moment goes on to the same losses.
"""

import json
import math
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm.auto import tqdm

from imagen_lite import processes
from imagen_lite.weights import write_atomic


@dataclass(frozen=True)
class TrainConfig:
    """How a run is optimised.

    batch: pictures a step. lr: peak learning rate, reached after `warmup` steps, held, then (if `decay_from` is set)
    lowered linearly to 0 between `decay_from` and `steps`. ema: decay of the weight average at late steps.
    """

    batch: int = 64
    lr: float = 1e-3
    warmup: int = 200
    steps: int = 1_000_000
    decay_from: int | None = None
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_minutes: float = 3.0

    def __post_init__(self):
        if self.batch < 1 or self.steps < 1 or not self.lr > 0:
            raise ValueError(f"batch, steps and lr must be positive, not {self.batch}, {self.steps}, {self.lr}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is a decay in [0, 1), not {self.ema}")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0 is the first)."""
        rate = self.lr * min(1.0, (step + 1) / max(1, self.warmup))
        if self.decay_from is not None and step > self.decay_from:
            rate *= max(0.0, (self.steps - step) / (self.steps - self.decay_from))
        return rate


# Randomness that depends on (seed, step, sample, position) alone ------------------------------------------------


def _hash(x: Tensor) -> Tensor:
    """A 32-bit mixer on int64 lanes (murmur3's finaliser): the same bits on every device."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


def _keys(seed: int, step: int, samples: Tensor, stream: int) -> Tensor:
    """A 32-bit key a sample, (B,) int64."""
    key = _hash(_hash(torch.tensor([seed, step, stream], dtype=torch.int64)).cumsum(0) & 0xFFFFFFFF)
    return _hash(samples.to(torch.int64) + int(key[0] ^ (key[1] << 1) ^ (key[2] << 2)) & 0xFFFFFFFF)


def keyed_uniform(seed: int, step: int, samples: Tensor, count: int, stream: int = 0) -> Tensor:
    """Uniform numbers in (0, 1), (B, count), a function of (seed, step, samples[b], position, stream) alone.

    So training draws the same t, noise and dropout for a sample whatever the batch, the process or the device it is in,
    and again after a resume. `samples` (B,) are the indices of the samples within the step.
    """
    rows = _keys(seed, step, samples, stream)
    lanes = torch.arange(count, device=samples.device, dtype=torch.int64) * 0x9E3779B1
    bits = _hash((_hash((rows[:, None] + lanes[None]) & 0xFFFFFFFF) ^ rows[:, None]) & 0xFFFFFFFF)
    return ((bits >> 8).float() + 0.5) / 2**24


def keyed_normal(seed: int, step: int, samples: Tensor, shape: tuple[int, ...], stream: int = 0) -> Tensor:
    """Standard normal numbers (B, *shape), keyed as `keyed_uniform`.

    On a CPU a generator of its own draws each sample's, for hashing as many numbers takes as long as the network there;
    elsewhere they are hashed, all at once.
    """
    if samples.device.type == "cpu":
        keys = _keys(seed, step, samples, stream).tolist()
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(key)) for key in keys])
    return hashed_normal(seed, step, samples, shape, stream)


def hashed_normal(seed: int, step: int, samples: Tensor, shape: tuple[int, ...], stream: int = 0) -> Tensor:
    """Standard normal numbers (B, *shape) of `keyed_uniform`'s, by Box-Muller."""
    half = -(-math.prod(shape) // 2)
    u = keyed_uniform(seed, step, samples, 2 * half, stream)
    radius, angle = (-2 * u[:, :half].log()).sqrt(), 2 * math.pi * u[:, half:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, : math.prod(shape)].view(-1, *shape)


# Averages and checkpoints ---------------------------------------------------------------------------------------


class Ema:
    """An exponential moving average of a model's parameters, warmed up so that early steps are forgotten."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.shadow = {name: p.detach().clone().float() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Fold in the weights after step `step`; near 0 what was before is forgotten fast."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = [(self.shadow[name], p) for name, p in model.named_parameters()]
        torch._foreach_lerp_([s for s, _ in pairs], [p.float() for _, p in pairs], 1 - decay)

    def copy_to(self, model: nn.Module) -> None:
        """Put the average into a model of the same shape."""
        model.load_state_dict(self.shadow, strict=False)


def save_state(path: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer, progress: dict) -> None:
    """Write a checkpoint in one file, whole or not at all (a temporary file, synced, then renamed).

    Raises:
        OSError: it cannot be written; the one before is kept.
    """
    tensors = {f"ema.{k}": v for k, v in ema.shadow.items()}
    for name, p in model.named_parameters():
        tensors |= {f"{key}.{name}": v for key, v in {"model": p.detach(), **optimizer.state.get(p, {})}.items()}
    content = save({k: v.contiguous().cpu() for k, v in tensors.items()}, {"progress": json.dumps(progress)})
    write_atomic(path, content)


def load_state(path: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> "Progress":
    """Read a checkpoint back; returns its progress.

    Raises:
        RuntimeError: the file is not a whole checkpoint of this model.
    """
    try:
        with safe_open(path, "pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            stored = set(file.keys())
            for name, p in model.named_parameters():
                keys = [k for k in ("model", "ema", "step", "exp_avg", "exp_avg_sq") if f"{k}.{name}" in stored]
                state = {k: file.get_tensor(f"{k}.{name}").to(p.device) for k in keys}
                if wrong := [k for k in keys if k != "step" and state[k].shape != p.shape]:  # `copy_` would spread it
                    raise ValueError(f"{wrong[0]}.{name} is {tuple(state[wrong[0]].shape)}, not {tuple(p.shape)}")
                p.data.copy_(state.pop("model"))
                ema.shadow[name].copy_(state.pop("ema"))
                optimizer.state[p] = state
    except Exception as error:
        raise RuntimeError(f"{path} is not a checkpoint of this model ({error}); start afresh with --fresh") from error
    return progress


# The loop -------------------------------------------------------------------------------------------------------


@dataclass
class Progress:
    """How far a run has come; goes into the checkpoint."""

    step: int = 0
    pictures: int = 0
    seconds: float = 0.0

    def advance(self, batch: int, seconds: float, milestones: tuple[int, ...]) -> list[int]:
        """Count a step; returns the milestones, in pictures, that it has passed."""
        before = self.pictures
        self.step, self.pictures, self.seconds = self.step + 1, before + batch, self.seconds + seconds
        return [m for m in milestones if before < m <= self.pictures]


def fit(
    model: nn.Module, loss_at: Callable[[int], Tensor], config: TrainConfig, run: Path, *,
    max_minutes: float | None = None, average_from: int = 0, milestones: tuple[int, ...] = (),
    on_milestone: Callable[[nn.Module, Ema, Progress], dict] | None = None,
) -> tuple[Ema, Progress]:  # fmt: skip
    """Train until `config.steps`, `max_minutes`, Ctrl-C or SIGTERM, resuming the checkpoint in `run` if there is one.

    Args:
        model: trained in place, float32 parameters.
        loss_at: the scalar loss of a step, of this process's share of it; all its randomness must follow from the step.
        run: folder of the checkpoint (`state.safetensors`) and the log (`log.jsonl`).
        average_from: the step at which the weight average is warmed up once more, because what is learned changes.
        milestones: counts of pictures at which `on_milestone` is called; what it returns is logged.

    Raises:
        RuntimeError: the loss is not finite, memory ran out, or another training is at work in `run`, with advice.
    """
    state = run / "state.safetensors"
    losses: list[Tensor] = []
    first, device = processes.place()[0] == 0, next(model.parameters()).device
    with alone(run), _stoppable() as asked:
        optimizer, ema, progress = _resumed(state, model, config)
        saved = now = processes.agree(time.monotonic(), device)
        end = math.inf if max_minutes is None else now + 60 * max_minutes
        many = config.steps * config.batch
        with tqdm(initial=progress.pictures, total=many, unit="picture", desc=run.name, disable=not first) as bar:
            done = progress.step >= config.steps or now >= end
            while not done:
                begun = time.monotonic()
                losses.append(_step(model, loss_at, optimizer, config, progress.step))
                ema.update(model, progress.step - (average_from if progress.step >= average_from else 0))
                passed = progress.advance(config.batch, time.monotonic() - begun, milestones)
                now = processes.agree(math.inf if asked else time.monotonic(), device)
                bar.update(config.batch)
                done = progress.step >= config.steps or now >= end
                due = done or now - saved > 60 * config.checkpoint_minutes or bool(passed)
                if due or progress.step % 50 == 0:
                    losses = _log_loss(run, losses, progress, bar)  # before the checkpoint: a NaN must not overwrite it
                if due and first:
                    save_state(state, model, ema, optimizer, vars(progress))
                saved = now if due else saved
                if passed and on_milestone and first:
                    _log(run, vars(progress) | {"milestone": passed[-1]} | on_milestone(model, ema, progress))
    return ema, progress


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Makes the run's folder, and refuses it while another training is at work there.

    The lock is SQLite's, the same on every system, and a process that ends lets go of it, however it ends.
    """
    run.mkdir(parents=True, exist_ok=True)
    try:
        lock = sqlite3.connect(":memory:" if processes.place()[0] else run / "lock", timeout=0)
        lock.executescript("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        why = "another training is at work there" if "locked" in str(error) else error
        raise RuntimeError(f"no training can begin in {run} ({why}); wait, or choose another folder") from error
    with closing(lock):
        for stray in run.glob(".state.safetensors.*.tmp"):  # of a training that was killed while it saved
            stray.unlink()
        yield


def _resumed(state: Path, model: nn.Module, config: TrainConfig) -> tuple[torch.optim.Optimizer, Ema, Progress]:
    """Optimiser, average and progress, as the checkpoint has them, if there is one; the model's weights, too."""
    optimizer = torch.optim.AdamW(
        model.parameters(), config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
    )
    ema = Ema(model, config.ema)
    return optimizer, ema, load_state(state, model, ema, optimizer) if state.exists() else Progress()


@contextmanager
def _stoppable() -> Iterator[list[float]]:
    """Within it, Ctrl-C only fills the list: a run ends after a whole step, and saved. A second one ends it at once.

    So does SIGTERM, by which schedulers say that the time is up.
    """
    asked: list[float] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    mine = threading.current_thread() is threading.main_thread()  # signals are not for others
    usual = [(number, signal.signal(number, ask)) for number in (signal.SIGINT, signal.SIGTERM) if mine]
    try:
        yield asked
    finally:
        for number, handler in usual:
            signal.signal(number, handler)


def _step(
    model: nn.Module, loss_at: Callable[[int], Tensor], optimizer: torch.optim.Optimizer, config: TrainConfig, step: int
) -> Tensor:
    """One update; returns the detached loss."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr_at(step)
    model.train()
    try:
        loss = loss_at(step)
        loss.backward()
        processes.average([p.grad for p in model.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not memory and not any(told in str(error) for told in ("can't allocate memory", "could not create a")):
            raise
        half = max(1, config.batch // 2)
        raise RuntimeError(
            f"out of memory at batch {config.batch}; give the recipe TrainConfig(batch={half})"
        ) from error
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _log_loss(run: Path, losses: list[Tensor], progress: Progress, bar: tqdm) -> list[Tensor]:
    """Write the mean loss since the last call; stops a run whose loss is no number. Returns an empty list."""
    mean = torch.stack(losses).float().mean()
    processes.average([mean])
    loss = float(mean)
    if not math.isfinite(loss):
        raise RuntimeError(
            f"the loss is {loss} at step {progress.step}; resume the last checkpoint with a lower learning rate"
        )
    _log(run, vars(progress) | {"loss": round(loss, 6)})
    bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
    return []


def _log(run: Path, row: dict) -> None:
    if processes.place()[0] == 0:
        with open(run / "log.jsonl", "a") as file:
            file.write(json.dumps({k: round(v, 1) if k == "seconds" else v for k, v in row.items()}) + "\n")
