"""The world: what a scene is, and how one is drawn from a seed.

A scene is a tabletop diorama of one to four things, stated in the camera's frame: x to the right, y away
from the camera, z up, in table units (a large cube is 1 wide). Angles are in degrees. Everything that a
picture shows is in the `Scene`; everything that a caption may say is a word of the tuples below.
"""

import dataclasses
import math
import random
from dataclasses import dataclass

WORLD_VERSION = "v1"

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
KINDS = ("sphere", "cube", "cylinder", "cone", "house", "tree", "snowman", "rocket", "mushroom", "duck")
SIZES = ("small", "large")
FINISHES = ("matte", "shiny")
PATTERNS = ("plain", "striped", "dotted", "checkered")
SURFACES = ("wood", "tiles", "grass", "sand", "cloth")
LIGHTS = ("noon", "sunset", "overcast", "lamp", "moon")  # lamp and moon are the two nights
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

SCALE = {"small": 0.68, "large": 1.0}
# Bounds of each kind at scale 1: radius of the footprint, height, and how deep a thing on top sinks in.
BOUNDS = {
    "sphere": (0.50, 1.00, 0.03), "cube": (0.56, 0.90, 0.0), "cylinder": (0.46, 1.00, 0.0),
    "cone": (0.54, 1.15, 0.10), "house": (0.62, 1.15, 0.06), "tree": (0.52, 1.45, 0.10),
    "snowman": (0.46, 1.45, 0.02), "rocket": (0.48, 1.55, 0.10), "mushroom": (0.56, 1.00, 0.02),
    "duck": (0.58, 0.95, 0.02),
}  # fmt: skip

# One kind a colour (two for red and blue) that no training picture of a generative model shows.
HELD_OUT = frozenset(
    {("red", "mushroom"), ("red", "cylinder"), ("orange", "cube"), ("yellow", "tree"), ("green", "sphere"),
     ("blue", "snowman"), ("blue", "cone"), ("purple", "duck"), ("pink", "rocket"), ("white", "house")}
)  # fmt: skip

# Disjoint ranges of seeds. Training pictures use "train"; w is chosen on "val"; numbers come from "test".
SPLITS = {"train": range(0, 10_000_000), "val": range(10_000_000, 11_000_000), "test": range(11_000_000, 12_000_000)}

FOV = 32.0  # degrees, the full angle of view of a (square) picture


@dataclass(frozen=True)
class Thing:
    """One thing: what a caption can say of it, and where it stands.

    `x`, `y` is the centre of its footprint, `yaw` its turn about the vertical. `on` is the index of the thing
    it stands on, or None for the table. `letter` is "" or the letter on a cube's four sides.
    """

    kind: str
    color: str
    size: str = "large"
    finish: str = "matte"
    pattern: str = "plain"
    letter: str = ""
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    on: int | None = None

    def __post_init__(self):
        words = {"kind": KINDS, "color": COLORS, "size": SIZES, "finish": FINISHES, "pattern": PATTERNS}
        for name, known in words.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is not in this world; choose from {', '.join(known)}")

    @property
    def radius(self) -> float:
        """Radius of the footprint, in table units."""
        return BOUNDS[self.kind][0] * SCALE[self.size]

    @property
    def height(self) -> float:
        """Height above its base, in table units."""
        return BOUNDS[self.kind][1] * SCALE[self.size]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at azimuth 0: it looks along +y, tilted down by `elevation` degrees, at `target`."""

    elevation: float
    distance: float
    target: tuple[float, float, float]

    @property
    def position(self) -> tuple[float, float, float]:
        """Where the camera stands, in table units."""
        e = math.radians(self.elevation)
        x, y, z = self.target
        return (x, y - self.distance * math.cos(e), z + self.distance * math.sin(e))

    def project(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """(u, v, depth) of a point: u right and v down, both in [-1, 1] inside the picture."""
        e = math.radians(self.elevation)
        px, py, pz = self.position
        dx, dy, dz = x - px, y - py, z - pz
        depth = dy * math.cos(e) - dz * math.sin(e)
        up = dy * math.sin(e) + dz * math.cos(e)
        scale = 1.0 / (math.tan(math.radians(FOV / 2)) * max(depth, 1e-6))
        return dx * scale, -up * scale, depth


@dataclass(frozen=True)
class Scene:
    """All that a picture shows. `sun` is (azimuth, elevation) of the main light in degrees; azimuth 0 is behind
    the camera, 90 to the right. `seed` also fixes the textures."""

    things: tuple[Thing, ...]
    surface: str
    light: str
    camera: Camera
    sun: tuple[float, float]
    seed: int

    def __post_init__(self):
        if self.surface not in SURFACES or self.light not in LIGHTS:
            raise ValueError(
                f"surface {self.surface!r} or light {self.light!r} is not in this world; "
                f"choose from {', '.join(SURFACES)} and {', '.join(LIGHTS)}"
            )

    def base_height(self, index: int) -> float:
        """Height at which thing `index` stands: 0 on the table, else the top of what it stands on."""
        below = self.things[index].on
        if below is None:
            return 0.0
        carrier = self.things[below]
        return self.base_height(below) + carrier.height - BOUNDS[carrier.kind][2] * SCALE[carrier.size]

    def mirrored(self) -> "Scene | None":
        """The scene flipped left to right, but for its textures; None where letters would read backwards."""
        if any(t.letter for t in self.things):
            return None
        things = tuple(dataclasses.replace(t, x=-t.x, yaw=-t.yaw) for t in self.things)
        tx, ty, tz = self.camera.target
        camera = dataclasses.replace(self.camera, target=(-tx, ty, tz))
        return dataclasses.replace(self, things=things, camera=camera, sun=(-self.sun[0], self.sun[1]))


def sample_scene(seed: int, *, combinations: str = "training", count: int | None = None) -> Scene:
    """A random scene, the same for the same arguments.

    Args:
        seed: any integer; `SPLITS` says which seeds are for what.
        combinations: which colour × kind pairs may occur: "training" (none held out), "held-out" (the first
            thing is one of them, the others are not), or "all".
        count: how many things, 1 to 4; None draws it.

    Raises:
        ValueError: unknown `combinations`, or `count` outside 1 to 4.
    """
    if combinations not in ("training", "held-out", "all"):
        raise ValueError(f"combinations must be 'training', 'held-out' or 'all', not {combinations!r}")
    if count is not None and count not in (1, 2, 3, 4):
        raise ValueError(f"count must be 1, 2, 3 or 4, not {count!r}")
    rng = random.Random(seed)
    n = rng.choices((1, 2, 3, 4), (34, 36, 20, 10))[0]
    things = _sample_things(rng, count or n, combinations)
    placed = _place(rng, things)
    light = rng.choices(LIGHTS, (30, 22, 20, 14, 14))[0]
    elevation = {"noon": (50, 68), "sunset": (14, 24), "overcast": (60, 80), "lamp": (38, 55), "moon": (35, 55)}[light]
    azimuth = rng.choice((-1, 1)) * rng.uniform(20, 115)
    return Scene(placed, rng.choice(SURFACES), light, _frame(rng, placed), (azimuth, rng.uniform(*elevation)), seed)


def _sample_things(rng: random.Random, n: int, combinations: str) -> list[Thing]:
    """What the things are; where they stand comes later."""
    things: list[Thing] = []
    for i in range(n):
        twin = i > 0 and rng.random() < 0.16
        if twin:  # counts need things that share a kind, or a kind and a colour
            previous = things[-1]
            color = previous.color if rng.random() < 0.5 else rng.choice(COLORS)
            pair = (color, previous.kind)
        else:
            pair = (rng.choice(COLORS), rng.choice(KINDS))
        if combinations == "held-out" and i == 0:
            pair = rng.choice(sorted(HELD_OUT))
        elif combinations != "all":
            while pair in HELD_OUT:
                pair = (rng.choice(COLORS), rng.choice(KINDS))
        color, kind = pair
        pattern = rng.choices(PATTERNS, (55, 15, 15, 15))[0]
        letter = rng.choice(LETTERS) if kind == "cube" and pattern == "plain" and rng.random() < 0.5 else ""
        size = rng.choices(SIZES, (40, 60))[0]
        things.append(Thing(kind, color, size, rng.choice(FINISHES), pattern, letter))
    return things


def _place(rng: random.Random, things: list[Thing]) -> tuple[Thing, ...]:
    """Stand the things on the table or on one another, apart enough to be seen and to be told left from right."""
    stack = len(things) > 1 and rng.random() < 0.28
    carrier = rng.randrange(len(things) - 1) if stack else None
    for attempt in range(600):
        spread = 0.30 + 0.16 * len(things) + 0.006 * attempt
        placed: list[Thing] = []
        for i, thing in enumerate(things):
            yaw = rng.uniform(-180, 180) if thing.kind not in ("house", "duck", "snowman") else rng.uniform(-50, 50)
            if thing.kind == "cube":
                yaw = rng.uniform(-40, 40)
            x, y, on = rng.uniform(-spread, spread), rng.uniform(-spread, spread) * 0.8, None
            if carrier is not None and i == len(things) - 1:
                x, y, on = placed[carrier].x, placed[carrier].y, carrier
            placed.append(dataclasses.replace(thing, x=round(x, 4), y=round(y, 4), yaw=round(yaw, 2), on=on))
        if _stands_clear(placed):
            return tuple(placed)
    raise RuntimeError(f"no room found for {len(things)} things; this is a bug in the world")


def _stands_clear(things: list[Thing]) -> bool:
    """No two things on the table touch, and none hides behind another (they differ clearly in x or y)."""
    ground = [t for t in things if t.on is None]
    for i, a in enumerate(ground):
        for b in ground[:i]:
            dx, dy = abs(a.x - b.x), abs(a.y - b.y)
            if math.hypot(dx, dy) < a.radius + b.radius + 0.08:
                return False
            nearer, farther = (a, b) if a.y < b.y else (b, a)
            if dx < 0.75 * (a.radius + b.radius) and nearer.height > 0.45 * farther.height + 0.3 * dy:
                return False
    return True


def _frame(rng: random.Random, things: tuple[Thing, ...]) -> Camera:
    """A camera that holds the group. It is fitted to a lone thing as if it were large, so that a small one looks so."""
    elevation = rng.uniform(14, 40)
    fill = rng.uniform(0.66, 0.84) if len(things) == 1 else rng.uniform(0.90, 1.0)
    corners = list(_corners(things))
    lo = [min(c[k] for c in corners) for k in range(3)]
    hi = [max(c[k] for c in corners) for k in range(3)]
    target = [(a + b) / 2 for a, b in zip(lo, hi, strict=True)]
    distance = 5.0
    for _ in range(8):  # centre the group in the picture, then step back until it fits
        camera = Camera(elevation, distance, (target[0], target[1], target[2]))
        uv = [camera.project(*c)[:2] for c in corners]
        (u0, u1), (v0, v1) = ((min(c[k] for c in uv), max(c[k] for c in uv)) for k in (0, 1))
        unit = distance * math.tan(math.radians(FOV / 2))
        target[0] += unit * (u0 + u1) / 2
        target[2] -= unit * (v0 + v1) / 2 * math.cos(math.radians(elevation))
        target[1] -= unit * (v0 + v1) / 2 * math.sin(math.radians(elevation))
        distance *= max(u1 - u0, v1 - v0) / 2 / fill
    slack = 1 - fill
    target[0] += unit * rng.uniform(-slack, slack) * 0.6
    target[2] += unit * rng.uniform(-slack, slack) * 0.6
    x, y, z = (round(v, 4) for v in target)
    return Camera(round(elevation, 3), round(distance, 4), (x, y, z))


def _corners(things: tuple[Thing, ...]):
    """Corner points of the boxes around the things; a thing alone is taken at its large size."""
    tops: dict[int, float] = {}
    for i, t in enumerate(things):
        radius, height, _ = BOUNDS[t.kind]
        r, h = (radius, height) if len(things) == 1 else (t.radius, t.height)
        base = tops[t.on] if t.on is not None else 0.0
        tops[i] = base + h
        for sx in (-1, 1):
            for sy in (-1, 1):
                for z in (base, base + h):
                    yield (t.x + sx * r * 0.9, t.y + sy * r * 0.9, z)
