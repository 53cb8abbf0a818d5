"""Recipe t5-lite-base: a small T5 v1.1, pre-trained by span corruption on text about the world alone.

    imagen-lite train t5-lite-base

CPU: 3,000 steps, about 9 minutes on 2 cores (bf16). GPU: the same command (not measured yet).
Expect what `data/weights/t5-lite-base/manifest.json` states: masked-word accuracy on held-out text, and the gate.
The decoder only serves the training; the encoder is exported, for Imagen uses it frozen (§2.1 of the paper).
"""

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.func import functional_call

from imagen_lite import data, weights
from imagen_lite.recipes.spans import EOS, FIRST_SENTINEL, IGNORED, PAD, SENTINELS, corrupt, pad, train_tokenizer
from imagen_lite.recipes.stages import forget
from imagen_lite.recipes.t5_scores import gate, masked_word_accuracy
from imagen_lite.scenes import words
from imagen_lite.scenes.corpus import documents
from imagen_lite.scenes.world import WORLD_VERSION
from imagen_lite.stage import default_device, default_dtype, hardware_name
from imagen_lite.t5 import T5Config
from imagen_lite.text import FrozenTextEncoder, load_text_encoder
from imagen_lite.train import Ema, Progress, TrainConfig, fit

FOLDER = weights.DATA / "weights" / "t5-lite-base"
GATE = 0.9  # share of text-only words that must be nearest to the right picture word
TRAINING = 0  # seed of the corpus; t5_scores has another
MILESTONES = tuple(4000 * 2**k for k in range(8))


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, but for the corpus.

    `density` is the share of a document that is masked, in spans of `mean_span` tokens. `encoder_share` weights the
    part of the loss that the encoder answers itself. The decoder of `decoder_layers` is thrown away after training.
    The learning rate is relative (see `UnitScale`).
    """

    train: TrainConfig = TrainConfig(batch=64, lr=1e-2, warmup=100, steps=3000, decay_from=1500, ema=0.99)
    encoder: T5Config = T5Config(d_model=256, d_kv=32, num_heads=8, num_layers=4, d_ff=384)  # the vocabulary follows
    decoder_layers: int = 1
    documents: int = 60_000
    max_length: int = 96
    density: float = 0.3
    mean_span: float = 1.5
    encoder_share: float = 1.0


class UnitScale(nn.Module):
    """A model whose weights are trained divided by their initial root mean square.

    T5's weights start at scales 90 times apart (0.011 for queries, 1 for embeddings); under one learning rate some jump
    about while others stand still, and the loss stays for long at what the words' frequencies alone give. T5 itself
    was trained with Adafactor, whose steps are relative to each weight's size; this gives AdamW the same.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self._model = (model,)  # in a tuple, so that its own weights are not parameters of this module
        self.scales = {name: float(p.detach().square().mean().sqrt()) for name, p in model.named_parameters()}
        units = {self._key(n): nn.Parameter(p.detach() / self.scales[n]) for n, p in model.named_parameters()}
        self.units = nn.ParameterDict(units)

    @staticmethod
    def _key(name: str) -> str:
        return name.replace(".", "/")  # ParameterDict allows no dots

    def weights(self) -> dict[str, Tensor]:
        """The model's weights by its own names, as functions of the trained ones."""
        return {name: self.units[self._key(name)] * scale for name, scale in self.scales.items()}

    def embedding(self) -> Tensor:
        """The token embeddings (V, D)."""
        return self.units["shared/weight"] * self.scales["shared.weight"]

    def forward(self, **inputs: Tensor) -> Any:
        """What the model gives with these weights."""
        return functional_call(self._model[0], self.weights(), (), inputs)


class SpanLoss:
    """The loss of a step: cross-entropy of the masked spans. Documents and masks follow from (seed, step) alone.

    To T5's loss, of what the decoder says, comes one of what the encoder's vector at each sentinel says by itself: with
    the decoder alone in between, the encoder learns late to look from word to word. One trial each, not a clean
    comparison (spans of 1.5 and 2 tokens): gate at 77 % after 900 steps with it, at 43 % after 3,000 without.

    A batch is a window into the documents in order of length, so that little of it is padding.
    """

    def __init__(self, model: UnitScale, rows: Iterable[list[int]], recipe: Recipe, dtype: torch.dtype):
        self.model, self.recipe, self.dtype = model, recipe, dtype
        self.rows = sorted((row[: recipe.max_length - 1] for row in rows if len(row) > 1), key=len)
        self.device = next(model.parameters()).device

    def __call__(self, step: int) -> Tensor:
        """Mean over the target tokens, a float32 scalar."""
        recipe, rng = self.recipe, np.random.default_rng([self.recipe.train.seed, step])
        start = int(rng.integers(max(1, len(self.rows) - recipe.train.batch)))
        rows = self.rows[start : start + recipe.train.batch]
        pairs = [corrupt(row, rng, recipe.density, recipe.mean_span) for row in rows]
        source, target = pad([s for s, _ in pairs], PAD, self.device), pad([t for _, t in pairs], IGNORED, self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output = self.model(input_ids=source, attention_mask=source != PAD, labels=target)
        decoded = F.cross_entropy(output.logits.float().flatten(0, 1), target.flatten(), ignore_index=IGNORED)
        return decoded + recipe.encoder_share * self._encoder_loss(output.encoder_last_hidden_state, source, target)

    def _encoder_loss(self, hidden: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """What each sentinel's own vector says of the first token of its span, by the (tied) embeddings."""
        embedding = self.model.embedding()  # (V, D)
        guess = hidden[_is_sentinel(source)].float() @ embedding.T * embedding.shape[1] ** -0.5
        starts = _is_sentinel(target).nonzero()  # in the order of the sentinels of `source`
        return F.cross_entropy(guess, target[starts[:, 0], starts[:, 1] + 1])


def _is_sentinel(ids: Tensor) -> Tensor:
    return (ids >= FIRST_SENTINEL) & (ids < FIRST_SENTINEL + SENTINELS)


def tokenizer_for(texts: Sequence[str]) -> Tokenizer:
    """The corpus's tokenizer: its words, those of the world and punctuation are whole, other words are spelled."""
    counts = Counter(word for text in texts for word in words.split(text))
    common = {word for word, count in counts.items() if count >= 5}
    return train_tokenizer(texts, 600, {*words.KNOWN_WORDS, *common, *".,:;?!'\"-"})


def _tokenizer(texts: Sequence[str], run: Path) -> Tokenizer:
    """The tokenizer of a run that goes on, which its weights depend on, or a new one."""
    path = run / "tokenizer.json"
    if not (path.exists() and (run / "state.safetensors").exists()):
        weights.write_atomic(path, tokenizer_for(texts).to_str())
    return Tokenizer.from_file(str(path))


def build(recipe: Recipe, vocabulary: int) -> nn.Module:
    """A `transformers` T5 v1.1 with random weights, no dropout, and tied embeddings (as that library has it)."""
    from transformers import T5Config as ReferenceConfig
    from transformers import T5ForConditionalGeneration

    shape: dict[str, Any] = dataclasses.asdict(recipe.encoder) | {"vocab_size": vocabulary, "dropout_rate": 0.0}
    torch.manual_seed(recipe.train.seed)
    shape |= {"num_decoder_layers": recipe.decoder_layers, "decoder_start_token_id": PAD}
    model = T5ForConditionalGeneration(ReferenceConfig(**shape))
    model.set_attn_implementation("eager")  # sdpa is slower here: the bias wants a gradient
    for name, parameter in model.named_parameters():
        if "relative_attention_bias" in name:
            nn.init.normal_(parameter)  # heads that look near and far from the start
    return model


def run(
    max_minutes: float | None = None, device: str | None = None, *, fresh: bool = False,
    out: Path = FOLDER, run_folder: Path | None = None, recipe: Recipe | None = None,
) -> Path:  # fmt: skip
    """Train, or go on training, and export the encoder (the average of its last weights) to `out`.

    Args:
        max_minutes: stop and export after this long; None trains to the recipe's last step.
        device: "cuda" or "cpu"; None picks.
        fresh: forget the run's checkpoint.

    Returns:
        `out`. The scores are printed, and stand in its manifest.
    """
    where, recipe = default_device(device), recipe or Recipe()
    folder = run_folder or data.cache_folder() / "runs" / "t5-lite-base"
    if fresh:
        forget(folder)
    print(f"writing {recipe.documents:,} documents")
    texts = list(islice(documents(TRAINING), recipe.documents))
    tokenizer = _tokenizer(texts, folder)
    rows = (e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False))
    reference = build(recipe, tokenizer.get_vocab_size()).to(where)
    model = UnitScale(reference)
    # float16 would need its gradients scaled, which is not worth it at this size
    dtype = torch.bfloat16 if default_dtype(where) == torch.bfloat16 else torch.float32

    def milestone(current: nn.Module, _: Ema, progress: Progress) -> dict[str, Any]:
        accuracy = masked_word_accuracy(current, tokenizer, 300)["all"]
        print(f"\nafter {progress.pictures:,} documents: masked words restored {accuracy['exact']:.1%}")
        return {"masked_words": accuracy}

    loss = SpanLoss(model, rows, recipe, dtype)
    ema, progress = fit(
        model, loss, recipe.train, folder, max_minutes=max_minutes, milestones=MILESTONES, on_milestone=milestone
    )
    ema.copy_to(model)
    reference.load_state_dict(model.weights(), strict=False)  # not strict: tied weights have several names
    manifest = {
        "recipe": "t5-lite-base", "world": WORLD_VERSION, "corpus": recipe.documents, "steps": progress.step,
        "documents_seen": progress.pictures, "minutes": round(progress.seconds / 60, 1), "torch": torch.__version__,
        "hardware": hardware_name(where),
        "masked_words": masked_word_accuracy(model, tokenizer), "train": dataclasses.asdict(recipe.train),
    }  # fmt: skip
    for category, row in manifest["masked_words"].items():
        print(f"masked words, {category}: {row['exact']:.1%} exact, {row['meaning']:.1%} in meaning (n = {row['n']})")
    export(reference, tokenizer, recipe, manifest, folder / "export")
    manifest |= {"gate": _gate_report(load_text_encoder(folder / "export", where))}
    export(reference, tokenizer, recipe, manifest, out)
    print(f"wrote {out}")
    return out


def export(model: Any, tokenizer: Tokenizer, recipe: Recipe, manifest: dict[str, Any], out: Path) -> None:
    """The encoder alone, as a folder that `load_text_encoder` and `transformers` read: float16, with its tokenizer."""
    tensors = {f"encoder.{name}": tensor for name, tensor in model.encoder.state_dict().items()}
    tensors["shared.weight"] = tensors.pop("encoder.embed_tokens.weight")
    encoder = dataclasses.replace(recipe.encoder, vocab_size=tokenizer.get_vocab_size())
    config = {"architectures": ["T5EncoderModel"], "model_type": "t5"} | dataclasses.asdict(encoder)
    config |= {"n_positions": recipe.max_length, "pad_token_id": PAD, "eos_token_id": EOS, "dropout_rate": 0.0}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": recipe.max_length}
    about |= {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    weights.write_atomic(out / "tokenizer.json", tokenizer.to_str())
    weights.write_atomic(out / "tokenizer_config.json", json.dumps(about, indent=2) + "\n")
    manifest = manifest | {"tokenizer_sha256": weights.sha256(out / "tokenizer.json")}
    weights.save_pretrained(out, tensors, config, manifest)


def _gate_report(encoder: FrozenTextEncoder) -> dict[str, Any]:
    """Prints the gate word by word; returns what the manifest keeps of it."""
    result = gate(encoder)
    right = sum(ok for _, ok in result.values())
    share, wrong = right / len(result), {word: nearest for word, (nearest, ok) in result.items() if not ok}
    verdict = "passed" if share >= GATE else f"not passed, {GATE:.0%} is needed: train longer"
    print(f"gate: {right} of {len(result)} text-only words are nearest to the right word ({share:.0%}): {verdict}")
    print("wrong: " + (", ".join(f"{word} -> {nearest}" for word, nearest in wrong.items()) or "none"))
    return {"n": len(result), "share": round(share, 4), "passed": share >= GATE, "wrong": wrong}


def main() -> None:
    """Command line: python -m imagen_lite.recipes.t5_lite --max-minutes 12."""
    parser = argparse.ArgumentParser(description="Pre-train t5-lite-base and export its encoder.")
    parser.add_argument("--max-minutes", type=float, help="stop after this long; run again to go on")
    parser.add_argument("--device", help="cuda or cpu; the best there is if not given")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the exported encoder")
    parser.add_argument("--fresh", action="store_true", help="start again")
    options = parser.parse_args()
    run(options.max_minutes, options.device, fresh=options.fresh, out=options.out)


if __name__ == "__main__":
    main()
