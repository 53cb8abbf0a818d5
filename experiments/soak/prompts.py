"""Nonsense for prompts: bytes, all scripts, control characters, lone surrogates, emoji, a megabyte, nothing."""

import os
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from experiments.soak.outcome import Asked, Hangs, Tally, digest, in_time
from imagen_lite import cli, weights
from imagen_lite.cascade import Sample
from imagen_lite.inputs import LONGEST_PROMPT, check_prompts
from imagen_lite.scenes import parse
from imagen_lite.scenes.words import KNOWN_WORDS
from imagen_lite.text import CaptionTokenizer

WORDS = sorted(KNOWN_WORDS)
PIECES = (
    "\u200f", "\u202e", "\u0000", "\x1b[2J", "\r\n", "\ufeff", "\ud800", "\udfff", "e\u0301" * 9, "²", "①", "٣",
    "\U0001f469\u200d\U0001f467", "\U0001f3f3\ufe0f\u200d\U0001f308",
    "../../etc/passwd", "C:\\con", "$(rm -rf .)", "; ls", "%s%n", "{0}", "<|endoftext|>", "</s>", "-o", "--help",
    "letter", "'", '"', "-block", " on the left", "1" * 40,
)  # fmt: skip
LONG = 1_000_000
SECONDS = 20  # until a prompt counts as hanging


def prompt(rng: random.Random) -> str:
    """A prompt of one of the kinds."""
    kind, size = rng.randrange(6), int(10 ** rng.uniform(0, 2.5))
    if kind == 0:
        return rng.randbytes(size).decode(errors="replace")
    if kind == 1:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(size))  # surrogates too
    if kind == 2:
        return "".join(rng.choice("\t\n\v\f\r \u00a0\u2028\u3000") for _ in range(size - 1))
    if kind == 3:
        return " ".join(rng.choice((*WORDS, *PIECES)) for _ in range(size // 4 + 1))
    if kind == 4:
        first = rng.randrange(0x20, 0x3000)  # a script, as good as
        return "".join(chr(first + rng.randrange(64)) for _ in range(size))
    return "a red cone " + "".join(rng.choice((*PIECES, " ", "a")) for _ in range(size // 8))


def many(seed: int, count: int) -> Iterator[str]:
    """`count` prompts, of them one in 5,000 a megabyte long."""
    rng = random.Random(seed)
    for number in range(count):
        text = prompt(rng)
        yield text if number % 5000 else ((text or " ") * (LONG // max(1, len(text)) + 1))[:LONG]


def read(asked: Asked) -> dict[str, Any]:
    """Through the checks, the tokenizer and the parser: nothing is raised but what the checks document."""
    tally = Tally()
    tokenizer = CaptionTokenizer(weights.DATA / "weights" / "t5-lite-base" / "tokenizer.json", 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is cut off is said, of every long one
        for text in many(asked.seed, asked.prompts):
            tally.add(reading(text, tokenizer))
    return tally.outcome(
        f"one in 5,000 has {LONG:,} characters; the parser is given {LONGEST_PROMPT:,} of them, as all"
    )


def reading(text: str, tokenizer: CaptionTokenizer) -> str | None:
    """What goes wrong with one prompt: in the parser, only as much of it as the checks let through."""
    part = "check_prompts"
    try:
        with in_time(SECONDS):
            try:
                check_prompts([text])
            except ValueError as error:
                if len(str(error)) > 3 * LONGEST_PROMPT:
                    return f"{part}: a message of {len(str(error)):,} characters"
            part = "tokenizer"
            ids, mask = tokenizer([text])
            if ids.shape != mask.shape or not 1 <= ids.shape[1] <= 64:
                return f"{part}: {tuple(ids.shape)}"
            part = "parse"
            parse(text[:LONGEST_PROMPT])
    except Hangs as error:
        return f"{part}: {error}"
    except Exception as error:
        return f"{part}: {type(error).__name__} ({str(error)[:40]})"
    return None


class Stub:
    """In the sampler's place: grey pictures, by the checks of the real one."""

    def describe(self) -> str:
        """As a cascade's."""
        return "a stub"

    def sample(self, prompts: list[str], **_: Any) -> Sample:
        """Grey."""
        prompts = check_prompts(prompts)
        images = torch.zeros(len(prompts), 3, 8, 8)
        return Sample(images, {8: images}, prompts, list(range(len(prompts))))


def called(asked: Asked) -> dict[str, Any]:
    """Through the command line's entry, in process: a picture or one sentence, and no other file."""
    tally, drawn = Tally(), 0
    with tempfile.TemporaryDirectory() as temporary:
        here = Path.cwd()
        os.chdir(temporary)
        try:
            for text in many(asked.seed + 1, asked.calls):
                trouble, code = calling(text, Path(temporary))
                drawn += code == 0
                tally.add(trouble)
        finally:
            os.chdir(here)
    return tally.outcome(f"{drawn:,} drawn, the others refused in a sentence")


def calling(text: str, folder: Path) -> tuple[str | None, int]:
    """What goes wrong with one call, and its exit code."""
    code, out, err = 0, TextIOWrapper(BytesIO(), "utf-8"), TextIOWrapper(BytesIO(), "utf-8", errors="backslashreplace")
    stubs = (
        mock.patch("imagen_lite.cascade.load_cascade", lambda device=None, folder=None: Stub()),
        mock.patch.object(cli, "_say_what_is_seen", lambda images, captions: None),
        mock.patch.object(sys, "argv", ["imagen-lite", "sample", "-o", "out.png", "--", text]),
    )
    try:
        with stubs[0], stubs[1], stubs[2], redirect_stdout(out), redirect_stderr(err), in_time(SECONDS):
            cli.main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except BaseException as error:
        return f"{type(error).__name__} ({str(error)[:60]})", -1
    err.seek(0)
    told, files = err.read(), list(digest(folder))
    (folder / "out.png").unlink(missing_ok=True)
    if code not in (0, 1) or files != (["out.png"] if code == 0 else []):
        return f"exit code {code}, files {files}", code
    sentence = told.splitlines()[-1].startswith("imagen-lite: ") if code and told else not code
    return (None if sentence else f"says {told[-80:]!r}"), code
