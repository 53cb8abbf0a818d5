"""What is asked of the faults, how their outcomes are counted, and the processes they are done to."""

import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.results import ROOT

PATIENCE = 240  # seconds until a process counts as hanging


@dataclass(frozen=True)
class Asked:
    """How much harm: kills of a training, broken files, prompts read and called, the page's sessions and minutes."""

    seed: int = 0
    kills: int = 50
    cases: int = 400
    prompts: int = 100_000
    calls: int = 1000
    sessions: int = 10
    minutes: float = 5.0
    notebooks: tuple[str, ...] = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09")


@dataclass
class Tally:
    """Trials counted; of those lost, what happened."""

    tried: int = 0
    troubles: list[str] = field(default_factory=list)

    def add(self, trouble: str | None) -> None:
        """One more trial; None says that it survived."""
        self.tried += 1
        if trouble:
            self.troubles.append(trouble)

    def outcome(self, note: str = "") -> dict[str, Any]:
        """{tried, survived, lost, note}; the note names the commonest troubles."""
        told = [f"{count} × {trouble}" for trouble, count in Counter(self.troubles).most_common(5)]
        lost = len(self.troubles)
        return {
            "tried": self.tried,
            "survived": self.tried - lost,
            "lost": lost,
            "note": "; ".join([note, *told] if note else told),
        }


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (None: it hung and was killed), what it wrote, and its last line of errors."""

    code: int | None
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr, where the sentence for the user stands."""
        lines = self.err.replace("\r", "\n").strip().splitlines()
        return lines[-1] if lines else ""

    def trouble(self, code: int, *words: str) -> str | None:
        """What is wrong with it, if it should have ended with that code and a last line with these words."""
        if self.code is None:
            return "hangs"
        if "Traceback (most recent call last)" in self.err:
            return f"traceback ({self.last[:120]})"
        if self.code != code:
            return f"exit code {self.code}, not {code} ({self.last[:120]})"
        missing = [word for word in words if word not in self.last]
        return f"says nothing of {missing[0]!r}, but: {self.last[:160]}" if missing else None


def start(
    arguments: Sequence[str], environment: dict[str, str | None] | None = None, folder: Path | None = None,
    before: Callable[[], None] | None = None, within: Sequence[str] = (),
) -> subprocess.Popen:  # fmt: skip
    """A Python process on one thread, with the repository importable.

    Args:
        environment: what is set beyond what is set here; None takes a variable away.
        folder: where it runs. before: called in it before it begins. within: a command that starts it.
    """
    settings: dict[str, str | None] = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    settings |= environment or {}
    return subprocess.Popen(
        [*within, sys.executable, *arguments], cwd=folder or ROOT, preexec_fn=before, text=True,
        env={name: value for name, value in settings.items() if value is not None},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace",
    )  # fmt: skip


def ended(process: subprocess.Popen, patience: float = PATIENCE) -> Ended:
    """Waits for a process; one that does not end is killed."""
    try:
        out, err = process.communicate(timeout=patience)
        return Ended(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return Ended(None, out, err)


def digest(folder: Path) -> dict[str, str]:
    """What the files of a folder hold, by name: to see that nothing changed, and nothing was left lying about."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Hangs(Exception):
    """What `in_time` raises."""


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raises Hangs in a block that takes longer; on the main thread, where there is SIGALRM."""

    def ring(number: int, frame: object) -> None:
        raise Hangs(f"more than {seconds:g} s")

    usual = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)


def bind_memory(more: float) -> tuple[int, int]:
    """From now on this process may hold `more` bytes beyond what it holds now, on Linux; returns the limits before."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    usual = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(more), usual[1]))
    return usual


@contextmanager
def memory_bound(more: float) -> Iterator[None]:
    """`bind_memory`, until the block ends."""
    import resource

    usual = bind_memory(more)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)
