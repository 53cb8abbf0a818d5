"""What light comes along a ray: surfaces, shadows, contact darkening, highlights and one reflection."""

from dataclasses import dataclass

import torch
from torch import Tensor

from imagen_lite.scenes import trace
from imagen_lite.scenes.light import Lighting, backdrop, lighting, toward_light
from imagen_lite.scenes.materials import Ground, Hits, ground, paint_ground, paint_things
from imagen_lite.scenes.pack import Packed, pack
from imagen_lite.scenes.world import Scene

_AROUND = 0.34  # how far around a point its surroundings can darken it, in table units
_BEVEL = 0.035  # how wide edges are rounded
_ROUGH = 0.025  # how much wider a reflected ray gets per unit of its way


@dataclass(frozen=True)
class Stage:
    """All that light can meet in B scenes of one surface."""

    world: Packed
    light: Lighting
    shadows: trace.Shadows
    table: Ground


@dataclass(frozen=True)
class Points:
    """Where N rays per scene end.

    Place `p`, ray `d`, shape's normal `flat`, the textured `normal` and `way` to the light are (B, 3, N); the ray's
    `width`, `gloss`, light `received` from the key and share of backdrop `fade` are (B, 1, N).
    """

    p: Tensor
    d: Tensor
    width: Tensor
    flat: Tensor
    normal: Tensor
    way: Tensor
    gloss: Tensor
    received: Tensor
    fade: Tensor


def set_stage(scenes: list[Scene], device: torch.device) -> Stage:
    """Set scenes, all of one surface, up for tracing."""
    world, light = pack(scenes, device), lighting(scenes, device)
    return Stage(world, light, trace.shadows_of(world, light.source, light.softness), ground(scenes, device))


def radiance(stage: Stage, o: Tensor, d: Tensor, start: Tensor | float, spread: float, bounces: int = 1) -> Tensor:
    """Light (B, 3, N) that comes along rays from o (B, 3, N or 1) along unit d (B, 3, N).

    A ray is `start` ((B, N) or a number) wide where it begins and `spread` wider per unit of its way.
    """
    world, light = stage.world, stage.light
    distance, which = trace.nearest(trace.hit_distances(world, o, d))
    to_table = -o[:, 2] / torch.minimum(d[:, 2], d.new_tensor(-1e-4))
    on_thing = distance < to_table
    t = torch.minimum(distance, to_table).clamp(max=60.0)
    p = torch.addcmul(o, d, t[:, None])
    footprint = start + t * spread
    at = on_thing.nonzero(as_tuple=True)
    hits = _hits(world, p, footprint, which, at)
    slant = 1 + 0.5 * t / (o[:, 2] + 0.3).abs()
    albedo, slopes, gloss = paint_ground(stage.table, p, footprint * slant)
    normal = torch.cat([-slopes, torch.ones_like(gloss)[:, None]], 1)
    flat = torch.zeros_like(normal)
    flat[:, 2] = 1
    for target, value in ((albedo, paint_things(hits)), (normal, hits.normal), (flat, hits.normal)):
        target[at[0], :, at[1]] = value.t()
    gloss[at] = hits.get("shiny")
    normal = _unit(normal)
    way, strength = toward_light(light, p)
    lit = trace.visibility(world, stage.shadows, torch.add(p, flat, alpha=1e-3), way)[:, None]
    fade = _table_fade(stage.table, p, on_thing)
    points = Points(p, d, footprint[:, None], flat, normal, way, gloss[:, None], lit * strength, fade)
    color = _gloss(stage, albedo * _irradiance(stage, points, strength), points, bounces)
    return torch.lerp(color, backdrop(light, d), fade)


def _unit(v: Tensor, dim: int = 1) -> Tensor:
    """v over its length along `dim`."""
    return v * (v * v).sum(dim, keepdim=True).clamp(min=1e-12).rsqrt()


def _irradiance(stage: Stage, points: Points, strength: Tensor) -> Tensor:
    """Light (B, 3, N) that falls on points: the key's, the sky's, and what the table and near things throw back."""
    key, ambient = stage.light.key, stage.light.ambient
    open_, near = _openness(stage.world, points.p, points.flat)
    cosine = (points.normal * points.way).sum(1, keepdim=True).clamp(min=0)
    thrown = ambient * 0.5 + key * strength * 0.16
    up = 0.5 + 0.5 * points.normal[:, 2:]
    around = torch.lerp(stage.table.mean * thrown, ambient, up)
    around = torch.lerp(near * thrown * 0.35, around, open_)
    return key * (points.received * cosine * (0.6 + 0.4 * open_)) + around


def _openness(world: Packed, p: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """How much a point sees past things and table (B, 1, N), and the nearest thing's colour (B, 3, N)."""
    probe = torch.add(p, normal, alpha=_AROUND)
    gap, which = trace.nearest(trace.clearance(world, probe).clamp_(min=0))
    things = (gap * (1 / _AROUND)).clamp_(0, 1)
    table = (probe[:, 2] * (1 / _AROUND)).clamp_(0, 1)
    b, n = which.shape
    number = which.long() + torch.arange(b, device=p.device)[:, None] * world.rows.shape[1]
    near = world.albedo.index_select(0, number.view(-1)).view(b, n, 3).transpose(1, 2)
    return (0.06 + 0.94 * things * (0.45 + 0.55 * table))[:, None], near


def _table_fade(table: Ground, p: Tensor, on_thing: Tensor) -> Tensor:
    """How much of the backdrop (B, 1, N) is seen in place of the table, which ends softly, out of focus."""
    fade = ((p[:, 1:2] - table.edge) * 0.9).clamp_(0, 1)
    return (fade * fade * (3 - 2 * fade)) * (1 - on_thing[:, None].float())


def _hits(world: Packed, p: Tensor, footprint: Tensor, which: Tensor, at: tuple[Tensor, ...]) -> Hits:
    """What is known of the rays `at` (b, n) that met a thing, with the normals there, rounded at edges."""
    b, n = at
    count = world.rows.shape[1]
    rows = world.rows.flatten(0, 1).index_select(0, b * count + which[b, n].long()).t().contiguous()
    point = p[b, :, n].t().contiguous()
    hits = Hits(point, point, footprint[b, n], rows)
    x, y, z = point
    axx, ayy, azz, axy, hx, hy, hz = hits.get("gradient")
    normal = torch.stack([axx * x + axy * y + hx, ayy * y + axy * x + hy, azz * z + hz])
    normal = _unit(normal, 0)
    low, high = hits.get("slab")
    at_zero, slope = hits.get("taper")
    radius = hits.get("radius")
    bevel = (radius * 0.12).clamp(max=_BEVEL)
    inward = at_zero + slope * z - (hits.p[:2] - hits.get("center")[:2]).norm(dim=0)
    side = (1 - inward / bevel).clamp(0, 1) ** 2
    up = ((z - high) / bevel + 1).clamp(0, 1) ** 2 - ((low - z) / bevel + 1).clamp(0, 1) ** 2
    normal = normal * side
    normal[2] += up
    facets = hits.get("facets").nonzero()[:, 0]
    if facets.numel():
        planes = hits.get("planes").index_select(1, facets).view(6, 4, -1)
        depth = planes[:, 3] - (planes[:, :3] * point.index_select(1, facets)).sum(1)
        weight = (1 - depth / bevel.index_select(0, facets)).clamp(0, 1) ** 2
        normal.index_copy_(1, facets, (planes[:, :3] * weight[:, None]).sum(0))
    return Hits(point, _unit(normal, 0), hits.footprint, rows)


def _gloss(stage: Stage, color: Tensor, points: Points, bounces: int) -> Tensor:
    """Add highlights and, while bounces are left, reflections where Schlick's Fresnel term makes them visible."""
    d, normal = points.d, points.normal
    half = _unit(points.way - d)
    facing = -(normal * d).sum(1, keepdim=True)
    shine = points.gloss * (1 - points.fade)
    peak = (normal * half).sum(1, keepdim=True).clamp(min=0).pow(180.0)
    color = color + stage.light.key * (peak * points.received * shine * 2.2)
    if not bounces:
        return color
    share = (0.04 + 0.96 * (1 - facing).clamp(0, 1) ** 5) * shine
    index, valid = _compact(share[:, 0] > 0.025)
    if index.shape[1] == 0:
        return color

    def pick(x: Tensor) -> Tensor:
        return x.gather(2, index[:, None].expand(-1, x.shape[1], -1))

    n, toward = pick(normal), pick(d)
    away = toward - 2 * (n * toward).sum(1, keepdim=True) * n
    o = torch.add(pick(points.p), pick(points.flat), alpha=2e-3)
    seen = radiance(stage, o, away, pick(points.width)[:, 0], _ROUGH, bounces - 1)
    change = (seen - pick(color)) * (pick(share) * valid[:, None])
    return color.scatter_add(2, index[:, None].expand(-1, 3, -1), change)


def _compact(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (B, K) of the true entries of each row, K the most of any row, and which of them are real."""
    rank = wanted.cumsum(1)
    most = int(rank[:, -1].max())
    index = torch.zeros(wanted.shape[0], most, dtype=torch.long, device=wanted.device)
    b, n = wanted.nonzero(as_tuple=True)
    index[b, rank[b, n] - 1] = n
    return index, torch.arange(most, device=wanted.device) < rank[:, -1:]
