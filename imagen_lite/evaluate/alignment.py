"""Does a picture show what its caption says? The caption is parsed, the picture is read, the two are compared.

Aligned means: presence, count, colour, kind and relation as the caption states them, and no thing that it does not
mention. Size, finish, pattern, surface and light are reported beside it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from imagen_lite.scenes.claims import Constraints, Placed, ThingSpec, fits, holds, violations
from imagen_lite.scenes.parse import parse
from imagen_lite.scenes.reader import Reader, read, read_setting
from imagen_lite.scenes.words import RELATION_PHRASES, article

JUDGED = ("kind", "color")  # what decides, with count and relation
BESIDE = ("size", "finish", "pattern")  # what is reported
ASPECTS = ("count", *JUDGED, "relation", *BESIDE, "surface", "light")


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows what its caption says.

    `reasons`: one a claim, in words ("red cone ✓", "blue house ✗ drawn green", "extra yellow duck ✗").
    `aspects`: `ASPECTS` -> right, wrong, or None where the caption says nothing of it (or too little was drawn right to
    tell).
    """

    aligned: bool
    reasons: tuple[str, ...]
    aspects: Mapping[str, bool | None]

    def __str__(self) -> str:
        return f"{'aligned' if self.aligned else 'not aligned'}: {', '.join(self.reasons)}"


def alignment(images: Tensor, captions: Sequence[str], reader: Reader | None = None) -> list[Verdict]:
    """A verdict on each picture.

    Args:
        images: (B, 3, H, W) in [-1, 1], sides of 64 or more.
        captions: what each should show; a caption counts as complete, so what it leaves out should not be there.
        reader: None takes the shipped one.

    Raises:
        ValueError: not one caption a picture. WeightsError: no reader.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images but {len(captions)} captions; give one caption for each image")
    if not len(images):
        return []
    rows = zip(captions, read(images, reader), read_setting(images, reader), strict=True)
    return [judge(parse(caption), seen, setting) for caption, seen, setting in rows]


def judge(claims: Constraints, seen: Sequence[Placed], setting: tuple[str, str] | None = None) -> Verdict:
    """The verdict on a picture in which these things, and (surface, light), were seen."""
    if not claims.things and not claims.absent:
        reason = "the caption names no thing of this world"
        return Verdict(False, (reason,), dict.fromkeys(ASPECTS))
    wrong = violations(claims, seen, attributes=JUDGED, exact=True)
    reasons = _reasons(claims, seen, right=not wrong)
    if wrong and not any("✗" in reason for reason in reasons):  # twins, told apart by a relation alone
        reasons += [f"{reason} ✗" for reason in wrong]
    return Verdict(not wrong, tuple(reasons), _aspects(claims, seen, setting))


def _reasons(claims: Constraints, seen: Sequence[Placed], *, right: bool) -> list[str]:
    """What became of each claim, in words. `right`: it is known that all of them hold."""
    slots = [k for k, spec in enumerate(claims.things) for _ in range(spec.count)]
    specs = [claims.things[k] for k in slots]
    owners = _owners(tuple(specs), tuple(seen))
    reasons = [_said(spec, None if owner is None else seen[owner]) for spec, owner in zip(specs, owners, strict=True)]
    owned = {k: [o for s, o in zip(slots, owners, strict=True) if s == k] for k in slots}
    for r in claims.relations:
        pairs = [(i, j) for i in owned[r.subject] for j in owned[r.object]]
        if any(i is None or j is None for i, j in pairs):
            continue
        true = right or all(holds(seen, i, r.relation, j) for i, j in pairs if i is not None and j is not None)
        how = RELATION_PHRASES[r.relation][0]
        names = _name(claims.things[r.subject]), _name(claims.things[r.object])
        reasons.append(f"{names[0]} {how} {names[1]} {'✓' if true else '✗'}")
    reasons += [f"extra {_name(thing)} ✗" for i, thing in enumerate(seen) if i not in owners]
    for spec in claims.absent:
        there = any(fits(spec, thing, JUDGED) for thing in seen)
        reasons.append(f"no {_name(spec)} {'✗' if there else '✓'}")
    return reasons


def _name(thing: ThingSpec | Placed) -> str:
    """ "red cone"; "red thing" and "cone" where one is left open."""
    return " ".join(word for word in (thing.color, thing.kind or "thing") if word)


def _said(spec: ThingSpec, thing: Placed | None) -> str:
    """What became of one thing that the caption asks for."""
    if thing is None:
        return f"{_name(spec)} ✗ missing"
    if fits(spec, thing, JUDGED):
        return f"{_name(spec)} ✓"
    return f"{_name(spec)} ✗ drawn {thing.color if fits(spec, thing, ('kind',)) else 'as ' + article(_name(thing))}"


def _owners(specs: tuple[ThingSpec, ...], seen: tuple[Placed, ...]) -> list[int | None]:
    """The seen thing that answers for each spec: as many right ones as can be, then right kinds, then right colours."""

    def points(spec: ThingSpec, thing: Placed) -> int:
        return 9 * fits(spec, thing, JUDGED) + 3 * fits(spec, thing, ("kind",)) + fits(spec, thing, ("color",))

    @cache  # over the slot and the set of things taken: few, as a picture shows at most eight
    def best(slot: int, taken: int) -> tuple[int, tuple[int | None, ...]]:
        if slot == len(specs):
            return 0, ()
        rest = best(slot + 1, taken)
        options: list[tuple[int, tuple[int | None, ...]]] = [(rest[0], (None, *rest[1]))]
        for i, thing in enumerate(seen):
            if not taken >> i & 1 and (gain := points(specs[slot], thing)):
                rest = best(slot + 1, taken | 1 << i)
                options.append((gain + rest[0], (i, *rest[1])))
        return max(options, key=lambda option: option[0])

    return list(best(0, 0)[1])


def _aspects(claims: Constraints, seen: Sequence[Placed], setting: tuple[str, str] | None) -> dict[str, bool | None]:
    """Each aspect alone: right, wrong, or None where it cannot be told."""
    things = Constraints(claims.things)
    drawn = not violations(things, seen, attributes=JUDGED)
    result: dict[str, bool | None] = {"count": len(seen) == sum(spec.count for spec in claims.things)}
    result |= {name: not violations(things, seen, attributes=(name,)) for name in JUDGED}
    related = dataclasses.replace(things, relations=claims.relations)
    result["relation"] = not violations(related, seen, attributes=JUDGED) if claims.relations and drawn else None
    for name in BESIDE:
        said = drawn and any(getattr(spec, name) for spec in claims.things)
        result[name] = not violations(things, seen, attributes=(*JUDGED, name)) if said else None
    surface, light = setting or (None, None)
    result["surface"] = surface == claims.surface if surface and claims.surface else None
    lights = ("lamp", "moon") if claims.light == "night" else (claims.light,)
    result["light"] = light in lights if light and claims.light else None
    return result
