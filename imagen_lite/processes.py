"""Several processes that train one model, as `accelerate launch` or `torchrun` starts them; alone, nothing changes.

Each has its share of every batch, gradients are averaged before each update, and the first process keeps the log and
the checkpoints. All randomness is keyed by a sample's place in the whole batch: two processes train as one would, and a
run may go on with more of them or fewer.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def join(device: torch.device) -> torch.device:
    """Become one of the processes that were launched together, if there are several; returns where this one computes.

    CUDA processes talk by NCCL, others by Gloo.

    Raises:
        ImportError: `accelerate` is not installed. RuntimeError: the processes do not find each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError("several processes need `accelerate`: pip install -e '.[train]'") from error
    own = PartialState(cpu=device.type != "cuda", timeout=timedelta(days=1)).device
    if place()[1] == 1:
        raise RuntimeError("several processes were launched and do not find each other; start one, without a launcher")
    return own or device


def leave() -> None:
    """The end, for all at once: a process that goes while another still talks may be ended by its own threads.

    It does not return where there are several processes: what is left of those threads may abort an ordinary exit.
    """
    if place()[1] > 1:
        dist.barrier()
        dist.destroy_process_group()
        print(end="", flush=True)
        os._exit(0)


def place() -> tuple[int, int]:
    """Which process this is, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def share(batch: int, device: torch.device | str = "cpu") -> Tensor:
    """The places in a batch of the samples that are this process's, (batch / processes,) int64.

    Raises:
        ValueError: a batch that cannot be shared evenly.
    """
    rank, count = place()
    if batch % count:
        raise ValueError(f"a batch of {batch} cannot be shared by {count} processes; start a number that divides it")
    return torch.arange(rank * batch // count, (rank + 1) * batch // count, device=device)


@contextmanager
def in_turn() -> Iterator[None]:
    """The first process goes through the block before the others, which find on disk what it wrote there."""
    rank, count = place()
    if rank > 0:
        dist.barrier()
    yield
    if rank == 0 and count > 1:
        dist.barrier()


def average(tensors: list[Tensor]) -> None:
    """Replaces tensors by their mean over the processes, in place, in one message."""
    if (count := place()[1]) > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.div_(count).split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def agree(value: float, device: torch.device | str = "cpu") -> float:
    """The first process's number, in all of them: clocks differ, and all must stop at the same step."""
    if place()[1] == 1:
        return value
    told = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(told, 0)
    return float(told)


def gather(own: list[T]) -> list[T]:
    """What all processes made of every so-manieth item (`items[rank::count]`), in the items' order, in all of them."""
    if (count := place()[1]) == 1:
        return own
    parts: list[list[T]] = [own] * count
    dist.all_gather_object(parts, own)
    return [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]
