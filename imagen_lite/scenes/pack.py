"""Scenes as padded tensors: parts grouped by type, each stated in the frame of the table.

Three types of convex part: ellipsoids and upright frustums are quadrics q(p) <= 0 (a frustum cut by two
horizontal planes as well), polytopes are n·p <= d for six planes. Padding parts are ones that no ray meets.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from imagen_lite.scenes import paints
from imagen_lite.scenes.shapes import KIND_PARTS, Ellipsoid, Frustum, Part
from imagen_lite.scenes.world import LETTERS, SCALE, Scene, Thing

# One row per part, for shading the rays that hit it: name -> (first column, columns).
COLUMNS: dict[str, tuple[int, int]] = {}
_WIDTHS = {
    "gradient": 7, "slab": 2, "taper": 2, "planes": 24, "frame": 6, "center": 3, "radius": 1, "round": 1, "facets": 1,
    "albedo": 3, "second": 3, "pattern": 1, "shiny": 1, "letter": 1, "ink": 3, "thing": 1,
}  # fmt: skip
for _name, _width in _WIDTHS.items():
    COLUMNS[_name] = (sum(w for _, w in COLUMNS.values()), _width)
ROW = sum(_WIDTHS.values())

_NO_QUADRIC = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1e6]  # Axx Ayy Azz Axy hx hy hz c, positive everywhere
_NO_POLYTOPE = [0.0, 0.0, 1.0, -1e3, 0.0, 0.0, -1.0, -1e3] + [0.0, 0.0, 0.0, 1e3] * 4
_FREE_PLANE = [0.0, 0.0, 0.0, 1e3]


@dataclass(frozen=True)
class Packed:
    """The parts of B scenes: E ellipsoids, F frustums, T polytopes each, P = E + F + T in that order.

    `quadrics` (B, E+F, 8) are Axx Ayy Azz Axy hx hy hz c of q(p) = p·Ap + 2h·p + c; `radii` (B, E) the mean radii;
    `frustums` (B, F, 6) axis x and y, bottom and top height, bottom radius, slope dr/dz; `planes` (B, T, 6, 4)
    n and d; `inside` (B, T, 3) a point in each polytope; `rows` (B, P, ROW) what shading wants to know.
    """

    quadrics: Tensor
    radii: Tensor
    frustums: Tensor
    planes: Tensor
    inside: Tensor
    rows: Tensor

    @cached_property
    def albedo(self) -> Tensor:
        """(B * P, 3) first tones of the parts."""
        first, width = COLUMNS["albedo"]
        return self.rows[..., first : first + width].reshape(-1, width).contiguous()

    @property
    def counts(self) -> tuple[int, int, int]:
        """(E, F, T)."""
        return self.radii.shape[1], self.frustums.shape[1], self.planes.shape[1]


def part_count(scene: Scene) -> int:
    """How many parts a scene has."""
    return sum(len(KIND_PARTS[t.kind]) for t in scene.things)


def pack(scenes: list[Scene], device: torch.device) -> Packed:
    """The parts of all scenes as padded tensors on `device`."""
    groups: list[tuple[list, list, list]] = [_scene_parts(s) for s in scenes]
    most = [max(len(g[k]) for g in groups) for k in range(3)]
    blank = ([_NO_QUADRIC, [1.0], [0.0] * ROW], [_NO_QUADRIC, [9e3, 9e3, 9e3, 9e3, 0.1, 0.0], [0.0] * ROW],
             [_NO_POLYTOPE, [0.0] * 3, [0.0] * ROW])  # fmt: skip
    full = [[list(g[k]) + [blank[k]] * (most[k] - len(g[k])) for g in groups] for k in range(3)]

    def column(kind: int, which: int, width: int) -> Tensor:
        rows = [[part[which] for part in scene] for scene in full[kind]]
        return torch.tensor(rows, dtype=torch.float32).reshape(len(scenes), most[kind], width)

    rows = torch.cat([column(k, 2, ROW) for k in range(3)], 1)
    quadrics = torch.cat([column(0, 0, 8), column(1, 0, 8)], 1)
    planes = column(2, 0, 24).unflatten(2, (6, 4))
    parts = (quadrics, column(0, 1, 1)[..., 0], column(1, 1, 6), planes, column(2, 1, 3), rows)
    return Packed(*(p.to(device) for p in parts))


def _scene_parts(scene: Scene) -> tuple[list, list, list]:
    """Ellipsoids, frustums and polytopes of one scene, each as [shape numbers, extra numbers, row]."""
    out: tuple[list, list, list] = ([], [], [])
    for index, thing in enumerate(scene.things):
        base = scene.base_height(index)
        c, s = math.cos(math.radians(thing.yaw)), math.sin(math.radians(thing.yaw))
        frame = (thing.x, thing.y, base, c, s, SCALE[thing.size])
        covers = {}
        for part in KIND_PARTS[thing.kind]:
            if part.paint not in covers:
                covers[part.paint] = _paint_numbers(thing, part.paint) + [float(index)]
            group, shape, extra, geometry = _place_part(part, frame)
            out[group].append([shape, extra, geometry + covers[part.paint]])
    return out


def _place_part(part: Part, frame: tuple[float, ...]) -> tuple[int, list[float], list[float], list[float]]:
    """(type, shape numbers, extra numbers, the geometric half of the row) of a part set into the table's frame."""
    x0, y0, z0, c, s, k = frame
    local = [x0, y0, z0, c, s, 1 / k]
    if isinstance(part, Ellipsoid):
        px, py, pz = part.center
        at = (x0 + k * (c * px - s * py), y0 + k * (s * px + c * py), z0 + k * pz)
        ax, ay, az = (1 / (k * r) ** 2 for r in part.radii)
        a = (c * c * ax + s * s * ay, s * s * ax + c * c * ay, az, c * s * (ax - ay))
        h = (-(a[0] * at[0] + a[3] * at[1]), -(a[1] * at[1] + a[3] * at[0]), -az * at[2])
        quadric = [*a, *h, -(h[0] * at[0] + h[1] * at[1] + h[2] * at[2]) - 1]
        mean = k * sum(part.radii) / 3
        return (
            0,
            quadric,
            [mean],
            quadric[:7] + [-1e3, 1e3, -1e3, 0.0] + _FREE_PLANE * 6 + local + [*at, mean, 1.0, 0.0],
        )
    if isinstance(part, Frustum):
        px, py, pz = part.base
        cx, cy, bottom = x0 + k * (c * px - s * py), y0 + k * (s * px + c * py), z0 + k * pz
        slope, r, top = (part.top - part.bottom) / part.height, k * part.bottom, bottom + k * part.height
        at_zero = r - slope * bottom  # the radius that the side would have at z = 0
        quadric = [1.0, 1.0, -slope * slope, 0.0, -cx, -cy, -slope * at_zero, cx * cx + cy * cy - at_zero**2]
        row = quadric[:7] + [bottom, top, at_zero, slope] + _FREE_PLANE * 6 + local
        row += [cx, cy, (bottom + top) / 2, k * (part.bottom + part.top) / 2, 2.0, 0.0]
        return 1, quadric, [cx, cy, bottom, top, r, slope], row
    planes: list[float] = []
    for nx, ny, nz, d in part.planes:
        n = (c * nx - s * ny, s * nx + c * ny, nz)
        planes += [*n, k * d + n[0] * x0 + n[1] * y0 + n[2] * z0]
    planes += _FREE_PLANE * (6 - len(part.planes))
    mx, my, mz = _middle(part.planes)
    at = (x0 + k * (c * mx - s * my), y0 + k * (s * mx + c * my), z0 + k * mz)
    return 2, planes, [*at], [0.0] * 7 + [-1e3, 1e3, -1e3, 0.0] + planes + local + [*at, 0.45 * k, 0.0, 1.0]


@cache
def _middle(planes: tuple[tuple[float, float, float, float], ...]) -> tuple[float, float, float]:
    """A point inside: the mean of the polytope's corners."""
    normals = torch.tensor([p[:3] for p in planes], dtype=torch.float64)
    offsets = torch.tensor([p[3] for p in planes], dtype=torch.float64)
    corners = []
    for trio in torch.combinations(torch.arange(len(planes)), 3):
        if normals[trio].det().abs() > 1e-6:
            corner = torch.linalg.solve(normals[trio], offsets[trio])
            if (normals @ corner <= offsets + 1e-6).all():
                corners.append(corner)
    x, y, z = torch.stack(corners).mean(0).tolist()
    return x, y, z


def _paint_numbers(thing: Thing, paint: str) -> list[float]:
    """The painted half of a row: albedo, second tone, pattern, shiny, letter, the letter's ink."""
    first, second = paints.paint_tones(thing.color, paint)
    pattern = float(paints.PATTERN_CODES[thing.pattern]) if paint == "body" else 0.0
    letter = float(LETTERS.index(thing.letter)) if thing.letter and paint == "body" else -1.0
    shiny = 1.0 if thing.finish == "shiny" else 0.0
    return [*first, *second, pattern, shiny, letter, *paints.ink(thing.color)]
