"""The words of the world: how captions name each colour, kind, size, finish, pattern, surface and light.

`PICTURE_WORDS` may stand in a picture's caption. `TEXT_ONLY` words stand in the text corpus alone: a model that
draws them has learned them by reading.
"""

import difflib
import random
import re

from imagen_lite.scenes.world import COLORS, LETTERS


def split(text: str) -> list[str]:
    """Lower-case words and numbers of a text; hyphens part words."""
    return re.findall(r"[^\W_]+(?:'[a-z]+)?", text.lower())


# attribute -> value -> words, the commonest first. Several words in one entry ("rubber duck") are one noun.
PICTURE_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "color": {color: (color,) for color in COLORS},
    "kind": {
        "sphere": ("sphere", "ball"), "cube": ("cube", "block", "box"), "cylinder": ("cylinder", "pillar"),
        "cone": ("cone",), "house": ("house",), "tree": ("tree",), "snowman": ("snowman",),
        "rocket": ("rocket",), "mushroom": ("mushroom",), "duck": ("duck", "toy duck"),
    },
    "size": {"small": ("small", "little", "tiny"), "large": ("large", "big")},
    "finish": {"matte": ("matte", "dull"), "shiny": ("shiny", "glossy")},
    "pattern": {
        "plain": ("plain",), "striped": ("striped", "stripy"), "dotted": ("dotted", "polka-dot"),
        "checkered": ("checkered", "checked"),
    },
}  # fmt: skip

# Patterns said after the noun: "a red cone with stripes".
PATTERN_AFTER = {
    "striped": ("with stripes", "with a striped pattern"),
    "dotted": ("with dots", "with polka dots", "covered in dots"),
    "checkered": ("with checks", "with a checkered pattern"),
}

# A kind told by what it is instead of by its name ("a red bird with a beak"): the harder captions.
DEFINITIONS = {
    "sphere": "perfectly round thing", "cube": "thing with six square sides", "cylinder": "thing shaped like a can",
    "cone": "thing shaped like a party hat", "house": "thing with a roof and a door",
    "tree": "thing with a trunk and leaves", "snowman": "man made of snow", "rocket": "thing that flies to space",
    "mushroom": "thing with a stalk and a cap", "duck": "bird with a beak",
}  # fmt: skip

GENERIC = ("thing", "object", "toy")  # a thing whose kind the caption leaves open

SURFACE_PHRASES = {
    "wood": ("on a wooden table", "on a wooden floor", "on wooden planks", "on wood"),
    "tiles": ("on the tiles", "on a tiled floor", "on tiles"),
    "grass": ("on the grass", "on a lawn", "on green grass", "in the grass"),
    "sand": ("on the sand", "on sand", "on a sandy beach", "on the beach"),
    "cloth": ("on a tablecloth", "on a cloth", "on the cloth", "on fabric"),
}

LIGHT_PHRASES = {
    "noon": ("at noon", "in bright sunlight", "in the midday sun", "on a sunny day"),
    "sunset": ("at sunset", "at dusk", "in the evening sun", "as the sun sets"),
    "overcast": ("under an overcast sky", "on a cloudy day", "under grey clouds"),
    "lamp": ("by lamplight", "at night by lamplight", "under a lamp at night"),
    "moon": ("in the moonlight", "by moonlight", "at night under the moon"),
    "night": ("at night", "after dark"),  # lamp or moon
}

# The nouns in them, for short tags ("red cone, grass, sunset") and for prompts that put it their own way.
SURFACE_NOUNS = {
    "wood": ("wood", "wooden table", "wooden floor", "wooden planks", "planks"),
    "tiles": ("tiles", "tiled floor", "tile floor"), "grass": ("grass", "lawn"),
    "sand": ("sand", "beach", "sandy beach"), "cloth": ("cloth", "tablecloth", "fabric"),
}  # fmt: skip
LIGHT_NOUNS = {
    "noon": ("noon", "sunlight", "midday sun", "midday", "sunshine", "sunny"),
    "sunset": ("sunset", "dusk", "evening sun", "evening"), "overcast": ("overcast", "cloudy", "grey clouds", "clouds"),
    "lamp": ("lamplight", "lamp"), "moon": ("moonlight", "moonlit", "moon"), "night": ("night", "dark"),
}  # fmt: skip

# Words of the text corpus that no picture's caption holds: word -> (attribute, value).
TEXT_ONLY: dict[str, tuple[str, str]] = {
    word: (attribute, value)
    for attribute, value, words in (
        ("color", "red", "crimson scarlet"), ("color", "orange", "tangerine"), ("color", "yellow", "lemon golden"),
        ("color", "green", "emerald jade"), ("color", "blue", "azure navy"), ("color", "purple", "violet lavender"),
        ("color", "pink", "rosy"), ("color", "white", "ivory snowy"),
        ("kind", "sphere", "orb globe"), ("kind", "cube", "crate"), ("kind", "cylinder", "drum"),
        ("kind", "house", "cottage cabin"), ("kind", "tree", "fir pine"), ("kind", "rocket", "spaceship"),
        ("kind", "mushroom", "toadstool"), ("kind", "duck", "duckling"),
        ("size", "large", "huge enormous"), ("size", "small", "miniature"),
        ("finish", "shiny", "gleaming polished"), ("finish", "matte", "chalky"),
        ("pattern", "striped", "banded"), ("pattern", "dotted", "spotted"),
        ("surface", "grass", "turf"), ("light", "sunset", "twilight"),
    )
    for word in words.split()
}  # fmt: skip

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}

# relation -> how it is said before its object ("a cone left of a house").
RELATION_PHRASES = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "front": ("in front of",),
    "behind": ("behind",),
    "on": ("on top of", "on", "standing on", "stacked on"),
    "beside": ("next to", "beside"),
}
# ... and when the object came first ("a house with a cone to its left").
RELATION_AFTER = {
    "left": ("to its left", "to the left of it"), "right": ("to its right", "to the right of it"),
    "front": ("in front of it",), "behind": ("behind it",), "on": ("on top", "on top of it"),
    "beside": ("next to it", "beside it"),
}  # fmt: skip

FUNCTION_WORDS = frozenset(
    split("""
    a an the another one some several and or but with without no of in on at by to its it that which is are
    there this here also as from for letter letters marked showing shows show says side other picture photo
    image scene view table floor ground surface tabletop stands stand sits sit standing sitting stacked lies
    rests placed under below beneath underneath near close atop day sky light sun bright very toy rubber wooden
    middle left right front back behind only just together them stack
    """)
)


def plural(noun: str) -> str:
    """The plural of a noun of this world: "toy duck" -> "toy ducks", "snowman" -> "snowmen"."""
    if noun.endswith("man"):
        return noun[:-3] + "men"
    return noun + ("es" if noun.endswith(("x", "s", "ch")) else "s")


def pick(words: tuple[str, ...], rng: random.Random) -> str:
    """One of the words; the first half of the time."""
    return words[0] if len(words) == 1 or rng.random() < 0.5 else rng.choice(words[1:])


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it; single letters by their sound ("an F-block", "a U-block")."""
    spelled = re.match(r"[A-Za-z](?=\W)", phrase)
    vowels = "AEFHILMNORSX" if spelled else "AEIO"
    return ("an " if phrase[0].upper() in vowels else "a ") + phrase


def text_only_words(attribute: str, value: str) -> tuple[str, ...]:
    """The text-only words for one value, e.g. ("color", "red") -> ("crimson", "scarlet")."""
    return tuple(word for word, meaning in TEXT_ONLY.items() if meaning == (attribute, value))


def _text_only_table() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Picture word -> (attribute, the text-only words of the same meaning), nouns in both numbers."""
    table: dict[str, tuple[str, tuple[str, ...]]] = {}
    places = {"surface": SURFACE_NOUNS, "light": LIGHT_NOUNS}
    for attribute, value in dict.fromkeys(TEXT_ONLY.values()):
        instead = text_only_words(attribute, value)
        for word in (PICTURE_WORDS.get(attribute) or places[attribute])[value]:
            table[word] = (attribute, instead)
            if attribute == "kind":
                table[plural(word)] = (attribute, tuple(map(plural, instead)))
    return {w: entry for w, entry in table.items() if " " not in w}


_TEXT_ONLY_TABLE = _text_only_table()
# Not in fixed phrases, whose words do not speak of a thing: "on green grass", "with a striped pattern", "B-block".
_REPLACEABLE = re.compile(
    r"(?<![\w-])((?:an? )?)("
    + "|".join(sorted(_TEXT_ONLY_TABLE, key=len, reverse=True))
    + r")(?![\w-])(?! grass| pattern)"
)


def reword(
    caption: str, rng: random.Random, *, share: float = 1.0, attributes: tuple[str, ...] = ("color", "kind")
) -> str:
    """The caption with picture words replaced by text-only words of the same meaning ("a red ball" -> "a crimson orb").

    Args:
        caption: a caption of this world, lower-case.
        rng: chooses among the words.
        share: chance of each replaceable word to be replaced.
        attributes: of which attributes; "surface" and "light" too are possible.
    """

    def replace(found: re.Match[str]) -> str:
        attribute, instead = _TEXT_ONLY_TABLE[found[2]]
        if attribute not in attributes or rng.random() >= share:
            return found[0]
        word = rng.choice(instead)
        return article(word) if found[1] else word

    return _REPLACEABLE.sub(replace, caption)


def _single_words() -> frozenset[str]:
    tables = [*PICTURE_WORDS.values(), PATTERN_AFTER, SURFACE_PHRASES, LIGHT_PHRASES, SURFACE_NOUNS, LIGHT_NOUNS]
    tables += [RELATION_PHRASES, RELATION_AFTER, {k: (v,) for k, v in DEFINITIONS.items()}]
    phrases = [p for table in tables for words in table.values() for p in words]
    nouns = [n for words in PICTURE_WORDS["kind"].values() for n in words] + list(GENERIC)
    nouns += [word for word, (attribute, _) in TEXT_ONLY.items() if attribute == "kind"]
    phrases += [*nouns, *map(plural, nouns), *TEXT_ONLY, *NUMBERS, *FUNCTION_WORDS, *LETTERS.lower()]
    return frozenset(word for phrase in phrases for word in split(phrase))


KNOWN_WORDS = _single_words()
_NAMES = sorted(
    {w for table in PICTURE_WORDS.values() for words in table.values() for w in words if " " not in w}
    | {w for table in (SURFACE_NOUNS, LIGHT_NOUNS) for words in table.values() for w in words if " " not in w}
    | TEXT_ONLY.keys()
)


def unknown_words(prompt: str) -> list[str]:
    """Words of the prompt outside this world, in order, each once. Text-only words are known: by reading."""
    return list(dict.fromkeys(w for w in split(prompt) if w not in KNOWN_WORDS and not w.isdigit()))


def suggest(word: str) -> list[str]:
    """Up to three words of this world that are spelled like `word`; empty if none is."""
    return difflib.get_close_matches(word.lower(), _NAMES, n=3, cutoff=0.6)
