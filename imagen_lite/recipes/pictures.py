"""Your own captioned pictures as a `Pool`: an image folder, or a set of the Hugging Face hub.

    my_folder/metadata.jsonl        {"file_name": "0001.png", "text": "a kite over the sea"}, a line for each picture
    my_folder/0001.png              of any size: the middle square is kept, made smaller with antialiasing

`datasets` reads them, in their order, once: they are kept in the cache folder, in shards as rendered pictures are, so
that training does not decode again, and reading that was interrupted goes on at the next shard. What cannot be used is
left out, and named in `left_out.jsonl` beside the shards.
"""

import hashlib
import io
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from imagen_lite.data import SHARD, Pool, cache_folder, read_shard
from imagen_lite.weights import WeightsError, hub_failure, write_atomic

CAPTIONS = ("text", "caption", "captions", "prompt")  # the columns that captions may stand in
LEFT_OUT = "left_out.jsonl"
TABLES = {".jsonl", ".csv", ".parquet"}
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class OwnPictures:
    """What was read: the pool, of what was left out the names and why, and the folder where all is kept."""

    pool: Pool
    left_out: list[tuple[str, str]]
    folder: Path

    def report(self, names: int = 10) -> str:
        """How many pictures there are, how many were left out, and the first of these by name."""
        lines = [f"{len(self.pool):,} pictures with captions; {len(self.left_out):,} left out"]
        lines += [f"  {name}: {reason}" for name, reason in self.left_out[:names]]
        if len(self.left_out) > names:
            lines.append(f"  and {len(self.left_out) - names:,} more, see {self.folder / LEFT_OUT}")
        return "\n".join(lines)


def own_pictures(
    source: str | Path, size: int = 64, *, count: int | None = None, streaming: bool = True, progress: bool = True
) -> OwnPictures:
    """Reads a folder's or a hub set's pictures (of its "train" split), or takes what was read of it before.

    Args:
        source: a folder with pictures and a metadata.jsonl; or a set of the hub, by its id or downloaded.
        size: pixels a side.
        count: stop after so many pictures; None takes all.
        streaming: read a hub set as it comes; False downloads it first.

    Raises:
        ValueError: no pictures with captions there; what is missing is said.
        WeightsError: no such folder, and a hub that has no such set or is out of reach.
        ImportError: `datasets` is not installed.
    """
    place = Path(source).expanduser()
    folder = _folder(place, str(source), size, count)
    if not (folder / LEFT_OUT).exists():
        rows, columns = _open(place, str(source), streaming)
        with tqdm(desc="reading pictures", unit="picture", disable=not progress) as bar:
            left_out = _read(rows, *columns, folder, size, count or sys.maxsize, bar)
        if _is_image_folder(place) and count is None:
            left_out += _not_mentioned(place, rows, columns[0])
        own = _stored(folder, [(name, reason) for name, reason in left_out])
        if not len(own.pool):
            raise ValueError(f"{source} holds no picture that can be used. " + own.report(3).replace("\n", ";"))
        write_atomic(folder / LEFT_OUT, "".join(json.dumps(entry) + "\n" for entry in left_out))  # last: all is there
    return _stored(folder, [tuple(json.loads(line)) for line in (folder / LEFT_OUT).read_text().splitlines()])


def _stored(folder: Path, left_out: list[tuple[str, str]]) -> OwnPictures:
    """What the shards of a folder hold."""
    shards = [read_shard(folder, k) for k in range(len([*folder.glob("?????.json")]))]
    texts = [own for _, told in shards for own in told["captions"]]
    return OwnPictures(
        Pool([pictures for pictures, _ in shards], texts, [[]] * len(texts), list(range(len(texts)))), left_out, folder
    )


def _is_image_folder(place: Path) -> bool:
    """Whether it is a folder of pictures, and not a set as the hub has it."""
    return place.is_dir() and not any(place.rglob("*.parquet"))


def _folder(place: Path, source: str, size: int, count: int | None) -> Path:
    """Where what is read of a source is kept: another folder as soon as one of its pictures or captions changes."""
    files = [path for path in place.rglob("*") if path.suffix.lower() in {*SUFFIXES, *TABLES}]
    name = place.resolve().name if place.is_dir() else source
    return cache_folder() / "pictures" / f"own-{kept_as(name, files, str(size), str(count))}"


def kept_as(name: str, files: Iterable[Path], *about: str) -> str:
    """The name, fit for a file, and a digest of all that it stands for: other files, or changed ones, another name."""
    parts = [name, *about]
    for path in sorted(path.resolve() for path in files if path.is_file()):
        parts.append(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}")
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") + f"-{digest}"


def _open(place: Path, source: str, streaming: bool) -> tuple[Any, tuple[str, str]]:
    """The rows of a source as `datasets` gives them, pictures not decoded; and which columns picture and text are."""
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise ImportError("`datasets` reads your own pictures: pip install -e '.[data,train]'") from error
    if not place.is_dir() and (failure := hub_failure(source, "dataset")):
        raise WeightsError(
            f"{source!r} is no folder here and the Hugging Face hub could not give a set of that name "
            f"({type(failure).__name__}); check the name and the network, or, offline, fetch it elsewhere with "
            f"`hf download --repo-type dataset {source}` and give the folder that this prints"
        ) from failure
    known: dict[str, Any] = {"path": str(place) if place.is_dir() else source}
    if _is_image_folder(place):
        if not [*place.rglob("metadata.jsonl"), *place.rglob("metadata.csv")]:
            raise ValueError(
                f"{place} has no metadata.jsonl; write one with a line for each picture: "
                f'{{"file_name": "0001.png", "text": "its caption"}}'
            )
        # All of it is to be trained on: left to itself, `datasets` takes a "test.png" for another split.
        known = {"path": "imagefolder", "data_dir": str(place), "data_files": {"train": "**"}}
    try:
        rows = datasets.load_dataset(**known, split="train", streaming=streaming)
    except (ValueError, IndexError, OSError, DatasetsError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{source} cannot be read ({told}); look at its metadata.jsonl, or its card on the hub"
        ) from error
    features = rows.features or {}
    picture = next((name for name, kind in features.items() if isinstance(kind, datasets.Image)), None)
    caption = next((name for name in CAPTIONS if name in features), None)
    if picture is None or caption is None:
        raise ValueError(
            f"{source} has the columns {', '.join(features) or 'of no known type'}; needed are pictures and one of "
            f"{', '.join(CAPTIONS)}: rename a column"
        )
    return rows.cast_column(picture, datasets.Image(decode=False)), (picture, caption)


def _read(rows: Any, picture: str, caption: str, folder: Path, size: int, count: int, bar: tqdm) -> list[list[str]]:
    """Writes the shards that are not there yet; returns what was left out, all of it, as [name, reason]."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = [read_shard(folder, k)[1] for k in range(len([*folder.glob("?????.json")]))]  # written last
    kept, seen = sum(len(s["captions"]) for s in shards), shards[-1]["seen"] if shards else 0
    bar.update(kept)
    numbered = enumerate(rows.skip(seen), seen + 1)
    while not shards or len(shards[-1]["captions"]) == SHARD:  # the last shard holds the rest
        pictures, captions, dropped = [], [], []
        while len(pictures) < min(SHARD, count - kept) and (entry := next(numbered, None)):
            seen, row = entry
            try:
                captions_of_it = _captions(row[caption])
                pictures.append(_square(row[picture], size))
                captions.append(captions_of_it)
                bar.update()
            except ValueError as reason:
                dropped.append([_name(row[picture], seen), str(reason)])
        kept += len(pictures)
        array = io.BytesIO()
        np.save(array, np.stack(pictures) if pictures else np.zeros((0, size, size, 3), np.uint8))
        write_atomic(folder / f"{len(shards):05d}.npy", array.getvalue())
        shards.append({"captions": captions, "seen": seen, "left_out": dropped})
        write_atomic(folder / f"{len(shards) - 1:05d}.json", json.dumps(shards[-1]))
    return [entry for shard in shards for entry in shard["left_out"]]


def _captions(value: Any) -> list[str]:
    """One caption, or several of the same picture. Raises ValueError: none."""
    texts = value if isinstance(value, list) else [value]
    texts = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    if not any(texts):
        raise ValueError("no caption")
    return [text for text in texts if text]


def _square(value: dict[str, Any] | None, size: int) -> np.ndarray:
    """The middle square of a picture, (size, size, 3) uint8. Raises ValueError: broken, or smaller than that."""
    if value is None:
        raise ValueError("no picture")
    content = io.BytesIO(_content(value))
    try:
        with Image.open(content) as file:
            deep, image = file.mode.startswith(("I", "F")), ImageOps.exif_transpose(file).convert("RGBA")
    except UnidentifiedImageError as error:
        raise ValueError("broken (no picture in it)") from error
    except Exception as error:  # Pillow raises many kinds for what is damaged
        raise ValueError(f"broken ({error})") from error
    if deep:
        raise ValueError("more than 8 bits a channel; save it with 8")
    if min(image.size) < size:
        raise ValueError(f"{image.width}×{image.height}, smaller than {size} px")
    white = Image.new("RGBA", image.size, "white")  # what shines through where a picture is transparent
    square = ImageOps.fit(Image.alpha_composite(white, image).convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return np.asarray(square)


def _content(value: dict[str, Any]) -> bytes:
    """A picture's bytes, from the row, a file, or the hub. Raises ValueError: no such file."""
    if value["bytes"]:
        return value["bytes"]
    from datasets.utils.file_utils import xopen

    try:
        with xopen(value["path"], "rb") as file:
            return file.read()
    except FileNotFoundError as error:  # any other error, such as the network's, ends the reading
        raise ValueError("there is no such file") from error


def _name(value: dict[str, Any] | None, row: int) -> str:
    path = (value or {}).get("path")
    return Path(path).name if path else f"row {row}"


def _not_mentioned(place: Path, rows: Any, picture: str) -> list[list[str]]:
    """The pictures of a folder that its metadata does not name."""
    named = {Path(row[picture]["path"]).resolve() for row in rows if row[picture]}
    files = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [[path.name, "not in the metadata"] for path in files if path.resolve() not in named]
