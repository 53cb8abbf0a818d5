"""The text-only corpus says true things, in the words it promises, the same ones each time."""

import random
import re
from collections import Counter
from itertools import islice

import pytest

from imagen_lite.scenes import corpus, words
from imagen_lite.scenes.parse import parse, satisfied
from imagen_lite.scenes.world import COLORS, KINDS

DOCUMENTS = list(islice(corpus.documents(0), 4000))


def test_documents_are_deterministic_and_varied():
    assert list(islice(corpus.documents(0), 50)) == DOCUMENTS[:50]
    assert list(islice(corpus.documents(1), 50)) != DOCUMENTS[:50]
    assert len(set(DOCUMENTS)) > 0.9 * len(DOCUMENTS)


def test_documents_are_plain_sentences():
    """Every slot filled, articles right, one to a few sentences, lower-case but for letters on blocks."""
    for text in DOCUMENTS:
        assert not set("{}_") & set(text) and "  " not in text, text
        assert re.fullmatch(r"[a-zA-Z0-9 ,.:?!-]+[.?!]", text), text
        assert not re.search(r"\ba [aeio][a-z]|\ban [^aeioA-Z]", text), text
        assert all(len(found) == 1 for found in re.findall(r"[A-Z]+", text)), text
        assert len(text.split()) <= 90, text


def test_every_word_is_read_often():
    """Text-only words and picture words both stand in a good share of the documents, in either number for nouns."""
    read = Counter(word for text in DOCUMENTS for word in set(words.split(text)))
    assert min(read[word] for word in words.TEXT_ONLY) > 0.02 * len(DOCUMENTS)
    assert min(read[word] for word in (*COLORS, *KINDS, "ball", "block", "big", "tiny", "dull")) > 0.02 * len(DOCUMENTS)


def test_synonyms_meet_in_one_document():
    """A text-only word often stands beside a picture word of its own meaning, seldom beside only another's."""
    for word in ("crimson", "azure", "emerald", "orb", "cottage", "toadstool"):
        attribute, value = words.TEXT_ONLY[word]
        texts = [set(words.split(text)) for text in DOCUMENTS if re.search(rf"\b{word}\b", text)]
        own = sum(bool(t & set(words.PICTURE_WORDS[attribute][value])) for t in texts)
        for other, names in words.PICTURE_WORDS[attribute].items():
            assert other == value or own > 1.5 * sum(bool(t & set(names)) for t in texts), (word, other)


def test_paraphrases_are_true():
    """Both halves of a paraphrase are true of one scene, and leave nothing in it out."""
    rng = random.Random(2)
    for _ in range(300):
        scene = corpus._scene(rng)
        text = corpus._paraphrase(scene, rng).removesuffix(".")
        link = next(f". {link} " for link in corpus._LINKS if f". {link} " in text)
        for half in text.split(link):
            assert satisfied(parse(half), scene, exact=True) == [], text


def test_slots_keep_their_meaning():
    """Within a document each mention of a slot may change its word, never its value; other slots differ from it."""
    for seed in range(300):
        binding = corpus._Binding(random.Random(seed))
        text = binding.fill("{color} {color} {color!} {color?} {color2} {kind} {kind!} {kind2}")
        meaning = {w: v for v, names in words.PICTURE_WORDS["color"].items() for w in names}
        meaning |= {w: v for w, (a, v) in words.TEXT_ONLY.items() if a == "color"}
        values = [meaning[word] for word in text.split()[:5]]
        assert len(set(values[:4])) == 1 and values[4] != values[0]
        assert text.split()[2] in COLORS and text.split()[3] in words.TEXT_ONLY


def test_glosses_speak_of_the_right_word():
    """Each gloss names a picture word of its meaning, and stands after the word it explains."""
    assert corpus.GLOSSES.keys() == words.TEXT_ONLY.keys()
    for word, gloss in corpus.GLOSSES.items():
        attribute, value = words.TEXT_ONLY[word]
        assert set(words.split(gloss)) & set(corpus._vocabulary(attribute)[value]), word
    for seed in range(100):
        text = corpus._Binding(random.Random(seed)).fill("{color?} is {gloss:color}.")
        word, gloss = text.rstrip(".").split(" is ")
        assert corpus.GLOSSES[word] == gloss


def test_facts_cover_colours_and_kinds():
    assert set(corpus.FACTS) == {*COLORS, *KINDS}


def test_gate_items():
    """One per text-only word; the right words are among the candidates, no text-only word is; contexts parse."""
    items = corpus.gate_items()
    assert [item.word for item in items] == list(words.TEXT_ONLY)
    for item in items:
        assert item.expected and set(item.expected) < set(item.candidates)
        assert not set(item.candidates) & words.TEXT_ONLY.keys()
        assert len(item.contexts) >= 4 and len(set(item.contexts)) == len(item.contexts)
        for context in item.contexts:
            filled = corpus.fill_context(context, item.word)
            assert item.word in filled.split() and parse(filled).unknown == ()
            meant = [parse(corpus.fill_context(context, word)) for word in item.expected]
            assert all(claims == parse(filled) for claims in meant), filled


@pytest.mark.parametrize(("word", "filled"), [("ivory", "an ivory cone"), ("red", "a red cone")])
def test_contexts_keep_their_article(word, filled):
    assert corpus.fill_context("a {} cone", word) == filled
