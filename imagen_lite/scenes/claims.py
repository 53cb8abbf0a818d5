"""What a caption claims, and whether it is true of a set of things: the same logic for scenes and for pictures.

Everything is judged on `Placed` things, which come from a scene (`placed`) or from a detector.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagen_lite.scenes.world import FOV, Scene

RELATIONS = ("left", "right", "front", "behind", "on", "beside")
ATTRIBUTES = ("color", "kind", "size", "finish", "pattern", "letter")


@dataclass(frozen=True)
class ThingSpec:
    """`count` things of which a caption says this much; None is what it leaves open."""

    kind: str | None = None
    color: str | None = None
    size: str | None = None
    finish: str | None = None
    pattern: str | None = None
    letter: str | None = None
    count: int = 1

    def __str__(self) -> str:
        said = [v for v in (self.size, self.finish, self.pattern, self.color, self.kind or "thing") if v]
        letter = f" with the letter {self.letter}" if self.letter else ""
        return (f"{self.count} × " if self.count > 1 else "") + " ".join(said) + letter


@dataclass(frozen=True)
class Relation:
    """`things[subject]` stands in `relation` (one of `RELATIONS`) to `things[object]`."""

    subject: int
    relation: str
    object: int


@dataclass(frozen=True)
class Constraints:
    """All that a caption claims. `light` is one of `LIGHTS`, or "night" for either of the two nights."""

    things: tuple[ThingSpec, ...] = ()
    relations: tuple[Relation, ...] = ()
    surface: str | None = None
    light: str | None = None
    absent: tuple[ThingSpec, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placed:
    """A thing as a picture shows it. `x` is its centre in picture widths from the left edge; `depth` its distance
    along the ground away from the camera, in the same unit; `on` the index of the thing that carries it."""

    kind: str
    color: str
    size: str = "large"
    finish: str = "matte"
    pattern: str = "plain"
    letter: str = ""
    x: float = 0.5
    depth: float = 0.0
    on: int | None = None


def placed(scene: Scene) -> list[Placed]:
    """The scene's things as its picture shows them, in the scene's order."""
    width = 2 * scene.camera.distance * math.tan(math.radians(FOV / 2))  # of the picture, in table units
    result = []
    for i, t in enumerate(scene.things):
        u = scene.camera.project(t.x, t.y, scene.base_height(i) + t.height / 2)[0]
        depth = (t.y - scene.camera.position[1]) / width
        looks = (t.kind, t.color, t.size, t.finish, t.pattern, t.letter)
        result.append(Placed(*looks, x=(u + 1) / 2, depth=depth, on=t.on))
    return result


def holds(things: Sequence[Placed], i: int, relation: str, j: int, *, clear: bool = False) -> bool:
    """Whether thing i stands in `relation` to thing j, as the camera sees it.

    left, right: the centres differ on the screen by 0.05 picture widths. front, behind: the same for depth.
    beside: both on the table (or neither), at most 0.75 widths apart. on: j carries i.
    `clear` is what a caption needs, so that nobody would dispute it: differences of 0.12 that are also the main
    direction (left, right: at least 0.8 of the difference in depth; front, behind: 1.2 of that in x); beside: at
    most 0.55 apart and side by side.

    Raises:
        ValueError: a relation that is not in `RELATIONS`.
    """
    if relation not in RELATIONS:
        raise ValueError(f"relation must be one of {', '.join(RELATIONS)}, not {relation!r}")
    a, b = things[i], things[j]
    if relation == "on":
        return a.on == j
    if a.on == j or b.on == i:
        return False
    dx, dy = b.x - a.x, b.depth - a.depth
    if relation == "beside":
        near = math.hypot(dx, dy) <= (0.55 if clear else 0.75) and (a.on is None) == (b.on is None)
        return near and (not clear or abs(dx) >= abs(dy))
    along, across, share = (dx, dy, 0.8) if relation in ("left", "right") else (dy, dx, 1.2)
    along = -along if relation in ("right", "behind") else along
    return along >= 0.12 and along >= share * abs(across) if clear else along >= 0.05


def relation_holds(scene: Scene, i: int, relation: str, j: int) -> bool:
    """Whether a caption may say so: `holds` with the clear margins, between things of a scene."""
    return holds(placed(scene), i, relation, j, clear=True)


def fits(spec: ThingSpec, thing: Placed | ThingSpec, attributes: Sequence[str] = ATTRIBUTES) -> bool:
    """Whether the thing is what the spec says, as far as the listed attributes go."""
    return all(getattr(spec, a) in (None, getattr(thing, a)) for a in attributes)


def violations(
    constraints: Constraints, things: Sequence[Placed], *, attributes: Sequence[str] = ATTRIBUTES, exact: bool = False
) -> list[str]:
    """Why the claims about things are not true of these things; empty where they are.

    Each thing answers for one spec at most. "two cubes" is false where a third stands by unmentioned.

    Args:
        constraints: what is claimed; surface and light are not looked at.
        things: what there is.
        attributes: which attributes count, e.g. ("kind", "color").
        exact: also object to things that the caption does not mention.
    """
    slots = [k for k, spec in enumerate(constraints.things) for _ in range(spec.count)]
    best: list[str] | None = None
    for owners in _assignments(constraints.things, slots, things, attributes):
        reasons = _objections(constraints, slots, owners, things, attributes, exact)
        if best is None or len(reasons) < len(best):
            best = reasons
        if not best:
            break
    if best is None:
        best = _missing(constraints.things, slots, things, attributes)
    for spec in constraints.absent:
        if any(fits(spec, t, attributes) for t in things):
            best = [*best, f"there is a {spec}"]
    return best


def satisfied(constraints: Constraints, scene: Scene, *, exact: bool = False) -> list[str]:
    """Why the claims are not true of the scene, surface and light included; empty where they are."""
    reasons = violations(constraints, placed(scene), exact=exact)
    if constraints.surface not in (None, scene.surface):
        reasons.append(f"the surface is {scene.surface}, not {constraints.surface}")
    lights = ("lamp", "moon") if constraints.light == "night" else (constraints.light,)
    if constraints.light is not None and scene.light not in lights:
        reasons.append(f"the light is {scene.light}, not {constraints.light}")
    return reasons


def _assignments(
    specs: Sequence[ThingSpec], slots: list[int], things: Sequence[Placed], attributes: Sequence[str]
) -> Iterator[tuple[int, ...]]:
    """Every way to give each slot a thing of its own that fits. Things of one spec come in rising order."""
    fitting = [[t for t, thing in enumerate(things) if fits(spec, thing, attributes)] for spec in specs]

    def extend(owners: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        k = len(owners)
        if k == len(slots):
            yield owners
            return
        floor = owners[-1] if k and slots[k] == slots[k - 1] else -1
        for t in fitting[slots[k]]:
            if t > floor and t not in owners:
                yield from extend((*owners, t))

    return extend(())


def _objections(
    constraints: Constraints,
    slots: list[int],
    owners: tuple[int, ...],
    things: Sequence[Placed],
    attributes: Sequence[str],
    exact: bool,
) -> list[str]:
    """What is wrong although every spec has its things: relations, counts, and with `exact` the extras."""
    specs, reasons = constraints.things, []
    owned = [[t for s, t in zip(slots, owners, strict=True) if s == k] for k in range(len(specs))]
    for r in constraints.relations:
        pairs = [(i, j) for i in owned[r.subject] for j in owned[r.object]]
        if not all(holds(things, i, r.relation, j) for i, j in pairs):
            reasons.append(f"{specs[r.subject]} is not {r.relation} {specs[r.object]}")
    for t in sorted(set(range(len(things))) - set(owners)):
        counted = next((s for s in specs if s.count > 1 and fits(s, things[t], attributes)), None)
        if counted or exact:
            reasons.append(f"more than {counted}" if counted else f"unmentioned {things[t].color} {things[t].kind}")
    return reasons


def _missing(
    specs: Sequence[ThingSpec], slots: list[int], things: Sequence[Placed], attributes: Sequence[str]
) -> list[str]:
    """The specs without a thing of their own, taking as many as can be served together."""
    owner: dict[int, int] = {}  # thing -> slot

    def serve(slot: int, seen: set[int]) -> bool:
        for t, thing in enumerate(things):
            if t not in seen and fits(specs[slots[slot]], thing, attributes):
                seen.add(t)
                if t not in owner or serve(owner[t], seen):
                    owner[t] = slot
                    return True
        return False

    lacking = [slots[slot] for slot in range(len(slots)) if not serve(slot, set())]
    return [f"no {dataclasses.replace(specs[k], count=lacking.count(k))}" for k in sorted(set(lacking))]
