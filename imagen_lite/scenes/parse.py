"""From a caption, or any prompt, to what it claims.

One pass over the tokens collects noun phrases and ties them by the relations between them. Words outside the
lexicon are listed and otherwise passed over.
"""

import dataclasses
from typing import Any

from imagen_lite.scenes import words
from imagen_lite.scenes.claims import ATTRIBUTES, Constraints, Relation, ThingSpec, fits
from imagen_lite.scenes.claims import satisfied as satisfied
from imagen_lite.scenes.tokens import Token, tokens


def parse(caption: str) -> Constraints:
    """What the caption claims. Never fails: what it does not understand it leaves out, or names in `unknown`."""
    return _Parser(tokens(caption)).run(tuple(words.unknown_words(caption)))


class _Parser:
    """One pass over the tokens. `last` is the thing just named; relations wait for the thing they need."""

    def __init__(self, tokens: list[Token]):
        self.tokens, self.at = tokens, 0
        self.things: list[ThingSpec] = []
        self.relations: list[Relation] = []
        self.absent: list[ThingSpec] = []
        self.placed: dict[str, list[int]] = {"left": [], "right": []}
        self.surface: str | None = None
        self.light: str | None = None
        self.family: int | None = None  # the counted spec that "one red and one blue" divides
        self._new_clause()

    def _new_clause(self) -> None:
        self.last: int | None = None
        self.subject: int | None = None  # of the last relation: "a cone left of a house and behind a duck"
        self.pending: tuple[int, str] | None = None  # subject and relation, waiting for the object
        self.fronted: tuple[str, int | None] | None = None  # relation and object, waiting for the subject
        self.side: str | None = None

    def run(self, unknown: tuple[str, ...]) -> Constraints:
        """Read every token, then settle what "on the left ... on the right" says."""
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            method = getattr(self, "_" + token.type.split(":")[0].replace("-", "_"), None)
            if token.type in (*ATTRIBUTES, "kinds", "determiner", "number"):
                self._noun_phrase()
            elif method:
                self.at += 1
                method(token)
            else:
                self.at += 1
        for i in self.placed["left"]:
            self.relations += [Relation(i, "left", j) for j in self.placed["right"]]
        return self._tidy(unknown)

    def _tidy(self, unknown: tuple[str, ...]) -> Constraints:
        """Drop specs that were wholly divided ("two cubes, one red and one blue") and renumber."""
        kept = [k for k, spec in enumerate(self.things) if spec.count > 0]
        number = {k: n for n, k in enumerate(kept)}
        relations = (
            Relation(number[r.subject], r.relation, number[r.object])
            for r in self.relations
            if r.subject in number and r.object in number and r.subject != r.object
        )
        things = tuple(self.things[k] for k in kept)
        return Constraints(
            things, tuple(dict.fromkeys(relations)), self.surface, self.light, tuple(self.absent), unknown
        )

    def _stop(self, _: Token) -> None:
        self._new_clause()

    def _surface(self, token: Token) -> None:
        self.surface = self.surface or str(token.value)
        self._ground(token)

    def _ground(self, _: Token) -> None:
        """A waiting "on" was about the table, not about a thing."""
        self.pending = None
        if self.fronted and self.fronted[1] is None:
            self.fronted = None

    def _light(self, token: Token) -> None:
        if self.light in (None, "night"):
            self.light = str(token.value)
        self._ground(token)

    def _unknown(self, _: Token) -> None:
        following = self._peek(0)
        if following in ("and", "comma", "stop", "relation", "word", "surface", "light", None):  # it was a noun
            self.pending = self.fronted = None

    def _peek(self, offset: int) -> str | None:
        return self.tokens[self.at + offset].type if 0 <= self.at + offset < len(self.tokens) else None

    def _after_noun(self) -> bool:
        """Whether the token just taken follows a noun phrase directly."""
        before = self._peek(-2)
        return before is not None and (before.startswith("after:") or before in ("kind", "kinds", "is"))

    def _after(self, token: Token) -> None:
        self._describe({token.type.split(":")[1]: token.value})

    def _describe(self, said: dict[str, Any]) -> None:
        """Add attributes to the thing just named, where it has none yet."""
        if self.last is not None:
            spec = self.things[self.last]
            self.things[self.last] = dataclasses.replace(
                spec, **{a: v for a, v in said.items() if getattr(spec, a) is None}
            )

    def _is(self, _: Token) -> None:
        said: dict[str, Any] = {}
        while (kind := self._peek(0)) in ATTRIBUTES and kind != "kind" or (kind == "and" and said):
            if kind != "and":
                said.setdefault(str(kind), self.tokens[self.at].value)
            elif self._peek(1) not in ATTRIBUTES:
                break
            self.at += 1
        self._describe(said)

    def _not(self, _: Token) -> None:
        while self._peek(0) in ATTRIBUTES:
            self.at += 1

    def _no(self, _: Token) -> None:
        spec, named = self._gather()
        if named:
            self.absent.append(dataclasses.replace(spec, count=1))

    def _relation(self, token: Token) -> None:
        joined = self._peek(-2) in ("and", "comma")
        subject = self.subject if joined and self.subject is not None else self.last
        if subject is None:
            self.fronted = (str(token.value), None)
        else:
            self.pending, self.subject = (subject, str(token.value)), subject

    def _relation_after(self, token: Token) -> None:
        if self._after_noun() and self.last:  # "a house with a cone to its left"
            self._relate(self.last, str(token.value), self.last - 1)
        elif self.last is not None:  # "a house, and to its left a cone"
            self.fronted = (str(token.value), self.last)

    def _place(self, token: Token) -> None:
        if self._after_noun() and self.last is not None:
            self.placed[str(token.value)].append(self.last)
        else:
            self.side = str(token.value)

    def _relate(self, subject: int, relation: str, object: int) -> None:
        if relation == "under":
            subject, relation, object = object, "on", subject
        self.relations.append(Relation(subject, relation, object))

    def _gather(self) -> tuple[ThingSpec, bool]:
        """Take a noun phrase; also whether it had a noun. "shiny, red cone" is one, "red cone, grass" ends at its
        comma."""
        said: dict[str, Any] = {}
        count = 1
        while (kind := self._peek(0)) is not None:
            token = self.tokens[self.at]
            if token.text == "toy" and self._peek(1) in ("kind", "kinds"):  # "a toy house"
                pass
            elif kind in ("kind", "kinds"):
                self.at += 1
                said["kind"] = token.value
                return ThingSpec(**said, count=max(count, 2 if kind == "kinds" else 1)), True
            elif kind in ATTRIBUTES:
                said.setdefault(kind, token.value)
            elif kind == "number":
                count = int(token.value or 1)
            elif not self._within_phrase(kind, bool(said)):
                break
            self.at += 1
        return ThingSpec(**said, count=count), False

    def _within_phrase(self, kind: str, begun: bool) -> bool:
        """Whether a token that is neither attribute, number nor noun may stand inside a noun phrase."""
        if kind in ("and", "comma"):
            return begun and self._peek(-1) != "unknown" and self._noun_follows()
        return kind in ("unknown", "word") or kind == "determiner" and not begun

    def _noun_follows(self) -> bool:
        """Whether only attributes stand between the comma or "and" here and a noun."""
        offset = 1
        while self._peek(offset) in ATTRIBUTES and self._peek(offset) != "kind":
            offset += 1
        return offset > 1 and self._peek(offset) in ("kind", "kinds")

    def _noun_phrase(self) -> None:
        """A thing, or another mention of one, or its share of a count; then tie it to what was waiting for it."""
        start = self.tokens[self.at]
        spec, named = self._gather()
        if not named:
            following = self._peek(0)
            if start.value == "one" and self.family is not None and self.things[self.family].count:
                self._divide(spec)
            elif start.type != "determiner" and following not in ("surface", "light"):
                self._describe({a: v for a in ATTRIBUTES if (v := getattr(spec, a)) is not None})
            return
        index = self._earlier(spec) if start.value == "the" else None
        if index is None:
            index = len(self.things)
            self.things.append(spec)
            if spec.count > 1:
                self.family = index
        self._tie(index)

    def _divide(self, share: ThingSpec) -> None:
        """ "two cubes, one red and one blue": a share of the counted spec becomes a spec of its own."""
        assert self.family is not None
        whole = self.things[self.family]
        said = {a: v for a in ATTRIBUTES if (v := getattr(share, a)) is not None}
        self.things[self.family] = dataclasses.replace(whole, count=whole.count - 1)
        self.things.append(dataclasses.replace(whole, count=1, **said))
        self.last = len(self.things) - 1

    def _earlier(self, spec: ThingSpec) -> int | None:
        """The thing that "the ..." speaks of again, if it was named before. A waiting subject is not its own object."""
        barred = self.pending[0] if self.pending else None
        said = [a for a in ATTRIBUTES if getattr(spec, a) is not None]
        for k, earlier in enumerate(self.things):
            if k != barred and earlier.count == spec.count and spec.kind is not None and earlier.kind == spec.kind:
                known = dataclasses.replace(spec, **{a: None for a in said if getattr(earlier, a) is None})
                if fits(known, earlier):
                    return k
        return None

    def _tie(self, index: int) -> None:
        self.last = index
        if self.pending:
            self._relate(*self.pending, index)
            self.pending = None
        elif self.fronted:
            relation, object = self.fronted
            self.fronted = (relation, index) if object is None else None
            if object is not None:
                self._relate(index, relation, object)
        if self.side:
            self.placed[self.side].append(index)
            self.side = None
