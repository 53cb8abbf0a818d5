"""Rays against parts: the first hit, soft shadows, and how open the surroundings of a point are.

Everything is dense over (B, parts, N rays) and free of branches: on a CPU `where` and comparisons cost ten
times a multiplication, so a miss is a hit pushed far away by a penalty. Quadratic forms are matrix products
over features of the rays.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from imagen_lite.scenes.pack import Packed

FAR = 1e6  # farther than anything: no hit
_PENALTY = 1e16


@dataclass(frozen=True)
class Shadows:
    """What the light at `light` (B, 3) sees of the parts: silhouette and face planes of the polytopes."""

    light: Tensor  # (B, 3)
    softness: Tensor  # (B, 1, 1) size of the light over its distance
    silhouette: Tensor  # (B, T, 6, 4) planes through the light and the edges it sees as outline
    lit: Tensor  # (B, T, 3, 4)
    unlit: Tensor  # (B, T, 5, 4)


def _squares(v: Tensor) -> Tensor:
    """(B, 3, N) -> (B, 4, N): xx, yy, zz, xy."""
    return torch.cat([v * v, v[:, :1] * v[:, 1:2]], 1)


def _quadric_at(quadrics: Tensor, p: Tensor) -> Tensor:
    """q(p) of every quadric: (B, Q, N)."""
    scale = torch.tensor([1, 1, 1, 2, 2, 2, 2], device=p.device, dtype=p.dtype)
    features = torch.cat([_squares(p), p], 1)
    return torch.baddbmm(quadrics[..., 7:], quadrics[..., :7] * scale, features)


def _quadric_along(quadrics: Tensor, p: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of q(p + t d) = a t² + 2 b t + q(p), each (B, Q, N)."""
    scale = torch.tensor([1, 1, 1, 2], device=p.device, dtype=p.dtype)
    a = torch.bmm(quadrics[..., :4] * scale, _squares(d))
    cross = torch.cat([p * d, p[:, :1] * d[:, 1:2] + p[:, 1:2] * d[:, :1], d], 1)
    return a, torch.bmm(quadrics[..., :7], cross)


def hit_distances(world: Packed, p: Tensor, d: Tensor) -> Tensor:
    """Distance to each part along the rays p (B, 3, N or 1) + t d (B, 3, N): (B, P, N), above FAR for a miss."""
    e, f, t = world.counts
    found = []
    if e + f:
        a, b = _quadric_along(world.quadrics, p, d)
        c = _quadric_at(world.quadrics, p)
        disc = torch.addcmul(b * b, a, c, value=-1)
        side = c / (disc.clamp(min=0).sqrt_().sub_(b).add_(1e-12))  # the entering root, for either sign of a
        side += (disc.neg_().clamp_(min=0) + (1e-4 - side).clamp_(min=0)).mul_(_PENALTY)
        if e:
            found.append(side[:, :e])
        if f:
            found.append(_capped(world.frustums, side[:, e:], (a[:, e:], b[:, e:], c[:, e:]), p, d))
    if t:
        found.append(_polytope_distances(world.planes, p, d))
    return torch.cat(found, 1).clamp_(max=1e9)


def _capped(frustums: Tensor, side: Tensor, abc: tuple[Tensor, Tensor, Tensor], p: Tensor, d: Tensor) -> Tensor:
    """Distances to frustums, from those to their endless cones."""
    a, b, c = abc
    dz = d[:, 2:] + 1e-9
    low, high = (frustums[..., 2:3] - p[:, 2:]) / dz, (frustums[..., 3:4] - p[:, 2:]) / dz
    enter, leave = torch.minimum(low, high), torch.maximum(low, high)
    at_cap = (a * enter).add_(b, alpha=2).mul_(enter).add_(c)
    cap = enter + (at_cap.clamp_(min=0) + (1e-4 - enter).clamp_(min=0)).mul_(_PENALTY)
    side = side + ((enter - side).clamp_(min=0) + (side - leave).clamp_(min=0)).mul_(_PENALTY)
    return torch.minimum(cap, side)


def _polytope_distances(planes: Tensor, p: Tensor, d: Tensor) -> Tensor:
    """Distances to polytopes (B, T, N): in through the last plane entered, out through the first left."""
    b, t = planes.shape[:2]
    normals = planes[..., :3].reshape(b, 6 * t, 3)
    toward = torch.bmm(normals, d).add_(1e-9)
    gap = torch.baddbmm(planes[..., 3].reshape(b, 6 * t, 1), normals, p, alpha=-1)
    at = (gap / toward).clamp_(-1e4, 1e4)
    enter = (at - toward.clamp(min=0).mul_(_PENALTY)).unflatten(1, (t, 6)).amax(2)
    leave = at.add_(toward.neg_().clamp_(min=0).mul_(_PENALTY)).unflatten(1, (t, 6)).amin(2)
    return enter + ((enter - leave).clamp_(min=0) + (1e-4 - enter).clamp_(min=0)).mul_(_PENALTY)


def nearest(distances: Tensor) -> tuple[Tensor, Tensor]:
    """(distance, index as float) of the nearest part: (B, N) each, from (B, P, N)."""
    distance = distances.amin(1)
    first = (1 - (distances - distance[:, None]).mul_(1e20)).clamp_(min=0)
    number = torch.arange(distances.shape[1], device=distances.device, dtype=distances.dtype)[:, None]
    return distance, (first * number).amax(1)


def shadows_of(world: Packed, light: Tensor, softness: Tensor) -> Shadows:
    """Find, per polytope, which edges are its outline as seen from `light` (B, 3); `softness` (B,)."""
    planes, inside = world.planes, world.inside
    b, t = planes.shape[:2]
    i, j = torch.triu_indices(6, 6, 1, device=light.device)
    height = (planes[..., :3] * light[:, None, None]).sum(-1) - planes[..., 3]  # of the light over each face
    cut = planes[..., i, :] * height[..., j, None] - planes[..., j, :] * height[..., i, None]
    parallel = (planes[..., i, :3] * planes[..., j, :3]).sum(-1) < -0.999
    real = (height[..., i] > 0) != (height[..., j] > 0)
    length = cut[..., :3].norm(dim=-1)
    real &= ~parallel & (length > 1e-6) & (planes[..., i, 3] < 500) & (planes[..., j, 3] < 500)
    cut = cut / length[..., None].clamp(min=1e-9)
    out = (cut[..., :3] * inside[:, :, None]).sum(-1) - cut[..., 3]
    cut = cut * -out.sign()[..., None]
    free = planes.new_tensor([0.0, 0.0, 0.0, 1e3])

    def chosen(candidates: Tensor, wanted: Tensor, most: int) -> Tensor:
        order = (~wanted).int().argsort(dim=-1, stable=True)[..., :most]
        picked = candidates.gather(2, order[..., None].expand(-1, -1, -1, 4))
        return torch.where(wanted.gather(2, order)[..., None], picked, free)

    lit = height > 0
    used = planes[..., 3] < 500
    return Shadows(light, softness[:, None, None], chosen(cut, real, 6), chosen(planes, lit & used, 3),
                   chosen(planes, ~lit & used, 5))  # fmt: skip


def _plane_heights(planes: Tensor, p: Tensor) -> Tensor:
    """Height of points over planes: (B, T, K, N)."""
    b, t, k = planes.shape[:3]
    flat = planes.reshape(b, t * k, 4)
    return torch.baddbmm(-flat[..., 3:], flat[..., :3], p).unflatten(1, (t, k))


def visibility(world: Packed, shadows: Shadows, p: Tensor, d: Tensor) -> Tensor:
    """Share of the light that reaches p (B, 3, N) along d (B, 3, N), toward the light: (B, N) in [0, 1].

    Each part is convex, so its shadow is found from how far the ray passes by its outline, over the width of
    the penumbra, which grows with the way from the part to the point: sharp where they touch.
    """
    e, f, t = world.counts
    covered = []
    if e:
        a, b = _quadric_along(world.quadrics[:, :e], p, d)
        over = _quadric_at(world.quadrics[:, :e], p).add_(1)
        radius = world.radii[..., None]
        way = b / a
        past = (over.addcmul_(way, b, value=-1).clamp_(min=0).sqrt_().sub_(1)).mul_(radius)
        covered.append(_cover(past + b.clamp(min=0).mul_(1e6), (-way).sub_(radius * 0.8), shadows.softness))
    if f:
        covered.append(_frustum_cover(world.frustums, p, d, shadows.softness))
    if t:
        outline = _plane_heights(shadows.silhouette, p).amax(2)
        front = _plane_heights(shadows.lit, p).amax(2).add_(2e-3).clamp_(min=0).mul_(1e6)
        back = _plane_heights(shadows.unlit, p).amax(2)
        covered.append(_cover(outline + front, back, shadows.softness))
    return (1 - torch.cat(covered, 1)).prod(1)


def _cover(past: Tensor, way: Tensor, softness: Tensor) -> Tensor:
    """Share of the light hidden by an edge passed at signed distance `past` after `way`."""
    width = way.clamp_(min=0).mul_(softness).add_(0.003)
    x = torch.div(past, width, out=past).mul_(-0.5).add_(0.5).clamp_(0, 1)
    return (x * x).mul_(3 - 2 * x)


def _frustum_cover(frustums: Tensor, p: Tensor, d: Tensor, softness: Tensor) -> Tensor:
    """A frustum's discs, slid along the light onto the height of p, stay discs: their hull is its shadow."""
    cx, cy, bottom, top, r, slope = frustums[..., None].unbind(2)
    z = p[:, 2:]
    inverse = 1 / d[:, 2:].clamp(min=1e-3)
    sx, sy = d[:, :1] * inverse, d[:, 1:2] * inverse
    low = torch.maximum(z, bottom)
    reach = (top - low).clamp_(min=0)
    rise = low - z
    qx, qy = torch.addcmul(p[:, :1] - cx, sx, rise), torch.addcmul(p[:, 1:2] - cy, sy, rise)
    shift = (sx * sx + sy * sy).sqrt_()  # how far the shadow slides per unit of height
    ux, uy = sx / (shift + 1e-9), sy / (shift + 1e-9)
    along, aside = (qx * ux).addcmul_(qy, uy).neg_(), (qx * uy).addcmul_(qy, ux, value=-1).abs_()
    k = slope / (shift + 1e-6)
    best = along + aside.add(1e-4) * (k * (1 - k * k).clamp_(min=1e-6).rsqrt())
    length = shift * reach
    best = torch.minimum(best.clamp_(min=0), length)
    radius = torch.addcmul(r - 0.006, slope, low - bottom).addcmul_(k, best)
    past = torch.hypot(best - along, aside).sub_(radius)
    past += (z - top + 2e-3).clamp_(min=0).mul_(1e6) + (1e-3 - d[:, 2:]).clamp_(min=0).mul_(1e6)
    way = torch.addcmul(rise, best, 1 / (shift + 1e-6)).mul_((1 + shift * shift).sqrt())
    return _cover(past, way, softness)


def clearance(world: Packed, p: Tensor) -> Tensor:
    """About how far each p (B, 3, N) is from each part: (B, P, N), negative inside."""
    e, f, t = world.counts
    found = []
    if e:
        over = _quadric_at(world.quadrics[:, :e], p).add_(1).clamp_(min=0).sqrt_()
        found.append(over.sub_(1).mul_(world.radii[..., None]))
    if f:
        cx, cy, bottom, top, r, slope = world.frustums[..., None].unbind(2)
        z = p[:, 2:]
        side = torch.hypot(p[:, :1] - cx, p[:, 1:2] - cy).sub_(r).addcmul_(slope, bottom - z)
        side.mul_((1 + slope * slope).rsqrt())
        found.append(torch.maximum(side, torch.maximum(bottom - z, z - top)))
    if t:
        found.append(_plane_heights(world.planes, p).amax(2))
    return torch.cat(found, 1)
