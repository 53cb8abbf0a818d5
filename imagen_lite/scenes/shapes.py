"""What each kind is made of: ellipsoids, upright frustums and convex polytopes, at scale 1, standing on z = 0.

The front of a thing (door, beak, nose) faces the camera, toward -y, at yaw 0.
`paint` says what covers a part: "body" is the thing's own colour, finish and pattern; the others are fixed.
"""

import math
from dataclasses import dataclass

PAINTS = ("body", "shade", "bark", "dark", "cream", "carrot", "steel")  # shade: the thing's colour, darker


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and radii along x, y, z."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    paint: str = "body"


@dataclass(frozen=True)
class Frustum:
    """An upright capped cone: base centre, height, radius at the bottom and at the top (0: a point)."""

    base: tuple[float, float, float]
    height: float
    bottom: float
    top: float
    paint: str = "body"


@dataclass(frozen=True)
class Polytope:
    """The convex body of all p with n·p <= d for each plane (nx, ny, nz, d), n of length 1; at most six."""

    planes: tuple[tuple[float, float, float, float], ...]
    paint: str = "body"


Part = Ellipsoid | Frustum | Polytope


def box(center: tuple[float, float, float], half: tuple[float, float, float], paint="body", turn=0.0) -> Polytope:
    """A box with half sizes `half`, turned about the vertical through the origin by `turn` degrees."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    axes = ((c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0))
    middle = (c * center[0] - s * center[1], s * center[0] + c * center[1], center[2])
    planes = []
    for axis, h in zip(axes, half, strict=True):
        along = sum(a * m for a, m in zip(axis, middle, strict=True))
        planes += [(*axis, along + h), (*(-a for a in axis), h - along)]
    return Polytope(tuple(planes), paint)


def gable(center: tuple[float, float, float], half_width: float, half_depth: float, height: float, paint) -> Polytope:
    """A roof: a triangular prism with its ridge along x, standing on `center`."""
    n = math.hypot(height, half_depth)
    a, b = height / n, half_depth / n
    x, y, z = center
    peak = b * (z + height)
    slopes = ((0, -a, b, peak - a * y), (0, a, b, peak + a * y))
    return Polytope((*slopes, (0, 0, -1, -z), (1, 0, 0, x + half_width), (-1, 0, 0, half_width - x)), paint)


def fin(turn: float, paint) -> Polytope:
    """A rocket's fin, swept back from its hull to its foot, at `turn` degrees about the vertical."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    a, b = 0.81, 0.58642  # the slanted edge's normal, outward and up
    sides = ((0, 1, 0, 0.035), (0, -1, 0, 0.035), (-1, 0, 0, -0.16), (1, 0, 0, 0.48))
    ends = ((0, 0, -1, 0), (a, 0, b, a * 0.48 + b * 0.16))
    return Polytope(tuple((c * x - s * y, s * x + c * y, z, d) for x, y, z, d in (*sides, *ends)), paint)


def ball(x: float, y: float, z: float, radius: float, paint="body") -> Ellipsoid:
    """A sphere."""
    return Ellipsoid((x, y, z), (radius, radius, radius), paint)


KIND_PARTS: dict[str, tuple[Part, ...]] = {
    "sphere": (ball(0, 0, 0.5, 0.5),),
    "cube": (box((0, 0, 0.45), (0.45, 0.45, 0.45)),),
    "cylinder": (Frustum((0, 0, 0), 1.0, 0.44, 0.44),),
    "cone": (Frustum((0, 0, 0), 1.15, 0.54, 0.0),),
    "house": (
        box((0, 0, 0.37), (0.50, 0.38, 0.37)),
        gable((0, 0, 0.72), 0.56, 0.47, 0.39, "shade"),
        box((0, 0.10, 1.02), (0.07, 0.07, 0.13), "carrot"),
        box((0, -0.385, 0.23), (0.105, 0.02, 0.23), "dark"),
        box((-0.29, -0.385, 0.42), (0.10, 0.02, 0.11), "cream"),
        box((0.29, -0.385, 0.42), (0.10, 0.02, 0.11), "cream"),
    ),
    "tree": (
        Frustum((0, 0, 0), 0.34, 0.12, 0.09, "bark"),
        Frustum((0, 0, 0.26), 0.56, 0.52, 0.14),
        Frustum((0, 0, 0.60), 0.50, 0.42, 0.10),
        Frustum((0, 0, 0.92), 0.53, 0.31, 0.0),
    ),
    "snowman": (
        ball(0, 0, 0.40, 0.44),
        ball(0, 0, 0.93, 0.28),
        Frustum((0, 0, 1.13), 0.04, 0.28, 0.28, "dark"),
        Frustum((0, 0, 1.15), 0.28, 0.18, 0.17, "dark"),
        Ellipsoid((0, -0.31, 0.93), (0.045, 0.14, 0.045), "carrot"),
        ball(-0.10, -0.25, 1.02, 0.035, "dark"),
        ball(0.10, -0.25, 1.02, 0.035, "dark"),
    ),
    "rocket": (
        Frustum((0, 0, 0.14), 0.24, 0.22, 0.32),
        Frustum((0, 0, 0.38), 0.64, 0.32, 0.28),
        Frustum((0, 0, 1.02), 0.53, 0.28, 0.0, "steel"),
        Ellipsoid((0, -0.27, 0.80), (0.11, 0.06, 0.11), "dark"),
        fin(-90.0, "shade"),
        fin(30.0, "shade"),
        fin(150.0, "shade"),
    ),
    "mushroom": (
        Frustum((0, 0, 0), 0.62, 0.20, 0.15, "cream"),
        Ellipsoid((0, 0, 0.64), (0.55, 0.55, 0.36)),
    ),
    "duck": (
        Ellipsoid((0, 0.04, 0.30), (0.40, 0.50, 0.30)),
        ball(0, -0.24, 0.70, 0.25),
        Ellipsoid((0, -0.50, 0.67), (0.11, 0.13, 0.05), "carrot"),
        Ellipsoid((0, 0.46, 0.42), (0.16, 0.20, 0.14)),
        ball(-0.11, -0.44, 0.78, 0.04, "dark"),
        ball(0.11, -0.44, 0.78, 0.04, "dark"),
    ),
}  # fmt: skip
