"""From documents to batches of T5's pre-training task: a tokenizer, span corruption, padding."""

import json
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

PAD, EOS, UNK, SENTINELS = 0, 1, 2, 32
SPECIAL = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{n}>" for n in range(SENTINELS))]
FIRST_SENTINEL = SPECIAL.index("<extra_id_0>")
IGNORED = -100  # a label that does not count


def train_tokenizer(texts: Iterable[str], vocabulary: int, whole_words: Iterable[str]) -> Tokenizer:
    """A lower-casing unigram tokenizer in which words and punctuation never share a piece.

    Each of `whole_words` is one token, wherever it stands; the trained pieces (about `vocabulary`, or as many as the
    texts support) spell all other words.
    """
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    parts = [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Punctuation("isolated"),
        pre_tokenizers.Metaspace(prepend_scheme="always"),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", EOS)])
    return _with_words(tokenizer, whole_words)


def _with_words(tokenizer: Tokenizer, words: Iterable[str]) -> Tokenizer:
    """The tokenizer with each word as a piece of log-probability 0, which no split of it can beat."""
    state = json.loads(tokenizer.to_str())
    scores = dict(state["model"]["vocab"]) | {f"▁{word}": 0.0 for word in sorted(words)}
    state["model"]["vocab"] = [[piece, score] for piece, score in scores.items()]
    return Tokenizer.from_str(json.dumps(state))


def corrupt(
    ids: Sequence[int], rng: np.random.Generator, density: float, mean_span: float
) -> tuple[list[int], list[int]]:
    """Span corruption (Raffel et al. 2020): spans of `ids` become sentinels, the target says what they were.

        a red cone on the grass  ->  a <0> on the <1> </s>   and   <0> red cone <1> grass </s>

    About `density` of the tokens is masked, in spans of `mean_span` on average that never touch.
    """
    masked = min(max(1, round(len(ids) * density)), len(ids) - 1)
    spans = min(max(1, round(masked / mean_span)), len(ids) - masked, SENTINELS)
    gaps = _parts(len(ids) - masked + 2, spans + 1, rng)  # the first and the last gap may be empty
    gaps[0], gaps[-1] = gaps[0] - 1, gaps[-1] - 1
    source: list[int] = []
    target: list[int] = []
    at = 0
    for n, (gap, span) in enumerate(zip(gaps[:-1], _parts(masked, spans, rng), strict=True)):
        source += [*ids[at : at + gap], FIRST_SENTINEL + n]
        target += [FIRST_SENTINEL + n, *ids[at + gap : at + gap + span]]
        at += gap + span
    return [*source, *ids[at:], EOS], [*target, EOS]


def _parts(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`total` as a random sum of `count` positive integers."""
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def pad(rows: Sequence[Sequence[int]], value: int, device: torch.device | str = "cpu") -> Tensor:
    """(B, longest) int64, filled up with `value`."""
    table = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(table).to(device)
