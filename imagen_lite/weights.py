"""Weights on disk: one folder per model, in the layout of the Hugging Face hub, safetensors only.

    data/weights/base64/
        config.json          what to build
        model.safetensors    float16 tensors
        manifest.json        sha256 of the tensors, and where they came from (recipe, hardware, scores, ...)

Nothing is ever unpickled, and every file is written beside its target and renamed over it, so that an interrupt
or a full disk leaves the last good one.
"""

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

DATA = Path(os.environ.get("IMAGEN_LITE_DATA") or Path(__file__).resolve().parent.parent / "data")
"""The folder `data/` of the clone, or what the environment variable IMAGEN_LITE_DATA names."""

TENSORS, CONFIG, MANIFEST = "model.safetensors", "config.json", "manifest.json"
HUB_FILES = ("*config.json", "*manifest.json", "*tokenizer.json", "*.safetensors", "*.safetensors.index.json")
HUB_SECONDS = 4.0
"""How long the Hugging Face hub may take to answer before it counts as out of reach."""


class WeightsError(RuntimeError):
    """Weights that are missing, incomplete, corrupt or of another model; the message says how to fix it."""


def sha256(path: str | Path) -> str:
    """The sha256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Writes a whole file or nothing: into a temporary file of the same folder, then renamed over `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(_write_beside(path, content), path)


def save_pretrained(
    folder: str | Path,
    model: nn.Module | Mapping[str, Tensor],
    config: Mapping[str, Any],
    manifest: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = torch.float16,
) -> str:
    """Writes `model.safetensors`, `config.json` and `manifest.json` into `folder`, and returns the tensors' sha256.

    Args:
        folder: created if needed; what it holds under these three names is replaced.
        model: a module, or its tensors by name.
        config: what `load_config` gives back; must be JSON.
        manifest: free metadata; `sha256`, `dtype` and `parameters` are added.
        dtype: of the stored floating-point tensors; None keeps each as it is.

    Raises:
        WeightsError: a tensor is NaN or infinite, or does not fit `dtype`. Nothing is written then.
    """
    folder = Path(folder)
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    stored = {name: _stored(name, tensor, dtype) for name, tensor in tensors.items()}
    content = safetensors.torch.save(stored, metadata={"format": "pt"})
    about = {
        **(manifest or {}),
        "sha256": hashlib.sha256(content).hexdigest(),
        "dtype": "mixed" if dtype is None else str(dtype).removeprefix("torch."),
        "parameters": sum(tensor.numel() for tensor in stored.values()),
    }
    files = {TENSORS: content, **{n: json.dumps(v, indent=2) + "\n" for n, v in ((CONFIG, config), (MANIFEST, about))}}
    folder.mkdir(parents=True, exist_ok=True)
    # All three are on the disk before the first is renamed: a full disk cannot leave new tensors under an old manifest.
    written: dict[str, Path] = {}
    try:
        for name, text in files.items():
            written[name] = _write_beside(folder / name, text)
        for name, temporary in written.items():
            os.replace(temporary, folder / name)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
    return about["sha256"]


def load_config(folder: str | Path) -> dict[str, Any]:
    """The model's `config.json`. Raises WeightsError if the folder or the file is missing, or it is not JSON."""
    return _load_json(folder, CONFIG)


def load_manifest(folder: str | Path) -> dict[str, Any]:
    """The model's `manifest.json`. Raises WeightsError like `load_config`."""
    return _load_json(folder, MANIFEST)


def load_tensors(folder: str | Path, dtype: torch.dtype | None = torch.float32) -> dict[str, Tensor]:
    """The tensors of `model.safetensors` on the CPU, floating-point ones as `dtype` (None: as stored).

    Checked against the sha256 of `manifest.json`; only a folder without a manifest (a hub model) is taken on trust.

    Raises:
        WeightsError: a file is missing, truncated or corrupt, or its sha256 is not the manifest's.
    """
    path = _file(folder, TENSORS)
    if (path.parent / MANIFEST).exists():
        expected, found = load_manifest(folder).get("sha256"), sha256(path)
        if expected != found:
            raise WeightsError(
                f"{path} is damaged or incomplete: its sha256 starts {found[:12]}, but manifest.json says "
                f"{str(expected)[:12]}; restore both from git (git checkout -- {path.parent}) or train it again."
            )
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); restore or download it again."
        ) from error
    return {name: t.to(dtype) if dtype and t.is_floating_point() else t for name, t in tensors.items()}


def load_into(module: nn.Module, folder: str | Path) -> None:
    """Loads a folder's tensors into `module`, each name, shape and kind of number accounted for.

    Raises:
        WeightsError: they are another model's, or hold NaN or infinity; or as `load_tensors`.
    """
    tensors, kinds = load_tensors(folder), module.state_dict()
    try:
        module.load_state_dict(tensors, assign=any(p.is_meta for p in module.parameters()))
        for name, tensor in tensors.items():
            if tensor.dtype.is_floating_point != kinds[name].dtype.is_floating_point or not tensor.isfinite().all():
                raise RuntimeError(f"{name} holds NaN, infinity or numbers of another kind ({tensor.dtype})")
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]
        raise WeightsError(
            f"{Path(folder) / TENSORS} does not fit this {type(module).__name__}: {first[0].strip().rstrip('.'):.200}; "
            f"build it from the config.json beside the weights, or train it again."
        ) from error


def located(path_or_hub_id: str | Path) -> Path:
    """A path as it is; for the string "someone/name", if there is no such folder, what the hub has under that id.

    Raises:
        WeightsError: as `from_hub`.
    """
    path = Path(path_or_hub_id).expanduser()
    if path.exists() or path.is_absolute() or isinstance(path_or_hub_id, Path) or str(path_or_hub_id).count("/") != 1:
        return path
    return from_hub(str(path_or_hub_id), HUB_FILES)


def resolve_folder(path_or_hub_id: str | Path) -> Path:
    """A folder with config.json: the path itself if it is one, else what the hub has, downloaded once.

    Of a hub model only config.json, tokenizer.json and safetensors are taken. When the hub is out of reach, which is
    known after `HUB_SECONDS`, what was downloaded before will do.

    Raises:
        WeightsError: neither a folder with config.json nor a hub id that can be reached.
    """
    path = Path(path_or_hub_id).expanduser()
    if (path / CONFIG).is_file():
        return path
    if path.exists() or path.is_absolute() or str(path_or_hub_id).count("/") > 1:
        raise WeightsError(f"no text encoder in {path}: there is no config.json; give a transformers folder")
    return from_hub(str(path_or_hub_id), [CONFIG, "tokenizer.json", "*.safetensors", "*.safetensors.index.json"])


def from_hub(hub_id: str, wanted: Sequence[str], unwanted: Sequence[str] = ()) -> Path:
    """The folder of a hub model, of which the files that match are downloaded once; name them so that none is a pickle.

    Raises:
        WeightsError: the hub has no such model, or is out of reach and it was not downloaded before.
    """
    from huggingface_hub import snapshot_download

    failure = hub_failure(hub_id)
    local, allow, ignore = failure is not None, list(wanted), list(unwanted)
    try:
        found = snapshot_download(hub_id, allow_patterns=allow, ignore_patterns=ignore, local_files_only=local)
        return Path(found)
    except Exception as error:  # the hub's client raises many kinds; all mean the same here
        raise WeightsError(
            f"{hub_id!r} is no folder here and the Hugging Face hub could not give it "
            f"({type(failure or error).__name__}); check the name, its licence and the network, or, offline, fetch it "
            f"elsewhere with `hf download {hub_id}` and give the local folder that this prints"
        ) from (failure or error)


def hub_failure(hub_id: str, kind: str = "model") -> Exception | None:
    """Why the hub does not give a "model" or "dataset"; None if it does.

    On a thread: a name server that is out of reach heeds no timeout.
    """
    from huggingface_hub import HfApi

    failures: list[Exception] = [TimeoutError(f"no answer within {HUB_SECONDS} s")]

    def ask() -> None:
        try:
            HfApi().repo_info(hub_id, repo_type=kind, timeout=HUB_SECONDS / 2, expand=["sha"])  # pyright: ignore
            failures.clear()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return failures[-1] if failures else None


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.to(dtype or tensor.dtype)
        if not tensor.isfinite().all():
            raise WeightsError(
                f"Tensor {name!r} holds NaN or values beyond {tensor.dtype}; save an earlier checkpoint, "
                f"or pass dtype=torch.float32 if the model itself is sound."
            )
    # A copy of its own: safetensors refuses tensors that share memory, as tied weights do.
    return tensor.clone(memory_format=torch.contiguous_format)


def _write_beside(path: Path, content: bytes | str) -> Path:
    """Writes `content` to the disk under a temporary name in the folder of `path`, and returns that name."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _file(folder: str | Path, name: str) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise WeightsError(f"No weights at {folder}: there is no such folder; give another, or train it first.")
    if not (folder / name).is_file():
        raise WeightsError(f"{folder} holds no {name}; restore it from git (git checkout -- {folder}) or train again.")
    return folder / name


def _load_json(folder: str | Path, name: str) -> dict[str, Any]:
    path = _file(folder, name)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON ({error}); restore it from git (git checkout -- {path}).") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds a {type(value).__name__} where an object is expected; restore it from git.")
    return value
