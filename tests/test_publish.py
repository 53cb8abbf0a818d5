"""Publishing: what would be uploaded is whole, tells what it is, and is loaded back, from a folder and from the hub."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from test_cascade import TINY
from test_encoders import REVISION

from imagen_lite import hub, load_cascade, weights
from imagen_lite.schedule import CosineSchedule
from imagen_lite.stage import STAGES, Stage, load_stage
from imagen_lite.unet import EfficientUNet
from imagen_lite.weights import WeightsError

OURS = weights.DATA / "weights" / "t5-lite-base"
MANIFEST = {"world": "kites", "pictures_seen": 1234, "hours": 0.5, "hardware": "2 CPU cores", "validation_loss": 0.25}


def write_stage(folder, size, **config):
    """A stage of random weights, its last layer too, which would otherwise prove nothing."""
    torch.manual_seed(size)
    unet = EfficientUNet(dataclasses.replace(TINY, text_dim=256, low_res=size > 64))
    for parameter in unet.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    stage = Stage(unet, CosineSchedule(), size)
    weights.save_pretrained(folder, stage.unet, stage.config() | config, MANIFEST)


@pytest.fixture
def model(tmp_path):
    """Two stages, and a text encoder in a folder elsewhere that the base names."""
    shutil.copytree(OURS, tmp_path / "elsewhere" / "t5")
    write_stage(tmp_path / "kites" / "base64", 64, text_encoder=str(tmp_path / "elsewhere" / "t5"))
    write_stage(tmp_path / "kites" / "sr256", 256)
    (tmp_path / "kites" / "run").mkdir()
    (tmp_path / "kites" / "run" / "state.safetensors").write_bytes(b"of the training run")
    return tmp_path / "kites"


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_cascade_is_written_whole_and_draws_the_same_without_what_it_came_from(model, tmp_path):
    expected = load_cascade("cpu", torch.float32, model).sample(["a red cone"], steps=1, resolution=64).images
    out = hub.save_pretrained(model, tmp_path / "out")
    parts = [f"{stage}/{file}" for stage in ("base64", "sr256") for file in ("config.json", "manifest.json")]
    assert set(parts) | {"README.md", "text_encoder/tokenizer.json", "sr256/model.safetensors"} <= names(out)
    assert not any("run" in name or "state" in name for name in names(out))
    assert str(tmp_path) not in "".join(path.read_text() for path in out.rglob("*.json")), "no path of this machine"
    shutil.rmtree(tmp_path / "elsewhere")
    moved = shutil.move(out, tmp_path / "moved")
    found = load_cascade("cpu", torch.float32, moved)
    assert list(found.stages) == [64, 256]
    assert torch.equal(found.sample(["a red cone"], steps=1, resolution=64).images, expected)


def test_an_encoder_of_the_hub_stays_there_and_ours_goes_along(tmp_path):
    write_stage(tmp_path / "a" / "base64", 64, text_encoder="google/t5-v1_1-small")
    out = hub.save_pretrained(tmp_path / "a", tmp_path / "out")
    assert not (out / "text_encoder").exists() and "`google/t5-v1_1-small`, frozen" in (out / "README.md").read_text()
    assert weights.load_config(out / "base64")["text_encoder"] == "google/t5-v1_1-small"
    write_stage(tmp_path / "b" / "base64", 64)
    out = hub.save_pretrained(tmp_path / "b", tmp_path / "other")
    assert weights.load_config(out / "base64")["text_encoder"] == "text_encoder"
    assert "`t5-lite-base`, frozen" in (out / "README.md").read_text() and (out / "text_encoder").is_dir()


def test_the_card_tells_what_it_is(model, tmp_path):
    import yaml

    card = (hub.save_pretrained(model, tmp_path / "out", "alice/kites-imagen", "cc-by-4.0") / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "cc-by-4.0"
    assert yaml.safe_load(head)["pipeline_tag"] == "text-to-image"
    assert 'il.load_cascade(folder="alice/kites-imagen")' in text and "# kites-imagen" in text
    assert "| base64 | " in text and "| kites | 1,234 | 0.5, 2 CPU cores | 0.25 |" in text


def test_one_stage_alone(model, tmp_path):
    out = hub.save_pretrained(model / "sr256", tmp_path / "out")
    assert names(out) == {"README.md", "config.json", "manifest.json", "model.safetensors"}
    assert load_stage(out).resolution == 256
    assert 'il.stage.load_stage("someone/sr256")' in (out / "README.md").read_text()


def test_the_shipped_cascade_can_be_published(tmp_path):
    out = hub.save_pretrained(weights.DATA / "weights", tmp_path / "out", "imagen-lite")
    assert list(load_cascade("cpu", folder=out).stages) == list(STAGES)
    assert "reader" not in {path.name for path in out.iterdir()}


def test_what_must_not_be_published(model, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        hub.save_pretrained(model, tmp_path / "full")
    with pytest.raises(WeightsError, match="holds no stage"):
        hub.save_pretrained(tmp_path / "full", tmp_path / "out")
    tensors = model / "sr256" / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="damaged"):
        hub.save_pretrained(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_is_gone_is_not_named_by_its_path(model, tmp_path):
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(WeightsError, match="t5 is not there any more; put its folder beside the stages"):
        hub.save_pretrained(model, tmp_path / "out")


class FakeHub:
    """The two calls of the hub's client that are made, into a folder in the layout of its cache."""

    def __init__(self, cache):
        self.cache, self.private = cache, None

    def create_repo(self, hub_id, *, private, exist_ok):
        self.private = private
        return f"https://huggingface.co/{hub_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        repository = self.cache / f"models--{repo_id.replace('/', '--')}"
        shutil.copytree(folder_path, repository / "snapshots" / REVISION)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(REVISION)


def test_pushed_and_loaded_by_its_id(model, tmp_path, monkeypatch):
    fake = FakeHub(tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token=None: fake)
    assert hub.push_to_hub(model, "someone/kites", private=True) == "https://huggingface.co/someone/kites"
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "hub_failure", lambda _: OSError("no network in tests"))
    assert fake.private and list(load_cascade("cpu", folder="someone/kites").stages) == [64, 256]
    with pytest.raises(WeightsError, match="'someone/else' is no folder here"):
        load_cascade(folder="someone/else")


def test_a_hub_that_refuses_is_told_in_one_sentence(model, monkeypatch):
    def refuse(*_, **__):
        raise OSError("401: who are you?\nmore")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(
        WeightsError, match="did not take 'someone/kites' .OSError: 401: who are you.*auth login"
    ) as info:
        hub.push_to_hub(model, "someone/kites")
    assert "\n" not in str(info.value)


def test_a_stage_is_loaded_by_its_id(model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(weights, "from_hub", lambda hub_id, wanted: asked.append(hub_id) or model / "sr256")
    assert load_stage("someone/stage").resolution == 256 and asked == ["someone/stage"]
    assert weights.located(model) == model and weights.located("nowhere") == Path("nowhere")
    assert json.loads((model / "sr256" / "manifest.json").read_text())["world"] == "kites"
