"""The five lights: a key light, a sky around it, and an exposure. Colours are linear RGB."""

import colorsys
import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from imagen_lite.scenes.world import Scene

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """`key` shines from the direction of the scene's sun, as wide as `softness` (radius over distance); `near` puts
    it so many camera distances away (0: far off) where it lights a pool. `zenith`, `horizon` and `below` are the
    backdrop by height, `ambient` what the surroundings send from above."""

    key: Rgb
    softness: float
    ambient: Rgb
    zenith: Rgb
    horizon: Rgb
    below: Rgb
    exposure: float
    near: float = 0.0


# key, softness, ambient, zenith, horizon, below, exposure, near
LIGHT = {
    "noon": Light((3.7, 3.35, 2.75), 0.03, (0.40, 0.52, 0.74),
          (0.16, 0.36, 0.85), (0.72, 0.86, 1.0), (0.55, 0.55, 0.52), 0.50),
    "sunset": Light((4.6, 2.75, 1.40), 0.035, (0.50, 0.44, 0.70),
          (0.22, 0.18, 0.48), (1.5, 0.72, 0.34), (0.45, 0.27, 0.22), 0.52),
    "overcast": Light((0.95, 1.0, 1.06), 0.40, (1.0, 1.07, 1.16),
          (0.72, 0.80, 0.92), (1.15, 1.2, 1.25), (0.7, 0.72, 0.74), 0.70),
    "lamp": Light((5.2, 3.95, 2.5), 0.08, (0.10, 0.10, 0.15),
          (0.012, 0.014, 0.035), (0.05, 0.035, 0.035), (0.03, 0.02, 0.02), 0.44, 0.55),
    "moon": Light((0.74, 0.86, 1.12), 0.03, (0.13, 0.17, 0.30),
          (0.01, 0.02, 0.07), (0.08, 0.12, 0.24), (0.03, 0.04, 0.08), 0.60),
}  # fmt: skip


@dataclass(frozen=True)
class Lighting:
    """The light of B scenes. Colours (B, 3, 1); `source` (B, 3) is where the key light is; `reach` (B, 1) its
    distance to what it shines on if it is near, else 0; `blobs` (B, K, 7) soft discs in the backdrop: direction,
    sharpness, colour."""

    key: Tensor
    ambient: Tensor
    zenith: Tensor
    horizon: Tensor
    below: Tensor
    source: Tensor
    softness: Tensor
    reach: Tensor
    exposure: Tensor
    blobs: Tensor


def lighting(scenes: list[Scene], device: torch.device) -> Lighting:
    """The light of each scene; its backdrop varies with the scene's seed."""
    rows = [_row(s) for s in scenes]

    def column(k: int) -> Tensor:
        return torch.tensor([r[k] for r in rows], dtype=torch.float32, device=device)

    key, ambient, zenith, horizon, below = (column(k)[:, :, None] for k in range(5))
    reach, exposure = column(7)[:, None], column(8)[:, None, None]
    return Lighting(key, ambient, zenith, horizon, below, column(5), column(6), reach, exposure, column(9))


def _row(scene: Scene) -> tuple:
    """What `Lighting` holds, for one scene."""
    light, rng = LIGHT[scene.light], random.Random(scene.seed ^ 0x5EED)
    azimuth, elevation = (math.radians(a) for a in scene.sun)
    way = (math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation), math.sin(elevation))
    distance = light.near * scene.camera.distance or 30.0
    tx, ty, _ = scene.camera.target
    source = (tx + distance * way[0], ty + distance * way[1], 0.3 + distance * way[2])
    tint = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.5), 1.0)
    strength = rng.uniform(0.6, 1.15)
    sky = [
        tuple(c * t * strength for c, t in zip(color, tint, strict=True))
        for color in (light.zenith, light.horizon, light.below)
    ]
    night = scene.light in ("lamp", "moon")
    blobs = []
    for _ in range(7):
        hue = rng.choice((0.09, 0.11, 0.07, 0.55, 0.62)) if night else rng.random()
        color = colorsys.hsv_to_rgb(
            hue, rng.uniform(0.3, 0.75), rng.uniform(0.10, 0.45) if night else rng.uniform(0.02, 0.16)
        )
        x, z = rng.uniform(-0.55, 0.55), rng.uniform(-0.25, 0.25)
        n = math.sqrt(x * x + 1 + z * z)
        radius = rng.uniform(0.02, 0.06)
        blobs.append([x / n, 1 / n, z / n, math.cos(radius), *color])
    reach = distance if light.near else 0.0
    return (light.key, light.ambient, *sky, source, light.softness, reach, light.exposure, blobs)


def toward_light(light: Lighting, p: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors from p (B, 3, N) to the key light, and its strength there (B, 1, N), 1 at the picture's middle."""
    way = light.source[:, :, None] - p
    square = (way * way).sum(1, keepdim=True)
    way = way * square.rsqrt()
    near = light.reach[:, :, None]
    fall = near**2 / square.clamp(min=0.04)
    return way, torch.where(near > 0, fall * fall.clamp(max=1.0).sqrt(), torch.ones_like(fall))


def backdrop(light: Lighting, d: Tensor) -> Tensor:
    """Colour (B, 3, N) of what lies behind everything, along d."""
    up = d[:, 2:].clamp(min=0)
    high = (up * 1.6).clamp(max=1).sqrt()
    low = (d[:, 2:] * -4).clamp(0, 1)
    color = torch.lerp(light.horizon, light.zenith, high)
    color = torch.lerp(color, light.below.expand_as(color), low)
    for blob in light.blobs.unbind(1):
        cosine = (blob[:, :3, None] * d).sum(1, keepdim=True)
        disc = ((cosine - blob[:, 3:4, None]) * 1200).clamp(0, 1)
        color = torch.addcmul(color, disc, blob[:, 4:, None])
    return color
