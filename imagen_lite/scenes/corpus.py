"""The text-only corpus: what t5-lite reads before any picture is seen.

Captions of random scenes in which text-only words stand where picture words would, the same thing said twice in two
ways, definitions, facts, comparisons, counts, questions and small stories. A template's slots are bound once a
document and each mention draws its own word, so that "crimson" meets "red" again within a span's reach.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from imagen_lite.scenes import words
from imagen_lite.scenes.captions import caption, evaluation_caption
from imagen_lite.scenes.world import COLORS, FINISHES, KINDS, SIZES, Scene, sample_scene

CAPTION_SHARE, PARAPHRASE_SHARE, STORY_SHARE = 0.30, 0.28, 0.12  # of documents; the rest are facts and talk
TEXT_ONLY_SHARE = 0.45  # of the words that a text-only word could replace
_ALL = ("color", "kind", "size", "finish", "pattern", "surface", "light")

# Each text-only word as a dictionary would have it.
GLOSSES = {
    "crimson": "a deep red", "scarlet": "a bright red", "tangerine": "a warm orange", "lemon": "a light yellow",
    "golden": "a rich yellow", "emerald": "a bright green", "jade": "a soft green", "azure": "a bright blue",
    "navy": "a very dark blue", "violet": "a bluish purple", "lavender": "a pale purple", "rosy": "a soft pink",
    "ivory": "a creamy white", "snowy": "a pure white", "orb": "a ball, a sphere", "globe": "a round ball",
    "crate": "a box, a cube", "drum": "a short cylinder", "cottage": "a little country house",
    "cabin": "a house made of logs", "fir": "a tree with needles", "pine": "a tall tree that stays green in winter",
    "spaceship": "a rocket that carries people", "toadstool": "a mushroom with a round cap",
    "duckling": "a young duck", "huge": "very large", "enormous": "very, very large", "miniature": "very small",
    "gleaming": "very shiny", "polished": "rubbed until it is shiny", "chalky": "dull and matte, like chalk",
    "banded": "striped, with bands of colour", "spotted": "dotted, with many spots",
    "turf": "short grass, a lawn", "twilight": "the time after sunset, dusk",
}  # fmt: skip

# What has this colour, kind or look in the wider world, singular.
FACTS = {
    "red": ("a fire engine", "a ripe tomato", "a strawberry", "blood", "a cherry"),
    "orange": ("a carrot", "a pumpkin", "a basketball", "a fox"),
    "yellow": ("a banana", "a canary", "the sun", "sweetcorn", "a sunflower"),
    "green": ("grass", "a frog", "a leaf", "a cucumber", "moss"),
    "blue": ("the sky", "the sea", "a whale", "a sapphire", "deep water"),
    "purple": ("a plum", "an aubergine", "a grape", "an amethyst"),
    "pink": ("a flamingo", "a pig", "a rose", "candyfloss"),
    "white": ("snow", "milk", "a swan", "chalk", "a cloud"),
    "sphere": ("is round on every side", "rolls away when you push it", "has no corners and no edges"),
    "cube": ("has six square sides", "has eight corners", "can be stacked on another", "can show a letter"),
    "cylinder": ("is shaped like a can", "has two round ends", "is round from above and straight from the side"),
    "cone": ("ends in a point", "is round below and pointed above", "is shaped like a party hat"),
    "house": ("has a roof and a door", "keeps the rain out", "has windows and walls", "is where people live"),
    "tree": ("has a trunk", "grows in the forest", "has branches for the birds", "gives shade"),
    "snowman": ("melts in the sun", "has a carrot for a nose", "is made of two balls of snow"),
    "rocket": ("flies to space", "has fins and a pointed nose", "can reach the moon", "starts with fire and smoke"),
    "mushroom": ("has a stalk and a cap", "grows after the rain", "grows in the shade of the forest"),
    "duck": ("swims on the pond", "has a beak and two wings", "quacks", "lays eggs"),
}

_TALK = """
a {color?} thing is {color!}.
{color?} is {gloss:color}.
{color?} means {gloss:color}.
{fact:color} is {color}.
{fact:color} is {color}, and so is this {kind}.
{fact:color} is {color!}, or one could say {color?}.
as {color?} as {fact:color}: that is, {color!}.
a {color} {kind} is {color}, not {color2}.
the {kind} is {color}, so it is not {color2}.
what colour is the {color?} {kind}? it is {color!}.
what colour is {fact:color}? {color}.
is a {color} {kind} {color2}? no, it is {color}.
is a {color?} {kind} {color!}? yes, {color?} is {gloss:color}.
the {color} {kind} and the {color} {kind2} have the same colour: both are {color}.
the {color} {kind} and the {color2} {kind} differ in colour: one is {color}, the other {color2}.
a {color?} {kind} is a {color!} {kind}.
a {color!} {kind} may be called {color?}.
{color?}, {color}, {color}: all of these are {color!}. {color2} is not.
paint the {kind} {color}. now it is {color}, no longer {color2}.
a {kind?} is {gloss:kind}.
{kind?} is another word for {kind!}.
a {kind?} is a {kind!}.
what is a {kind?}? a {kind!}.
a {kind} {fact:kind}.
a {kind} {fact:kind}, and a {kind2} {fact:kind2}.
what {fact:kind}? a {kind}.
the {color} {kind?} is the same as the {color} {kind!}.
a {color?} {kind?} is a {color!} {kind!}.
a {kind} is not a {kind2}.
a {kind} and another {kind} are two {kinds}.
{number} {kinds} and one {kind} are {number+1} {kinds}.
{number} {color} {kinds} and one {color2} {kind}: {number+1} {kinds}.
there is a {kind} but no {kind2}. so one sees a {kind}, and not a {kind2}.
i asked for a {color} {kind} and got a {color} {kind}. that is right.
i asked for a {color} {kind} and got a {color2} {kind}. that is wrong: it should be {color}.
i asked for a {color} {kind} and got a {color} {kind2}. that is wrong: it should be a {kind}.
all the {kinds} here are {color}. so this {kind} is {color} too.
{kinds} are {kinds}, whatever you call them.
{size?} is {gloss:size}.
a {size?} {kind} is {size!}.
a {size} {kind} is {size}, not {size2}.
the {size} {kind} next to the {size2} one: the first is {size}, the second is {size2}.
which is {size}, the {size} {kind} or the {size2} {kind2}? the {size} {kind}.
{finish?} is {gloss:finish}.
a {finish?} {kind} is {finish!}.
a {finish} {kind} looks {finish}, never {finish2}.
a {finish=shiny} {kind} mirrors the light. it is {finish}.
a {finish=matte} {kind} does not mirror the light. it is {finish}.
{pattern?} is {gloss:pattern}.
a {pattern?} {kind} is {pattern!}.
a {pattern} {kind} is {pattern}, and not {pattern2}.
a {pattern=striped} {kind} has stripes. a {pattern=dotted} {kind2} has dots.
a {pattern=checkered} {kind} has checks, like a chess board. a plain {kind2} has nothing on it.
{surface?} is {gloss:surface}.
what grows in the garden? {surface=grass}. it is {color=green}.
the {surface=sand} by the sea is {color=yellow}.
the {surface} is below the {kind}, and the {kind} is on the {surface}.
{light?} is {gloss:light}.
at {light=sunset} the sky is {color=orange} and the shadows are long. {light=sunset} comes before night.
at noon the sun is high and the shadows are short. at night the moon or a lamp gives light.
if the {kind} is left of the {kind2}, then the {kind2} is right of the {kind}.
if the {kind} is in front of the {kind2}, then the {kind2} is behind the {kind}.
the {kind} is on top of the {kind2}, so the {kind2} is under the {kind}.
the {kind} is next to the {kind2}, and the {kind2} is next to the {kind}.
the {color} {kind} stands to the left of the {color2} {kind2}. so the {color2} {kind2} stands to the right of it.
a {size} {finish} {color} {kind}, also called a {size} {finish} {color} {kind}.
not a {color2} {kind2} but a {color} {kind}: the {kind} is {color}.
""".strip().splitlines()

_OPENERS = """
there was a {size} {color} {kind} on the {surface}.
once a {color} {kind} stood all alone on the {surface}.
at {light} somebody left a {finish} {color} {kind} on the {surface}.
look, a {color} {kind}!
nothing stood on the {surface}. then a {size} {color} {kind} came.
""".strip().splitlines()
_MIDDLES = """
next to the {kind} stood a {color2} {kind2}.
behind the {color} {kind} was a {pattern} {kind2}.
a {size2} {kind2} stood in front of the {size} {kind}.
everybody liked how {color} it was.
the {kind} was {color}, and the {kind2} was {color2}.
it was a {finish} {kind}, as {color} as {fact:color}.
on top of the {kind} sat a {color2} {kind2}.
the {kind2} was not {color} but {color2}.
""".strip().splitlines()
_CLOSERS = """
and so there were two things, one {color} and one {color2}.
at {light} only the {color} {kind} could be seen.
that was the story of the {color} {kind} and the {color2} {kind2}.
in the end the {color2} {kind2} was gone, and the {color} {kind} stayed.
the {kind} is still there, {size} and {color}.
""".strip().splitlines()

_LINKS = ("that is,", "in other words,", "or,", "one could also say:", "the same:", "which means", "i mean")
_PLACE_WORDS = {
    "surface": {s: tuple(n for n in names if " " not in n) for s, names in words.SURFACE_NOUNS.items()},
    "light": {"noon": ("noon", "midday"), "sunset": ("sunset", "dusk"), "night": ("night",)},
}
_SLOT = re.compile(r"\{(gloss:|fact:)?(number\+1|[a-z]+)(\d?)(?:([!?])|=(\w+))?\}")
_NUMBERS = ("one", "two", "three", "four", "five")


def _vocabulary(attribute: str) -> dict[str, tuple[str, ...]]:
    """value -> picture words of one attribute; nouns for surfaces and lights."""
    return words.PICTURE_WORDS.get(attribute) or _PLACE_WORDS[attribute]


class _Binding:
    """The meaning of a document's slots. Slot "color" means one colour throughout; "color2" another."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.values: dict[tuple[str, str], str] = {}
        self.count = rng.randrange(1, 4)
        self.shown: str = ""  # the text-only word just used, for its gloss

    def bind(self, template: str) -> None:
        """Choose the values that this template needs; a "?" needs one that has text-only words."""
        for kind, name, digit, mark, _ in _SLOT.findall(template):
            attribute = "kind" if name == "kinds" else name
            if attribute.startswith("number") or (attribute, digit) in self.values:
                continue
            wanted = mark == "?" or kind == "gloss:" or f"{{{attribute}{digit}?}}" in template
            taken = {v for (a, _), v in self.values.items() if a == attribute}
            known = _READABLE[attribute] if wanted else tuple(_vocabulary(attribute))
            self.values[attribute, digit] = self.rng.choice([v for v in known if v not in taken] or known)

    def word(self, attribute: str, value: str, mark: str = "") -> str:
        """A word for the value: any ("" mark), one that captions use ("!"), or a text-only one ("?")."""
        read = _TEXT_ONLY.get((attribute, value), ())
        if mark == "?" or (mark != "!" and read and self.rng.random() < TEXT_ONLY_SHARE):
            self.shown = self.rng.choice(read)
            return self.shown
        return words.pick(_vocabulary(attribute)[value], self.rng)

    def fill(self, template: str) -> str:
        """The template with its slots filled and its articles right."""
        self.bind(template)
        text = _SLOT.sub(self._slot, template)
        return re.sub(r"\ba (?=[aeio])", "an ", text)

    def _slot(self, found: re.Match[str]) -> str:
        kind, name, digit, mark, fixed = found.groups()
        if name.startswith("number"):
            return _NUMBERS[self.count + ("+" in name)]
        attribute = "kind" if name == "kinds" else name
        value = fixed or self.values[attribute, digit]
        if kind == "fact:":
            return self.rng.choice(FACTS[value])
        if kind == "gloss:":
            return GLOSSES[self.shown]
        word = self.word(attribute, value, mark or "")
        return words.plural(word) if name == "kinds" else word


_TEXT_ONLY = {meaning: words.text_only_words(*meaning) for meaning in set(words.TEXT_ONLY.values())}
_READABLE = {a: tuple(v for v in _vocabulary(a) if (a, v) in _TEXT_ONLY) for a in _ALL}


def document(rng: random.Random) -> str:
    """One document of 1 to 4 sentences, lower-case but for the letters on blocks, each ended by "." or "?" or "!"."""
    kind = rng.random()
    if kind < CAPTION_SHARE:
        return _reworded(caption(_scene(rng), rng, noise=False), rng) + "."
    if kind < CAPTION_SHARE + PARAPHRASE_SHARE:
        return _paraphrase(_scene(rng), rng)
    binding = _Binding(rng)
    if kind < CAPTION_SHARE + PARAPHRASE_SHARE + STORY_SHARE:
        parts = [rng.choice(_OPENERS), *rng.sample(_MIDDLES, rng.randint(1, 2)), rng.choice(_CLOSERS)]
        return " ".join(binding.fill(part) for part in parts)
    return " ".join(_Binding(rng).fill(rng.choice(_TALK)) for _ in range(rng.choice((1, 1, 2))))


def documents(seed: int) -> Iterator[str]:
    """Documents without end, the same for the same seed."""
    rng = random.Random(f"corpus {seed}")
    while True:
        yield document(rng)


def _scene(rng: random.Random) -> Scene:
    """A scene of any colour and kind: text may speak of what no training picture shows."""
    return sample_scene(rng.getrandbits(40), combinations="all", count=rng.choices((1, 2, 3), (60, 32, 8))[0])


def _reworded(text: str, rng: random.Random, share: float = TEXT_ONLY_SHARE) -> str:
    return words.reword(text, rng, share=share, attributes=_ALL)


def _paraphrase(scene: Scene, rng: random.Random) -> str:
    """The scene told twice: the same sentence in other words, or another sentence of the same meaning."""
    first = evaluation_caption(scene, rng)
    second = first if rng.random() < 0.5 else evaluation_caption(scene, rng)
    low, high = rng.sample((0.15, 0.85), 2)
    return f"{_reworded(first, rng, low)}. {rng.choice(_LINKS)} {_reworded(second, rng, high)}."


@dataclass(frozen=True)
class GateItem:
    """A text-only word that must come out nearest to one of `expected` among `candidates`, in these `contexts`.

    Compare the encoder's vectors at the word's own position, with the word and with each candidate in the place
    of "{}" (`fill_context` keeps the article right).
    """

    word: str
    expected: tuple[str, ...]
    candidates: tuple[str, ...]
    contexts: tuple[str, ...]


_CONTEXTS = {
    "color": ("a {} {kind}", "a small {} {kind} on the tiles", "a shiny {} {kind} next to a plain cone at noon",
              "a {} {kind} on a wooden table by lamplight"),
    "kind": ("a {color} {}", "a {size} {color} {} on the sand", "a {finish} {color} {} at noon",
             "a {color} {} on top of a {size} cylinder"),
    "size": ("a {} {color} {kind}", "a {} {kind} on the grass", "a {} {finish} {color} {kind} at night"),
    "finish": ("a {} {color} {kind}", "a small {} {kind} on the sand", "a {size} {} {color} {kind} at noon"),
    "pattern": ("a {} {color} {kind}", "a {} {kind} on the tiles", "a {size} {color} {} {kind} at sunset"),
    "surface": ("a {color} {kind} on the {}", "a {size} {color} {kind} on the {} at noon"),
    "light": ("a {color} {kind} at {}", "a {size} {color} {kind} on the sand at {}"),
}  # fmt: skip


def gate_items() -> list[GateItem]:
    """One item for each text-only word: its right picture words, all that compete, and sentences to try them in."""
    items = []
    for word, (attribute, value) in words.TEXT_ONLY.items():
        table = {v: tuple(w for w in names if " " not in w) for v, names in _vocabulary(attribute).items()}
        candidates = tuple(w for names in table.values() for w in names)
        slots = {"color": cycle(COLORS), "kind": cycle(KINDS), "size": cycle(SIZES), "finish": cycle(FINISHES)}
        contexts = tuple(
            re.sub(r"\{(\w+)\}", lambda found, slots=slots: next(slots[found[1]]), context)
            for context in _CONTEXTS[attribute] * 2
        )
        items.append(GateItem(word, table[value], candidates, contexts))
    return items


def fill_context(context: str, word: str) -> str:
    """The context with the word in its place and its articles right."""
    return re.sub(r"\ba (?=[aeio])", "an ", context.replace("{}", word))
