"""Colours of paints and surfaces (linear RGB), and how patterns, letters and grounds are painted."""

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from imagen_lite.scenes import textures
from imagen_lite.scenes.pack import COLUMNS
from imagen_lite.scenes.paints import PERIOD
from imagen_lite.scenes.world import Scene

Rgb = tuple[float, float, float]

# Base, light and accent colour of each surface: a few of each, one is picked by the scene's seed.
GROUNDS: dict[str, tuple[tuple[Rgb, Rgb, Rgb], ...]] = {
    "wood": (((0.20, 0.105, 0.05), (0.46, 0.29, 0.155), (0.03, 0.015, 0.01)),
             ((0.075, 0.04, 0.025), (0.22, 0.125, 0.07), (0.01, 0.006, 0.005)),
             ((0.36, 0.25, 0.15), (0.62, 0.49, 0.33), (0.07, 0.045, 0.03))),
    "tiles": (((0.10, 0.13, 0.17), (0.60, 0.62, 0.62), (0.30, 0.29, 0.27)),
              ((0.42, 0.45, 0.46), (0.74, 0.73, 0.69), (0.22, 0.21, 0.20)),
              ((0.045, 0.10, 0.12), (0.40, 0.47, 0.46), (0.45, 0.44, 0.41))),
    "grass": (((0.018, 0.045, 0.006), (0.20, 0.34, 0.05), (0.34, 0.32, 0.10)),
              ((0.02, 0.05, 0.012), (0.15, 0.30, 0.065), (0.30, 0.33, 0.12))),
    "sand": (((0.33, 0.235, 0.13), (0.72, 0.565, 0.36), (0.12, 0.08, 0.05)),
             ((0.37, 0.285, 0.18), (0.76, 0.63, 0.44), (0.15, 0.11, 0.08))),
    "cloth": (((0.55, 0.53, 0.47), (0.86, 0.83, 0.76), (0.16, 0.22, 0.34)),
              ((0.55, 0.53, 0.48), (0.86, 0.83, 0.77), (0.36, 0.13, 0.13)),
              ((0.52, 0.52, 0.47), (0.84, 0.83, 0.77), (0.17, 0.24, 0.17)),
              ((0.50, 0.50, 0.50), (0.80, 0.80, 0.79), (0.16, 0.16, 0.18))),
}  # fmt: skip
_GRAIN = 0.012  # rays wider than this do not see the grain under the paint
GLOSS = {"wood": 0.25, "tiles": 1.0, "grass": 0.0, "sand": 0.0, "cloth": 0.0}  # of the reflection


@dataclass(frozen=True)
class Hits:
    """M points on things: where (3, M), the normal there (3, M), the width of the ray (M,), and the parts' rows
    (ROW, M), read by name."""

    p: Tensor
    normal: Tensor
    footprint: Tensor
    rows: Tensor

    def get(self, name: str) -> Tensor:
        """One column of the rows (M,), or several (k, M)."""
        first, width = COLUMNS[name]
        return self.rows[first] if width == 1 else self.rows[first : first + width]


def paint_things(hits: Hits) -> Tensor:
    """Albedo (3, M) of the things where they were hit: paint, the grain under it, pattern, letter."""
    albedo = hits.get("albedo")
    x0, y0, z0, c, s, inverse = hits.get("frame").unbind(0)
    x, y, (nx, ny, nz) = hits.p[0] - x0, hits.p[1] - y0, hits.normal.unbind(0)
    local = torch.stack([c * x + s * y, c * y - s * x, hits.p[2] - z0]) * inverse
    facing = torch.stack([c * nx + s * ny, c * ny - s * nx, nz])
    patterned = (hits.get("pattern") > 0).nonzero()[:, 0]
    if patterned.numel():
        share = _pattern(hits, local, facing, patterned)
        second = hits.get("second").index_select(1, patterned)
        first = albedo.index_select(1, patterned)
        albedo = albedo.index_copy(1, patterned, torch.lerp(first, second, share))
    lettered = ((hits.get("letter") >= 0) & (facing[2].abs() < 0.5)).nonzero()[:, 0]
    if lettered.numel():
        share = _letter(hits, local, facing, lettered)
        marked = torch.lerp(albedo.index_select(1, lettered), hits.get("ink").index_select(1, lettered), share)
        albedo = albedo.index_copy(1, lettered, marked)
    grained = ((hits.get("shiny") < 0.5) & (hits.footprint < _GRAIN)).nonzero()[:, 0]
    if grained.numel():
        albedo = albedo.index_copy(1, grained, albedo.index_select(1, grained) * _grain(hits, local, grained))
    return albedo


def _grain(hits: Hits, local: Tensor, at: Tensor) -> Tensor:
    """What wood grain does to the paint over it (M',), about 1."""
    x, y, z = local.index_select(1, at)
    width = hits.footprint.index_select(0, at)
    fibre = textures.grain(x.device).look_up(z + 0.3 * hits.get("thing").index_select(0, at), 0.8 * x + 0.6 * y, width)
    return 1 + 0.075 * fibre[:, 0] * (1.5 - 1.5 * width / _GRAIN).clamp(0, 1)


def _unwrap(hits: Hits, local: Tensor, facing: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of a pattern on the surface, in periods: round things by angle and height, flat ones by face."""
    x, y, z = local.index_select(1, at)
    fx, fy, fz = facing.index_select(1, at)
    kind = hits.get("round").index_select(0, at)
    # Flat faces: the two axes that the face most nearly spans.
    top, side = fz.abs() > 0.75, fx.abs() > fy.abs()
    flat_u = torch.where(top, x, torch.where(side, y, x))
    flat_v = torch.where(top, y, z)
    # Round ones: rings of one period, each with a whole, even number of cells around it.
    center = hits.get("center").index_select(1, at)
    inverse = hits.get("frame")[5].index_select(0, at)
    radius = hits.get("radius").index_select(0, at) * inverse
    here = hits.p.index_select(1, at) - center
    around = here[:2].norm(dim=0) * inverse
    latitude = torch.atan2(here[2] * inverse, around) * radius
    v = torch.where(kind == 1, latitude, z)
    ring_radius = torch.where(
        kind == 1, radius * torch.cos(((v / PERIOD).floor() + 0.5) * PERIOD / radius.clamp(min=0.05)), radius
    )
    cells = (2 * (math.pi * ring_radius / PERIOD).round()).clamp(min=2)
    u = torch.atan2(here[1], here[0]) / (2 * math.pi) * cells
    flat = (kind == 0) | ((kind == 2) & top)
    return torch.where(flat, flat_u / PERIOD, u), torch.where(flat, flat_v, v) / PERIOD


def _pattern(hits: Hits, local: Tensor, facing: Tensor, at: Tensor) -> Tensor:
    """Share of the second tone (M',) in [0, 1], averaged over the width of the ray."""
    u, v = _unwrap(hits, local, facing, at)
    code = hits.get("pattern").index_select(0, at)
    width = (hits.footprint * hits.get("frame")[5]).index_select(0, at) / PERIOD
    soft = width.clamp(min=0.02)
    wave = (((v - v.floor()) - 0.5).abs() - 0.25) * 2  # a triangle, -1/2 to 1/2
    stripes = (0.5 + wave / (2 * soft)).clamp(0, 1)
    du, dv = u - u.floor() - 0.5, v - v.floor() - 0.5
    dots = (0.5 + (0.33 - (du * du + dv * dv).sqrt()) / soft).clamp(0, 1)
    edge_u, edge_v = 0.5 - du.abs(), 0.5 - dv.abs()
    even = torch.remainder(u.floor() + v.floor(), 2) * 2 - 1
    checks = 0.5 + 0.5 * even * (edge_u * 2 / soft).clamp(max=1) * (edge_v * 2 / soft).clamp(max=1)
    share = torch.where(code == 1, stripes, torch.where(code == 2, dots, checks))
    mean = torch.where(code == 2, 0.34, 0.5)
    return torch.lerp(mean, share, (1.6 - 1.2 * width).clamp(0, 1))


def _letter(hits: Hits, local: Tensor, facing: Tensor, at: Tensor) -> Tensor:
    """Share of ink (M',) on a cube's four sides."""
    x, y, z = local.index_select(1, at)
    fx, fy, _ = facing.index_select(1, at)
    u = torch.where(fx.abs() > fy.abs(), y * fx.sign(), -x * fy.sign())
    size = 0.66  # of a glyph's square, in the thing's units
    footprint = (hits.footprint * hits.get("frame")[5]).index_select(0, at) / size
    glyphs = textures.letters(u.device)
    ink = glyphs.look_up(u / size + 0.5, 0.5 - (z - 0.45) / size, footprint, hits.get("letter").index_select(0, at))[
        :, 0
    ]
    inside = (u.abs() < size / 2) & ((z - 0.45).abs() < size / 2)
    return ink * inside


@dataclass(frozen=True)
class Ground:
    """The table of B scenes, all of one surface: `colors` (B, 3, 3), base, light, accent; `turn` (B, 2) cosine and
    sine; `offset` (B, 2); `edge` (B, 1, 1): how far behind the origin the table ends."""

    surface: str
    colors: Tensor
    turn: Tensor
    offset: Tensor
    edge: Tensor
    mean: Tensor  # (B, 3, 1) its colour from afar


def ground(scenes: list[Scene], device: torch.device) -> Ground:
    """The table of each scene; its colours, its turn and where it ends follow from the seed."""
    rows = []
    for scene in scenes:
        rng = random.Random(scene.seed ^ 0x7AB1E)
        turn = math.radians(rng.uniform(-35, 35))
        strength = rng.uniform(0.9, 1.08)
        colors = [[c * strength for c in color] for color in rng.choice(GROUNDS[scene.surface])]
        rows.append((colors, (math.cos(turn), math.sin(turn)), (rng.random(), rng.random()), rng.uniform(2.2, 7.0)))
    colors, turn, offset, edge = (torch.tensor([r[k] for r in rows], device=device) for k in range(4))
    tile = textures.surface(scenes[0].surface, device)
    tone, mask = tile.texels[-1, 0], tile.texels[-1, 1]
    mean = torch.lerp(torch.lerp(colors[:, 0], colors[:, 1], tone), colors[:, 2], mask)
    return Ground(scenes[0].surface, colors, turn, offset, edge[:, None, None], mean[..., None])


def paint_ground(table: Ground, p: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Albedo (B, 3, N), slopes of the surface in x and y (B, 2, N) and gloss (B, N) at p, by the rays' width (B, N)."""
    size = textures.TILE[table.surface]
    c, s = table.turn[:, :1], table.turn[:, 1:]
    u = (c * p[:, 0] + s * p[:, 1]) / size + table.offset[:, :1]
    v = (c * p[:, 1] - s * p[:, 0]) / size + table.offset[:, 1:]
    b, n = u.shape
    tile = textures.surface(table.surface, p.device)
    seen = tile.look_up(u.reshape(-1), v.reshape(-1), (footprint / size).reshape(-1))
    tone, mask, along_u, along_v = seen.reshape(b, n, 4).permute(2, 0, 1).contiguous()
    base, light, accent = (table.colors[:, k, :, None] for k in range(3))
    albedo = torch.lerp(base, light, tone[:, None])
    albedo = torch.lerp(albedo, accent * (0.5 + tone[:, None]), mask[:, None])
    slopes = torch.stack([c * along_u - s * along_v, s * along_u + c * along_v], 1)
    return albedo, slopes, GLOSS[table.surface] * (1 - mask)
