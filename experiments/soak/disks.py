"""Disks that refuse: full ones, read-only ones, and no home folder."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.results import ROOT
from experiments.soak.outcome import Asked, Tally, digest, ended, start
from imagen_lite.text import EmbeddingCache

ROOM = 100_000  # bytes that are left
WRITERS = {  # victim -> what it wrote before, and is to be whole afterwards; the arguments of the second time
    "checkpoint": ("3",), "model": (), "picture": (), "shard": (), "embeddings": ("100",),
}  # fmt: skip
NOBODY = "54321"  # a user without a name or a home
READ_ONLY = (  # in a mount namespace of its own: nothing outside sees it
    "unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"',
)  # fmt: skip
VICTIM = ("-m", "experiments.soak.victim")
SAMPLE = ("-m", "imagen_lite.cli", "sample", "a red cone", "--steps", "2", "--resolution", "64", "-o")
DRAWS: tuple[tuple[str, tuple[str, ...], dict[str, str | None]], ...] = (  # each is to draw all the same
    ("a read-only repository", (*READ_ONLY, str(ROOT)), {"PYTHONDONTWRITEBYTECODE": "1"}),
    ("no HOME", (), {"HOME": None}),
    ("a HOME that is not there", (), {"HOME": "/nonexistent/home"}),
    ("a user without a name", ("setpriv", "--reuid", NOBODY, "--clear-groups"), {"HOME": None}),
)


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A folder on a disk of 8 MB of its own; None where nothing may be mounted."""
    with tempfile.TemporaryDirectory() as temporary:
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", temporary]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(temporary)
        finally:
            subprocess.run(["umount", "-l", temporary], check=True)


def fill(disk: Path) -> None:
    """Leaves `ROOM` bytes."""
    free = os.statvfs(disk)
    with open(disk / "filler", "wb") as file:
        file.write(bytes(free.f_bavail * free.f_frsize - ROOM))


def bound_files() -> None:
    """No file may grow beyond `ROOM`: EFBIG where a full disk says ENOSPC."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))


def full(asked: Asked) -> dict[str, Any]:
    """Each kind of file is written whole, and then again with no room for it: one sentence, the old one whole."""
    tally, ways = Tally(), ["RLIMIT_FSIZE"]
    for name, before in WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            tally.add(write_full(name, before, Path(folder), bound_files))
        with small_disk() as disk:
            if disk:
                tally.add(write_full(name, before, disk, None))
                ways = ["a full tmpfs", "RLIMIT_FSIZE"]
    return tally.outcome(f"{', '.join(WRITERS)}; by {' and '.join(ways)}")


def write_full(name: str, before: tuple[str, ...], disk: Path, bound: Callable[[], None] | None) -> str | None:
    """One victim on a disk that is full when it writes; what is wrong with how it takes that."""
    folder = disk / "kept"
    folder.mkdir()
    victim = (*VICTIM, name, str(folder))
    few = ("1",) if name == "embeddings" else before
    if name != "shard" and (trouble := ended(start([*victim, *few])).trouble(0)):
        return f"{name}: {trouble}"
    if bound is None:
        fill(disk)
    kept = whole(folder)
    trouble = ended(start([*victim, *(("6",) if name == "checkpoint" else before)], before=bound)).trouble(1, "free")
    changed = sorted(set(whole(folder).items()) ^ set(kept.items()))
    return f"{name}: {trouble}" if trouble else f"{name}: changed or left behind {changed[0][0]}" if changed else None


def whole(folder: Path) -> dict[str, str]:
    """What must not change: not a training's log, and of a database what is read of it.

    A shard's captions are written before its pictures, and count for nothing without them.
    """
    found = digest(folder)
    if "text.sqlite" in found:
        return {"x": str(EmbeddingCache(folder / "text.sqlite")(["x"]).tokens.sum())}
    captions = [name for name in found if name.endswith(".json") and name.removesuffix(".json").isdigit()]
    nothing = [name for name in captions if name.replace(".json", ".npy") not in found]
    return {name: content for name, content in found.items() if name not in (*nothing, "log.jsonl", "lock")}


def read_only(asked: Asked) -> dict[str, Any]:
    """Sampling from a repository that nobody may write to works, and without a home; writing there is refused."""
    tally, skipped = Tally(), list[str]()
    with tempfile.TemporaryDirectory() as temporary:
        folder, closed = Path(temporary), Path(temporary) / "closed"
        folder.chmod(0o777)
        closed.mkdir()
        tally.add(ended(start([*VICTIM, "embeddings", str(closed), "5"])).trouble(0))
        for name, within, environment in DRAWS:
            if subprocess.run([*within, sys.executable, "-c", ""], capture_output=True).returncode:
                skipped.append(name)
                continue
            out = folder / f"{tally.tried}.png"
            trouble = ended(start([*SAMPLE, str(out)], environment, folder, within=within)).trouble(0)
            tally.add(f"{name}: {trouble}" if trouble else None if out.exists() else f"{name}: no picture")
        within = (*READ_ONLY, str(closed))
        if subprocess.run([*within, "true"], capture_output=True).returncode:
            skipped.append("a read-only folder")
        else:
            refused(closed, folder, within, tally)
    return tally.outcome("cannot be done here: " + ", ".join(skipped) if skipped else "a user without a name, too")


def refused(closed: Path, folder: Path, within: tuple[str, ...], tally: Tally) -> None:
    """Writing into a read-only folder is one sentence and changes nothing; reading embeddings there works."""
    for name, arguments, word in (
        ("sample", (*SAMPLE, str(closed / "new.png")), "name another folder"),
        ("checkpoint", (*VICTIM, "checkpoint", str(closed), "3"), "another folder"),
        ("model", (*VICTIM, "model", str(closed)), "name another folder"),
        ("embeddings", (*VICTIM, "embeddings", str(closed), "9"), "failed"),
    ):
        kept = digest(closed)
        trouble = ended(start(arguments, folder=folder, within=within)).trouble(1, word)
        tally.add(f"{name}: {trouble}" if trouble else None if digest(closed) == kept else f"{name}: changed")
    trouble = ended(start([*VICTIM, "embeddings", str(closed), "5"], within=within)).trouble(0)
    tally.add(f"reading embeddings: {trouble}" if trouble else None)
