"""Weights on disk: what is saved comes back, and every way a file can be broken is one sentence that helps."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from imagen_lite import weights
from imagen_lite.weights import WeightsError


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights.save_pretrained(tmp_path / "toy", model(), {"width": 8}, {"recipe": "toy", "scores": {"loss": 0.5}})
    return tmp_path / "toy"


def test_round_trip(folder: Path):
    assert weights.load_config(folder) == {"width": 8}
    tensors = weights.load_tensors(folder)
    expected = model().state_dict()
    assert tensors.keys() == expected.keys()
    assert tensors["1.num_batches_tracked"].dtype == torch.int64
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            assert tensors[name].dtype == torch.float32
            torch.testing.assert_close(tensors[name], tensor.half().float(), rtol=0, atol=0)
    assert weights.load_tensors(folder, dtype=None)["0.weight"].dtype == torch.float16


def test_manifest_names_the_file_and_keeps_the_metadata(folder: Path):
    manifest = weights.load_manifest(folder)
    content = (folder / "model.safetensors").read_bytes()
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest() == weights.sha256(folder / "model.safetensors")
    assert manifest["recipe"] == "toy" and manifest["scores"] == {"loss": 0.5}
    assert manifest["dtype"] == "float16"


def test_load_into_sets_every_parameter(folder: Path):
    other = model(seed=1)
    weights.load_into(other, folder)
    torch.testing.assert_close(other.state_dict(), {k: v for k, v in weights.load_tensors(folder).items()})


def test_tied_and_strided_tensors_can_be_saved(tmp_path: Path):
    tensor = torch.arange(6.0).view(2, 3)
    weights.save_pretrained(tmp_path, {"a": tensor, "b": tensor, "c": tensor.T}, {}, dtype=torch.float32)
    loaded = weights.load_tensors(tmp_path)
    assert loaded["a"].equal(tensor) and loaded["b"].equal(tensor) and loaded["c"].equal(tensor.T)


def test_a_folder_without_manifest_is_a_hub_model(folder: Path):
    (folder / "manifest.json").unlink()
    assert "0.weight" in weights.load_tensors(folder)
    with pytest.raises(WeightsError, match=r"holds no manifest\.json"):
        weights.load_manifest(folder)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: int, change: int):
    folder = tmp_path_factory.mktemp("w")
    weights.save_pretrained(folder, {"a": torch.randn(5)}, {})
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged or incomplete.*git checkout"):
        weights.load_tensors(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
@pytest.mark.parametrize("manifest", [True, False])
def test_truncated_tensors(folder: Path, keep: int, manifest: bool):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    if not manifest:
        (folder / "manifest.json").unlink()
    message = "damaged or incomplete" if manifest else "not a whole safetensors file"
    with pytest.raises(WeightsError, match=message):
        weights.load_tensors(folder)


def test_missing_pieces(folder: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match="No weights at .*nowhere: there is no such folder"):
        weights.load_tensors(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors"):
        weights.load_tensors(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json is not JSON"):
        weights.load_config(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(WeightsError, match="holds a list where an object is expected"):
        weights.load_config(folder)


def test_weights_of_another_model(folder: Path):
    with pytest.raises(WeightsError, match=r"does not fit this Linear: Missing key.*config\.json"):
        weights.load_into(nn.Linear(4, 8), folder)
    with pytest.raises(WeightsError, match="size mismatch for 2.weight"):
        weights.load_into(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_unsound_tensors_are_refused_and_the_last_good_ones_stay(folder: Path, value: float):
    before = weights.sha256(folder / "model.safetensors")
    with pytest.raises(WeightsError, match="Tensor 'bad' holds NaN or values beyond torch.float16"):
        weights.save_pretrained(folder, {"bad": torch.tensor([value])}, {})
    assert weights.sha256(folder / "model.safetensors") == before


@pytest.mark.parametrize("file", [0, 1, 2])
def test_full_disk_leaves_the_last_good_weights(folder: Path, monkeypatch: pytest.MonkeyPatch, file: int):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    calls = iter(range(3))

    def full(_handle: int) -> None:
        if next(calls) == file:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        weights.save_pretrained(folder, model(seed=1), {"width": 9})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_write_atomic_replaces_or_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "deep" / "state.json"
    weights.write_atomic(path, json.dumps({"step": 1}))
    weights.write_atomic(path, json.dumps({"step": 2}))
    assert json.loads(path.read_text()) == {"step": 2}
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        weights.write_atomic(path, "half")
    assert [p.name for p in path.parent.iterdir()] == ["state.json"] and "2" in path.read_text()
