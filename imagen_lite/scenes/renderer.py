"""Pictures of scenes: a batched ray tracer in torch, the same on CPU and GPU, at any size.

pictures = render([sample_scene(seed) for seed in range(16)], size=64)  # (16, 3, 64, 64) in [-1, 1]
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from imagen_lite.scenes import trace
from imagen_lite.scenes.pack import COLUMNS, pack, part_count
from imagen_lite.scenes.shade import Stage, radiance, set_stage
from imagen_lite.scenes.world import FOV, Camera, Scene

Window = tuple[int, int, int, int]
_CPU_RAYS, _GPU_RAYS = 36_000, 1_000_000  # traced together: what stays in cache, what fills a GPU in about 3 GB


def render(
    scenes: list[Scene],
    size: int = 64,
    *,
    window: Window | None = None,
    device: torch.device | str | None = None,
    supersample: int = 2,
) -> Tensor:
    """Pictures of scenes.

    Args:
        scenes: any number; a picture does not depend on which others are rendered with it.
        size: height and width of the whole picture in pixels.
        window: (top, left, height, width) in pixels of that picture: only this part of it; None is all.
        device: where to compute and to return; None is the CPU.
        supersample: rays per pixel along each side.

    Returns:
        (B, 3, height, width) float32 in [-1, 1].

    Raises:
        ValueError: a size or supersample below 1, or a window that leaves the picture.
    """
    top, left, height, width = _checked(size, window, supersample)
    device = torch.device(device or "cpu")
    out = torch.empty(len(scenes), 3, height, width, device=device)
    rays = _CPU_RAYS if device.type == "cpu" else _GPU_RAYS
    with _exactly(device.type):
        for chosen in _chunks(scenes, rays, height * width * supersample**2):
            group = [scenes[i] for i in chosen]
            stage = set_stage(group, device)
            per_row = len(group) * width * supersample**2
            step = max(1, rays // per_row)
            for row in range(0, height, step):
                part = (top + row, left, min(step, height - row), width)
                out[chosen, :, row : row + part[2]] = _draw(stage, group, size, part, supersample)
    return out


@contextmanager
def _exactly(device_type: str) -> Iterator[None]:
    """No gradients, and float32 throughout: geometry does not survive bfloat16, whatever training has switched on."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _checked(size: int, window: Window | None, supersample: int) -> Window:
    """The window to render, after looking at the arguments."""
    if size < 1 or supersample < 1:
        raise ValueError(f"size and supersample must be at least 1, not {size} and {supersample}")
    top, left, height, width = window or (0, 0, size, size)
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > size or left + width > size:
        raise ValueError(f"window {window} must lie inside the {size}x{size} picture as (top, left, height, width)")
    return top, left, height, width


def _chunks(scenes: list[Scene], rays: int, rays_each: int) -> Iterator[list[int]]:
    """Indices of scenes to trace together: one surface, similar numbers of parts, about `rays` rays."""
    order = sorted(range(len(scenes)), key=lambda i: (scenes[i].surface, part_count(scenes[i])))
    most = max(1, rays // rays_each)
    chunk: list[int] = []
    for i in order:
        if chunk and (len(chunk) == most or scenes[i].surface != scenes[chunk[0]].surface):
            yield chunk
            chunk = []
        chunk.append(i)
    if chunk:
        yield chunk


def _camera_rays(cameras: list[Camera], size: int, part: Window, samples: int, device: torch.device):
    """Origins (B, 3, 1) and unit directions (B, 3, N) through a grid of `samples`² points per pixel."""
    top, left, height, width = part
    half = math.tan(math.radians(FOV / 2))

    def grid(first: int, count: int) -> Tensor:
        k = torch.arange(count * samples, device=device, dtype=torch.float32)
        return ((first + (k + 0.5) / samples) * (2 / size) - 1) * half

    right = grid(left, width).repeat(height * samples)
    down = grid(top, height).repeat_interleave(width * samples)
    angles = torch.tensor([math.radians(c.elevation) for c in cameras], device=device)[:, None]
    origin = torch.tensor([c.position for c in cameras], device=device)[:, :, None]
    forward_y, forward_z = angles.cos() + angles.sin() * -down, -angles.sin() + angles.cos() * -down
    d = torch.stack([right.expand(len(cameras), -1), forward_y, forward_z], 1)
    return origin, d * (1 / (d * d).sum(1, keepdim=True).sqrt()), (right * right + down * down) / half**2


def _draw(stage: Stage, scenes: list[Scene], size: int, part: Window, samples: int) -> Tensor:
    """(B, 3, height, width) of one window."""
    device = stage.light.key.device
    o, d, corner = _camera_rays([s.camera for s in scenes], size, part, samples, device)
    spread = 2 * math.tan(math.radians(FOV / 2)) / size / samples * 1.3
    color = radiance(stage, o, d, 0.0, spread)
    b, (_, _, height, width) = len(scenes), part
    color = color.clamp_(max=6.0).mul_(1 - 0.10 * corner)  # a lens is darker in its corners
    color = color.view(b, 3, height, samples, width, samples).mean((3, 5))
    return _develop(color * stage.light.exposure[..., None])


def _develop(color: Tensor) -> Tensor:
    """Film: linear light to [-1, 1], with a shoulder and a toe (Narkowicz's fit to ACES), then sRGB's gamma."""
    x = color.clamp(min=0)
    x = (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)
    return x.clamp_(0, 1).pow_(1 / 2.2).mul_(2).sub_(1)


def render_ids(scenes: list[Scene], size: int = 64) -> tuple[Tensor, Tensor]:
    """Which thing each pixel shows, at the pixel's centre.

    Returns:
        ids (B, size, size) int64: index of the visible thing, -1 for none; and full (B, most things) int64: how
        many pixels each thing's whole outline covers, whatever stands before it.
    """
    _checked(size, None, 1)
    ids = torch.full((len(scenes), size, size), -1)
    full = torch.zeros(len(scenes), max((len(s.things) for s in scenes), default=0), dtype=torch.long)
    with _exactly("cpu"):
        for chosen in _chunks(scenes, _CPU_RAYS, size * size):
            group = [scenes[i] for i in chosen]
            world = pack(group, torch.device("cpu"))
            o, d, _ = _camera_rays([s.camera for s in group], size, (0, 0, size, size), 1, torch.device("cpu"))
            distances = trace.hit_distances(world, o, d)
            distance, which = trace.nearest(distances)
            owner = world.rows[..., COLUMNS["thing"][0]].long()  # (B, P)
            seen = owner.gather(1, which.long())
            ids[chosen] = torch.where(distance < trace.FAR, seen, -1).view(-1, size, size)
            met = distances < trace.FAR
            for k in range(full.shape[1]):
                full[chosen, k] = (met & (owner == k)[:, :, None]).any(1).sum(1)
    return ids, full
