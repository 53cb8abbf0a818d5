"""Files that lie: truncated, flipped, swapped, hostile. Each is to end in one clear error, never in a wrong picture."""

import json
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from experiments.soak.outcome import Asked, Tally, in_time, memory_bound
from imagen_lite import weights
from imagen_lite.schedule import CosineSchedule
from imagen_lite.stage import Sampling, Stage, load_stage
from imagen_lite.train import TrainConfig, fit
from imagen_lite.unet import EfficientUNet, UNetConfig
from imagen_lite.weights import CONFIG, MANIFEST, TENSORS, WeightsError

SMALL = UNetConfig(
    channels=(16, 32), blocks=(1, 1), attention=(None, "self"), strides=(1, 2), text_dim=8, head_channels=16
)
MORE = 2e9  # bytes that reading a file of 100 KB may take
SECONDS = 20
DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
NONSENSE = (b"", b"\0" * 99, b"\xff\xfe\0", b"[1]", b"{", DEEP, b'{"unet": ' + b"9" * 5000 + b"}", b"null", b'"x"')
VALUES = (None, "x", -1, 0, 0.5, 10**9, 10**30, float("nan"), [], [1], [10**9, 32], [10**7, 1], {}, {"a": 1}, True)


def write_stage(folder: Path, seed: int = 0, resolution: int = 16) -> Path:
    """A small stage in a folder."""
    torch.manual_seed(seed)
    stage = Stage(EfficientUNet(SMALL), CosineSchedule(-8.0, 8.0), resolution, sampling=Sampling(steps=2))
    weights.save_pretrained(folder, stage.unet, stage.config(), {"recipe": "none"})
    return folder


def with_header(content: bytes, change: Callable[[dict], Any]) -> bytes:
    """A safetensors file with its header changed; bytes that `change` returns stand in its place."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    changed = change(header)
    written = changed if isinstance(changed, bytes) else json.dumps(changed or header).encode()
    return struct.pack("<Q", len(written)) + written + content[8 + size :]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Truncated, a bit flipped, a piece moved, or zeroed: never what it was."""
    at, kind = rng.randrange(len(content)), rng.randrange(4)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 2:
        return content + content[:100]
    return content[:at] + bytes(b ^ 0xA5 for b in content[at : at + 64]) + content[at + 64 :]


def hostile_headers(content: bytes) -> Iterator[bytes]:
    """Lengths and offsets that lie, numbers of other kinds, nesting, names twice."""
    for size in (2**63, 2**64 - 1, 10**12, 10**8 + 1, len(content), 0):
        yield struct.pack("<Q", size) + content[8:]

    def first(key: str, value: Any) -> Callable[[dict], None]:
        def change(header: dict) -> None:
            header[next(name for name in header if name != "__metadata__")][key] = value

        return change

    for value in ([0, 10**15], [10, 0], [-1, 5], [0, 1], "x", None, [2**64, 2**65]):
        yield with_header(content, first("data_offsets", value))
    for value in ([10**18, 10**18], [], [-1], [2**64], "x", [0], None):
        yield with_header(content, first("shape", value))
    for value in ("F64", "U8", "BOOL", "F8_E4M3", "X", 4, None):
        yield with_header(content, first("dtype", value))
    for written in (DEEP, b"\xff" * 100, b"{}", b"[]", b'{"__metadata__": 5}', b'{"a": {}}'):
        yield with_header(content, lambda _, written=written: written)


def paths(value: Any, here: tuple = ()) -> Iterator[tuple]:
    """Every place in a configuration."""
    if here:
        yield here
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from paths(value[key], (*here, key))


def altered(config: dict, rng: random.Random) -> tuple[str, bytes]:
    """A configuration with one place changed, taken away or doubled; and which, in words."""
    config = json.loads(json.dumps(config))
    *way, key = rng.choice([*paths(config)])
    parent, value = config, rng.choice(VALUES)
    for step in way:
        parent = parent[step]
    if isinstance(parent, dict) and rng.random() < 0.1:
        del parent[key]
        return f"no {key}", json.dumps(config).encode()
    parent[key] = value
    return f"{'.'.join(map(str, (*way, key)))} = {value!r}"[:50], json.dumps(config).encode()


def judge(read: Callable[[], Any], error: type[Exception], may_read: bool) -> str | None:
    """What is wrong with how something is read that should not be, or need not be."""
    try:
        with in_time(SECONDS), memory_bound(MORE):
            read()
    except error as told:
        return None if type(told) is error and len(str(told)) < 2000 else f"{type(told).__name__}: {str(told)[:60]}"
    except BaseException as told:
        return f"{type(told).__name__}: {str(told)[:60]}"
    return None if may_read else "was read"


def stages(asked: Asked, folder: Path) -> Iterator[tuple[str, Callable[[], Any], bool]]:
    """(what, how it is read, whether it may be read after all) of a stage's three files."""
    rng, (good, other) = random.Random(asked.seed), (write_stage(folder / str(n), n, 16 << n) for n in (0, 1))
    kept = {name: (good / name).read_bytes() for name in (TENSORS, CONFIG, MANIFEST)}
    config, content = json.loads(kept[CONFIG]), kept[TENSORS]

    def attempt(what: str, may_read: bool = False, **files: bytes | None) -> tuple[str, Callable[[], Any], bool]:
        for name, usual in kept.items():
            (good / name).write_bytes(files.get(name.split(".")[0], usual) or usual)
            if name.startswith(tuple(part for part, given in files.items() if given == b"-")):
                (good / name).unlink()
        return what, lambda: load_stage(good, "cpu"), may_read

    yield attempt("as it was", True)
    for _ in range(asked.cases):
        yield attempt("damaged tensors", model=damaged(content, rng))
        what, changed = altered(config, rng)
        yield attempt(f"config: {what}", True, config=changed)
    for number, content_of in enumerate(hostile_headers(content)):
        yield attempt(f"header {number}", model=content_of)
        yield attempt(f"header {number}, no manifest", model=content_of, manifest=b"-")
    for number, nonsense in enumerate(NONSENSE):
        for part in ("config", "manifest"):
            yield attempt(f"{part}: nonsense {number}", part == "manifest" and not nonsense, **{part: nonsense or b" "})
    yield attempt("tensors of another stage", model=(other / TENSORS).read_bytes())
    for kind, change in (("NaN", lambda t: t * float("nan")), ("int64", lambda t: t.long()), ("bool", lambda t: t > 0)):
        tensors = load_file(other / TENSORS)
        name = next(iter(tensors))
        save_file({**tensors, name: change(tensors[name])}, folder / "changed")
        yield attempt(f"{kind}, no manifest", model=(folder / "changed").read_bytes(), manifest=b"-")
    for cut in (0, 4, 8, 100, len(content) - 1):
        yield attempt(f"cut at {cut}, no manifest", model=content[:cut] or b" ", manifest=b"-")


def checkpoints(asked: Asked, folder: Path) -> Iterator[tuple[str, Callable[[], Any], bool]]:
    """The same of a training's checkpoint, which has no manifest: what changes its numbers alone is not noticed."""
    rng, path = random.Random(asked.seed), folder / "state.safetensors"

    def train(width: int = 8, steps: int = 3) -> None:
        torch.manual_seed(0)
        model = nn.Linear(8, width)
        fit(model, lambda step: (model.weight.sum() + model.bias.sum()) ** 2, TrainConfig(batch=1, steps=steps), folder)

    train()
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    for number, changed in enumerate(hostile_headers(content)):
        path.write_bytes(changed)
        yield f"checkpoint, header {number}", lambda: train(steps=4), False
    for _ in range(asked.cases // 4):
        path.write_bytes(content[: rng.randrange(len(content))])
        yield "checkpoint, truncated", lambda: train(steps=4), False
    for progress in ("[]", "{}", '{"steps": 1}', "5", "{", '{"step": 1, "pictures": 1, "seconds": 0, "more": 1}'):
        header = {"__metadata__": {"progress": progress}}
        path.write_bytes(with_header(content, lambda known, header=header: {**known, **header}))
        yield f"checkpoint, progress {progress}", lambda: train(steps=4), progress == "{}"
    for width in (1, 16):
        path.write_bytes(content)
        yield f"checkpoint of another width, {width}", lambda width=width: train(width, 4), False


def hostile(asked: Asked) -> dict[str, Any]:
    """Stages and checkpoints, read in process under limits of time and memory."""
    tally, read = Tally(), 0
    with tempfile.TemporaryDirectory() as temporary:
        for kind, error in ((stages, WeightsError), (checkpoints, RuntimeError)):
            folder = Path(temporary) / kind.__name__
            folder.mkdir()
            for what, attempt, may_read in kind(asked, folder):
                trouble = judge(attempt, error, may_read)
                read += may_read and not trouble
                tally.add(f"{what}: {trouble}" if trouble else None)
    return tally.outcome(f"{read} were configurations that a stage can have, or errors")
