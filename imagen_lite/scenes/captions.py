"""Captions: a grammar from scenes to sentences, with the variety, and on request the flaws, of real alt-text.

`caption` draws one as a training picture gets it; `captions` gives true ones only; `evaluation_caption` names all.
What a caption says of a scene, `parse` gets back, and `claims` holds against the scene.
"""

import dataclasses
import random
import re
from collections import defaultdict

from imagen_lite.scenes import words
from imagen_lite.scenes.claims import ATTRIBUTES, RELATIONS, holds, placed
from imagen_lite.scenes.claims import relation_holds as relation_holds
from imagen_lite.scenes.world import COLORS, KINDS, LIGHTS, SPLITS, SURFACES, Scene, Thing, sample_scene

PARTIAL_SHARE = 0.10  # of noisy captions of two or more things: one thing goes unmentioned
WRONG_SHARE = 0.04  # of noisy captions: one colour, kind, surface or light is another than the picture's
COLORLESS_SHARE = 0.04  # of things: the colour is left out
NAMELESS_SHARE = 0.015  # of things: "a red object"
DEFINED_SHARE = 0.02  # of things: "a red bird with a beak"
ABSENT_SHARE = 0.03  # of captions: "there is no duck"
TAGS_SHARE = 0.08  # of captions: "red cone, blue house, grass"
SURFACE_SHARE, LIGHT_SHARE = 0.65, 0.55
LONGEST = 40  # words


def caption(scene: Scene, rng: random.Random, *, noise: bool = True) -> str:
    """One caption of the scene, with attributes left out at will.

    With `noise`, `PARTIAL_SHARE` leave a thing out and `WRONG_SHARE` say something false, as alt-text does.
    """
    mention = list(range(len(scene.things)))
    if noise and rng.random() < WRONG_SHARE:
        scene = _mistaken(scene, rng)
    if noise and len(mention) > 1 and rng.random() < PARTIAL_SHARE:
        mention.remove(rng.choice(mention))
    return _Writer(scene, rng).write(mention)


def captions(scene: Scene, count: int = 6) -> list[str]:
    """`count` varied captions, all true and none leaving a thing out; always the same ones for a scene."""
    rng = random.Random(f"captions {scene.seed}")
    return [caption(scene, rng, noise=False) for _ in range(count)]


def evaluation_caption(scene: Scene, rng: random.Random, *, relation: bool | None = None) -> str:
    """A caption that names the colour and kind of every thing, so that nothing in a right picture is unmentioned.

    `relation` says whether it states how two things stand to each other (where there are two); None draws it.
    """
    relation = rng.random() < 0.5 if relation is None else relation
    return _Writer(scene, rng, full=True).write(list(range(len(scene.things))), relation=relation)


def mirror(caption: str) -> str:
    """The caption of the picture flipped left to right: "left" and "right" change places."""
    other = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda found: other[found[0]], caption)


def _mistaken(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one colour, kind, surface or light changed."""
    choices = {"color": COLORS, "kind": KINDS, "surface": SURFACES, "light": LIGHTS}
    what = rng.choices(list(choices), (40, 30, 15, 15))[0]
    i = rng.randrange(len(scene.things))
    thing = scene.things[i]
    value = rng.choice([v for v in choices[what] if v not in (thing.color, thing.kind, scene.surface, scene.light)])
    if what in ("surface", "light"):
        return dataclasses.replace(scene, **{what: value})
    changed = dataclasses.replace(thing, **{what: value}, letter=thing.letter if what == "color" else "")
    return dataclasses.replace(scene, things=(*scene.things[:i], changed, *scene.things[i + 1 :]))


class _Writer:
    """Writes one caption. `full` keeps every colour and every kind's name; `detail` is the chance of an adjective."""

    def __init__(self, scene: Scene, rng: random.Random, *, full: bool = False):
        self.scene, self.rng, self.full = scene, rng, full
        self.placed = placed(scene)
        self.detail = rng.choice((0.1, 0.35, 0.9) if len(scene.things) < 3 else (0.0, 0.15, 0.5))

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.rng.random() < share

    def write(self, mention: list[int], *, relation: bool | None = None) -> str:
        """A caption of the things in `mention`, with at most `LONGEST` words."""
        while True:
            tags = not self.full and self.chance(TAGS_SHARE)
            text = self._tags(mention) if tags else self._sentences(mention, relation)
            if len(text.split()) <= LONGEST:
                return text
            self.detail /= 2

    # --- noun phrases

    def noun(self, thing: Thing, *, count: int = 1, named: bool = False, may: tuple[str, ...] = ATTRIBUTES) -> str:
        """The thing with its adjectives, without article. `named`: by its kind's name. `may` limits which
        attributes are spoken of (things that are counted together share only some)."""
        before = self._before(thing, may)
        if "color" in may and (self.full or not self.chance(COLORLESS_SHARE)):
            at = len(before) if self.chance(0.7) else self.rng.randrange(len(before) + 1)
            before.insert(at, thing.color)
        after: list[str] = []
        if thing.pattern != "plain" and "pattern" in may and self.chance(max(0.5, self.detail)):
            if self.chance(0.35):
                after.append(self.rng.choice(words.PATTERN_AFTER[thing.pattern]))
            else:
                spot = self.rng.randrange(len(before) + 1)
                before.insert(spot, words.pick(words.PICTURE_WORDS["pattern"][thing.pattern], self.rng))
        name = self._name(thing, count, named=named or count > 1)
        if thing.letter and "letter" in may and self.chance(0.8):
            name, letter = self._lettered(name, thing.letter, count)
            after += letter
        return " ".join([*before, name, *after])

    def _before(self, thing: Thing, may: tuple[str, ...]) -> list[str]:
        """Size, finish and "plain", each at the chance of `detail`, mostly in that order."""
        said = [a for a in ("size", "finish") if a in may and self.chance(self.detail)]
        if thing.pattern == "plain" and "pattern" in may and not thing.letter and self.chance(self.detail * 0.12):
            said.append("pattern")
        if self.chance(0.3):
            self.rng.shuffle(said)
        return [words.pick(words.PICTURE_WORDS[a][getattr(thing, a)], self.rng) for a in said]

    def _name(self, thing: Thing, count: int, *, named: bool) -> str:
        """A noun for the kind; rarely its definition, or no more than "object"."""
        if not named and not self.full and not thing.letter:
            if self.chance(DEFINED_SHARE):
                return words.DEFINITIONS[thing.kind]
            if self.chance(NAMELESS_SHARE):
                return self.rng.choice(words.GENERIC)
        name = words.pick(words.PICTURE_WORDS["kind"][thing.kind], self.rng)
        return words.plural(name) if count > 1 else name

    def _lettered(self, name: str, letter: str, count: int) -> tuple[str, list[str]]:
        """The noun and what follows it: "B-block", or "block" and "with the letter B"."""
        if count == 1 and self.chance(0.25):
            return f"{letter}-{name}", []
        own = words.article(f"{letter} ") + "on it"
        return name, [self.rng.choice((f"with the letter {letter}", f"with the letter {letter} on it", f"with {own}"))]

    def phrase(self, i: int, *, other: bool = False, named: bool = False) -> str:
        """Thing i with its article; "another" where its like was just named. `named`: by its kind's name."""
        noun = self.noun(self.scene.things[i], named=named)
        return "another " + noun if other else words.article(noun)

    def _groups(self, mention: list[int]) -> list[str]:
        """The things as phrases to be listed, those alike counted together."""
        things = self.scene.things
        kinds: dict[tuple[str, ...], list[int]] = defaultdict(list)
        by_color = self.full or self.chance(0.6)
        for i in mention:
            kinds[(things[i].kind, things[i].color) if by_color else (things[i].kind,)].append(i)
        phrases, groups = [], list(kinds.values())
        self.rng.shuffle(groups)
        for group in groups:
            if len(group) == 1 or self.chance(0.15):
                seen: set[tuple[str, str]] = set()
                for i in group:
                    pair = (things[i].kind, things[i].color)
                    phrases.append(self.phrase(i, other=pair in seen, named=True))
                    seen.add(pair)
            else:
                phrases.append(self._counted([things[i] for i in group], by_color))
        return phrases

    def _counted(self, group: list[Thing], by_color: bool) -> str:
        """ "two small red cubes"; "two cubes, one red and one blue"."""
        shared = tuple(a for a in ATTRIBUTES if a != "letter" and len({getattr(t, a) for t in group}) == 1)
        number = ("two", "three", "four")[len(group) - 2]
        noun = self.noun(group[0], count=len(group), may=shared)
        if not by_color and len(group) == 2 and "color" not in shared and self.chance(0.6):
            return f"{number} {noun}, one {group[0].color} and one {group[1].color},"
        return f"{number} {noun}"

    # --- sentences

    def _tags(self, mention: list[int]) -> str:
        """Tag style: "red cone, small blue house, grass, sunset"."""
        tags = [self.noun(self.scene.things[i]) for i in mention]
        if self.chance(SURFACE_SHARE):
            tags.append(words.pick(words.SURFACE_NOUNS[self.scene.surface][:2], self.rng))
        if self.chance(LIGHT_SHARE):
            tags.append(words.LIGHT_NOUNS[self._light_key()][0])
        return ", ".join(tags)

    def _light_key(self) -> str:
        """The scene's light, or for a night sometimes just that."""
        return "night" if self.scene.light in ("lamp", "moon") and self.chance(0.3) else self.scene.light

    def _sentences(self, mention: list[int], relation: bool | None) -> str:
        """The things, where they are and in what light, in varied order; sometimes what is not there."""
        where = [words.pick(words.SURFACE_PHRASES[self.scene.surface], self.rng)] if self.chance(SURFACE_SHARE) else []
        when = [words.pick(words.LIGHT_PHRASES[self._light_key()], self.rng)] if self.chance(LIGHT_SHARE) else []
        first, rest = self._body(mention, relation)
        setting = [*where, *when] if self.chance(0.7) else [*when, *where]
        ahead = [setting.pop(self.rng.randrange(len(setting)))] if setting and self.chance(0.3) else []
        plain = first.split()[0] in ("a", "an", "two", "three", "four")
        if plain and (kind := self.rng.random()) < 0.16:
            be = "there are" if first.startswith(("two", "three", "four")) else "there is"
            first = f"{be} {first}" if kind < 0.10 or ahead else f"a {self.rng.choice(('picture', 'photo'))} of {first}"
        text = " ".join([first.rstrip(",") if not setting else first, *setting])
        if ahead:
            text = f"{ahead[0]}{'' if text.startswith('there') and self.chance(0.5) else ','} {text}"
        if not self.full and self.chance(ABSENT_SHARE):
            present = {t.kind for t in self.scene.things}
            kind = self.rng.choice([k for k in KINDS if k not in present])
            rest = [*rest, f"there is no {words.pick(words.PICTURE_WORDS['kind'][kind], self.rng)}"]
        return ". ".join([text, *rest])

    def _body(self, mention: list[int], relation: bool | None) -> tuple[str, list[str]]:
        """The things, told in a first sentence and those that follow it."""
        true = [
            (i, r, j) for i in mention for j in mention if i != j
            for r in RELATIONS if holds(self.placed, i, r, j, clear=True)
        ]  # fmt: skip
        if self.full:  # which of two like things is left of the other, nobody could tell
            looks = [(t.kind, t.color) for t in self.scene.things]
            true = [t for t in true if looks[t[0]] != looks[t[2]]]
        if stacks := [t for t in true if t[1] == "on"]:
            true = stacks if self.chance(0.75) else true
        if relation is None:
            relation = self.chance(0.85 if stacks else 0.6)
        if not true or not relation:
            return _listed(self._groups(mention)), []
        wanted = self.rng.choice(sorted({t[1] for t in true}))  # front and behind are rarer than left and right
        i, r, j = self.rng.choice([t for t in true if t[1] == wanted])
        others = [k for k in mention if k not in (i, j)]
        if self.chance(0.15) and (told := self._told_after(mention, i, r, j)):
            return told
        pair = self._pair(i, r, j)
        if not others:
            return pair, []
        listed = self._groups(others)
        if self.chance(0.5) or not pair.startswith("a"):
            verb = "are" if len(listed) > 1 or listed[0].startswith("two") else "is"
            return pair, [f"there {verb} also {_listed(listed).rstrip(',')}"]
        return f"{_listed(listed).rstrip(',')}, and {pair}", []

    def _pair(self, i: int, r: str, j: int) -> str:
        """Two things and how they stand, in one of several orders."""
        a, b = self.scene.things[i], self.scene.things[j]
        before = words.pick(words.RELATION_PHRASES[r], self.rng)
        form = self.rng.random()
        twins = (a.kind, a.color) == (b.kind, b.color)
        if form < 0.62 or twins:
            return f"{self.phrase(i)} {before} {self.phrase(j, other=twins)}"
        if form < 0.72:
            return f"{self.phrase(i)} is {before} {self.phrase(j)}"
        if r in ("left", "right") and form < 0.80:
            other = "right" if r == "left" else "left"
            return f"{self.phrase(i)} on the {r} and {self.phrase(j)} on the {other}"
        if form < 0.86:
            after = words.pick(words.RELATION_AFTER[r], self.rng)
            return f"{self.phrase(j)} with {self.phrase(i)} {after}"
        verb = self.rng.choice(("there is", "stands", "is"))
        return f"{before} {self.phrase(j)} {verb} {self.phrase(i)}"

    def _told_after(self, mention: list[int], i: int, r: str, j: int) -> tuple[str, list[str]] | None:
        """A list first, then "the cone is left of the house"; None where that would not say which cone."""
        kinds = [self.scene.things[k].kind for k in mention]
        a, b = self.scene.things[i].kind, self.scene.things[j].kind
        if kinds.count(a) > 1 or kinds.count(b) > 1:
            return None
        names = [words.PICTURE_WORDS["kind"][kind][0] for kind in (a, b)]
        told = f"the {names[0]} is {words.pick(words.RELATION_PHRASES[r], self.rng)} the {names[1]}"
        return _listed([self.phrase(k, named=True) for k in mention]), [told]


def _listed(phrases: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = phrases
    return f"{', '.join(p.rstrip(',') for p in most)} and {last}" if most else last


def surprise(seed: int | None = None) -> str:
    """A caption of a scene of the test split, which no training picture shows: any, or that of a seed."""
    test = SPLITS["test"]
    scene = sample_scene(test.start + (random.randrange(len(test)) if seed is None else seed % len(test)))
    return captions(scene)[0]
