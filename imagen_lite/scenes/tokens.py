"""From text to tokens: the longest phrase of the lexicon at each place, letters of blocks first."""

import re
from dataclasses import dataclass

from imagen_lite.scenes import words

_LETTERED = (  # each keeps the letter; the last, "a b-block", stands before its noun
    re.compile(r"(?:\b(?:with|showing|marked with|and) )?\b(?:the|a) letter ['\"]?([a-z])\b['\"]?(?: on it)?"),
    re.compile(r"\bwith an? ['\"]?([a-z])['\"]? on it\b"),
    re.compile(r"\bmarked (?:with )?(?:an? )?['\"]?([a-z])\b['\"]?"),
)
_LETTER_BLOCK = re.compile(r"\b([a-z])-(?=(?:block|cube|box|crate))")
_INVERSE_ON = ("under", "below", "beneath", "underneath")


@dataclass(frozen=True)
class Token:
    """A word or phrase and what it is: an attribute of `claims.ATTRIBUTES`, or one of the types of `_lexicon`."""

    type: str
    value: str | int | None
    text: str


def _lexicon() -> dict[tuple[str, ...], tuple[str, str | int | None]]:
    """Phrase -> (type, value), for every phrase with a meaning."""
    entries: list[tuple[str, str, str | int | None]] = []
    for attribute, table in words.PICTURE_WORDS.items():
        entries += [(w, attribute, value) for value, names in table.items() for w in names]
    entries += [(w, attribute, value) for w, (attribute, value) in words.TEXT_ONLY.items()]
    entries += [(w + " tree", "kind", "tree") for w in words.text_only_words("kind", "tree")]
    entries += [(d, "kind", kind) for kind, d in words.DEFINITIONS.items()]
    entries += [(g, "kind", None) for g in words.GENERIC]
    entries += [(words.plural(w), "kinds", value) for w, attribute, value in entries if attribute == "kind"]
    entries += [(p, "after:pattern", value) for value, names in words.PATTERN_AFTER.items() for p in names]
    for type_, tables in (
        ("surface", (words.SURFACE_PHRASES, words.SURFACE_NOUNS)),
        ("light", (words.LIGHT_PHRASES, words.LIGHT_NOUNS)),
        ("relation", (words.RELATION_PHRASES,)),
        ("relation-after", (words.RELATION_AFTER,)),
    ):
        entries += [(p, type_, value) for table in tables for value, names in table.items() for p in names]
    entries += [(w, "number", n) for w, n in words.NUMBERS.items()]
    entries += [(w, "relation", "under") for w in _INVERSE_ON]
    entries += [("sitting on", "relation", "on"), ("atop", "relation", "on"), ("near", "relation", "beside")]
    entries += [("on the left", "place", "left"), ("on the right", "place", "right")]
    entries += [(w, "ground", None) for w in ("table", "floor", "ground", "surface", "tabletop")]
    entries += [(w, "determiner", w) for w in ("a", "an", "the", "one", "another", "some", "several")]
    entries += [(w, "no", None) for w in ("no", "without", "without a", "without any")]
    entries += [(w, "is", None) for w in ("is", "are", "that is", "which is")] + [("not", "not", None)]
    entries += [(w, "and", None) for w in ("and", "or", "but", "with")]
    return {tuple(words.split(phrase)): (type_, value) for phrase, type_, value in entries}


_LEXICON = _lexicon()
_LONGEST = max(map(len, _LEXICON))


def tokens(text: str) -> list[Token]:
    """The caption's tokens. Types beyond attributes, and the lexicon's: "stop", "comma", "word", "unknown"."""
    text = text.lower()
    for pattern in _LETTERED:
        text = pattern.sub(r" letter_\1 ", text)
    text = _LETTER_BLOCK.sub(r" block_\1 ", text).replace("-", " ")
    parts = re.findall(r"[^\W_]+(?:'[a-z]+)?(?:_[a-z]\b)?|[.;:!?]|,", text)
    found, i = [], 0
    while i < len(parts):
        for length in range(min(_LONGEST, len(parts) - i), 0, -1):
            if (entry := _LEXICON.get(tuple(parts[i : i + length]))) is not None:
                found.append(Token(*entry, " ".join(parts[i : i + length])))
                i += length
                break
        else:
            found.append(_other(parts[i]))
            i += 1
    return found


def _other(part: str) -> Token:
    """The token of a part that no phrase holds."""
    if part.startswith(("letter_", "block_")):
        return Token("after:letter" if part[0] == "l" else "letter", part[-1].upper(), part)
    if part.isdigit():
        few = part.isdecimal() and len(part) < 3 and 1 < int(part) <= 20  # "²" is a digit, but no number
        return Token("number", int(part), part) if few else Token("determiner", "one", part)
    if not part[0].isalnum():
        return Token("comma" if part == "," else "stop", None, part)
    return Token("word" if part in words.KNOWN_WORDS else "unknown", None, part)
