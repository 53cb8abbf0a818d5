"""What t5-lite has learned by reading: masked words restored, and the gate on text-only words."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from imagen_lite.recipes.spans import EOS, FIRST_SENTINEL, PAD, pad
from imagen_lite.scenes import words
from imagen_lite.scenes.corpus import documents, fill_context, gate_items
from imagen_lite.text import FrozenTextEncoder

HELD_OUT = 1  # seed of the corpus; training has another


def meanings() -> dict[str, tuple[str, str]]:
    """Word -> (attribute, value), for every single word of the lexicon that names one."""
    tables = words.PICTURE_WORDS | {"surface": words.SURFACE_NOUNS, "light": words.LIGHT_NOUNS}
    found = {
        word: (attribute, value)
        for attribute, table in tables.items()
        for value, names in table.items()
        for word in names
        if word.isalpha()
    }
    return found | words.TEXT_ONLY


@torch.no_grad()
def masked_word_accuracy(model: nn.Module, tokenizer: Tokenizer, count: int = 1000) -> dict[str, dict[str, float]]:
    """How often the model restores one masked word of held-out documents: {category: {"n", "exact", "meaning"}}.

    Greedy decoding of the masked span. "meaning" also accepts a synonym: text often leaves open which one it was.
    """
    known, rng = meanings(), np.random.default_rng(0)
    names = {tokenizer.token_to_id(f"▁{word}"): word for word in known}
    score: dict[str, list[tuple[bool, bool]]] = {}
    device = next(model.parameters()).device
    for start in range(0, count, 100):
        rows = [e.ids for e in tokenizer.encode_batch(list(islice(_held_out(start), 100)), add_special_tokens=False)]
        places = [[i for i, token in enumerate(row) if token in names] for row in rows]
        masked = [(row, int(rng.choice(place))) for row, place in zip(rows, places, strict=True) if place]
        source = pad([[*row[:i], FIRST_SENTINEL, *row[i + 1 :], EOS] for row, i in masked], PAD, device)
        prompt = torch.tensor([[PAD, FIRST_SENTINEL]], device=device).expand(len(masked), -1)
        logits = model(input_ids=source, attention_mask=source != PAD, decoder_input_ids=prompt).logits[:, 1]
        for (row, i), guess in zip(masked, logits.argmax(-1).tolist(), strict=True):
            meaning = known[names[row[i]]]
            right = (guess == row[i], known.get(names.get(guess, "")) == meaning)
            for category in ("all", meaning[0], *(["text-only"] if names[row[i]] in words.TEXT_ONLY else [])):
                score.setdefault(category, []).append(right)
    return {
        category: {
            "n": len(s),
            "exact": round(float(np.mean(s, 0)[0]), 4),
            "meaning": round(float(np.mean(s, 0)[1]), 4),
        }
        for category, s in sorted(score.items())
    }


def _held_out(start: int) -> Iterator[str]:
    return islice(documents(HELD_OUT), start, None)


def gate(encoder: FrozenTextEncoder) -> dict[str, tuple[str, bool]]:
    """Text-only word -> (nearest picture word, whether that is right), by the encoder's vectors in context.

    A word's vector is the mean over its tokens and contexts. Nearest by cosine, after the mean over all candidates is
    subtracted: what every word at this place has in common says nothing.
    """
    result = {}
    for item in gate_items():
        candidates = torch.stack([_in_context(encoder, word, item.contexts) for word in item.candidates])
        mean = candidates.mean(0)
        vector = _in_context(encoder, item.word, item.contexts) - mean
        nearest = item.candidates[int(F.cosine_similarity(candidates - mean, vector[None]).argmax())]
        result[item.word] = (nearest, nearest in item.expected)
    return result


def _in_context(encoder: FrozenTextEncoder, word: str, contexts: Sequence[str]) -> Tensor:
    """The word's vector (D,), averaged over its tokens and the contexts."""
    captions = [fill_context(context, word) for context in contexts]
    text, vectors = encoder(captions), []
    for caption, tokens in zip(captions, text.tokens, strict=True):
        start = f" {caption} ".index(f" {word} ")
        offsets = encoder.tokenizer.tokenizer.encode(caption, add_special_tokens=False).offsets
        inside = [i for i, (a, b) in enumerate(offsets) if a < start + len(word) and b > start]
        vectors.append(tokens[inside].mean(0))
    return torch.stack(vectors).mean(0)
