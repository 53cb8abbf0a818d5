"""Your own pictures: what is read of a folder or a set, what is left out and named, and a base trained on them."""

import io
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from imagen_lite import cli, data, load_cascade, weights
from imagen_lite.recipes import base64, material, pictures
from imagen_lite.recipes.base64 import Recipe
from imagen_lite.recipes.pictures import own_pictures
from imagen_lite.text import EmbeddingCache, load_text_encoder
from imagen_lite.train import TrainConfig
from imagen_lite.unet import UNetConfig
from imagen_lite.weights import WeightsError

COLORS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 200, 20), "white": (250, 250, 250)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def write_pictures(folder, count, start=0):
    """Squares of one colour on black, 100×80 px, told by their captions; returns the rows of metadata.jsonl."""
    (folder / "more").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(start, start + count):
        name = list(COLORS)[i % 4]
        picture = np.zeros((80, 100, 3), np.uint8)
        picture[20:60, 30:70] = COLORS[name]
        path = f"more/{i}.png" if i % 5 == 4 else f"{i}.png"
        Image.fromarray(picture).save(folder / path)
        rows.append({"file_name": path, "text": f"a {name} cube, number {i}"})
    return rows


def write_metadata(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures that are sound."""
    rows = write_pictures(tmp_path / "mine", 20)
    write_metadata(tmp_path / "mine", rows)
    return tmp_path / "mine"


def test_pictures_come_in_the_order_of_the_metadata_with_their_captions(folder):
    own = own_pictures(folder)
    assert [texts[0] for texts in own.pool.captions] == [f"a {list(COLORS)[i % 4]} cube, number {i}" for i in range(20)]
    assert own.left_out == [] and own.report() == "20 pictures with captions; 0 left out"
    for i in (0, 5, 19):
        assert own.pool.picture(i).shape == (64, 64, 3)
        assert np.abs(own.pool.picture(i)[32, 32].astype(int) - list(COLORS.values())[i % 4]).max() <= 1
    assert own.pool.mirrored == [[]] * 20  # a caption may say left or right


def test_the_middle_square_is_made_smaller_with_antialiasing(tmp_path):
    fine = np.indices((256, 512)).sum(0) % 2 * 255
    fine[:, :128], fine[:, 384:] = 0, 0  # what is cut off is black
    (tmp_path / "fine").mkdir()
    Image.fromarray(np.repeat(fine[..., None], 3, 2).astype(np.uint8)).save(tmp_path / "fine" / "a.png")
    write_metadata(tmp_path / "fine", [{"file_name": "a.png", "text": "a chequered cloth"}])
    assert np.abs(own_pictures(tmp_path / "fine").pool.picture(0)[2:-2, 2:-2].astype(int) - 128).max() <= 4


def test_what_cannot_be_used_is_left_out_and_named(folder):
    whole = (folder / "0.png").read_bytes()
    (folder / "1.png").write_bytes(b"this is no picture")
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    (folder / "3.png").unlink()
    Image.new("RGB", (90, 63)).save(folder / "5.png")
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    rows[6]["text"], rows[7]["text"] = "  ", None
    write_metadata(folder, rows)
    Image.new("RGB", (80, 80)).save(folder / "more" / "stray.png")
    own = own_pictures(folder)
    found = dict(own.left_out)
    assert {name: reason.split(" (")[0] for name, reason in found.items()} == {
        "1.png": "broken", "2.png": "broken", "3.png": "there is no such file", "5.png": "90×63, smaller than 64 px",
        "6.png": "no caption", "7.png": "no caption", "stray.png": "not in the metadata",
    }  # fmt: skip
    assert len(own.pool) == 14 and len(own.left_out) == 7  # twenty and a stray one: nothing is dropped silently
    report = own.report(names=3).splitlines()
    assert report[0] == "14 pictures with captions; 7 left out" and "and 4 more" in report[-1] and len(report) == 5
    assert own_pictures(folder).left_out == own.left_out  # told again when taken from the cache
    whole_again = own_pictures(folder, count=3)
    assert len(whole_again.pool) == 3 and whole_again.pool.captions[1] == own.pool.captions[1]


def test_transparent_grey_and_turned_pictures_are_read_as_people_see_them(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.new("L", (64, 64), 100).save(folder / "grey.png")
    turned = np.zeros((64, 64, 3), np.uint8)
    turned[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(turned).save(folder / "turned.jpg", exif=exif)
    write_metadata(folder, [{"file_name": name, "text": "x"} for name in ("clear.png", "grey.png", "turned.jpg")])
    clear, grey, turned = (own_pictures(folder).pool.picture(i) for i in range(3))
    assert (clear == 255).all() and (grey == 100).all() and turned[:28].max() < 20 and turned[36:].min() > 235


def test_reading_goes_on_where_it_was_interrupted(folder, tmp_path, monkeypatch):
    (folder / "2.png").write_bytes(b"broken")
    for module in (pictures, data):
        monkeypatch.setattr(module, "SHARD", 4)
    expected = own_pictures(folder)
    shutil.rmtree(expected.folder)
    square, calls = pictures._square, []

    def interrupted(value, size):
        calls.append(value["path"])
        if len(calls) == 11:
            raise KeyboardInterrupt
        return square(value, size)

    monkeypatch.setattr(pictures, "_square", interrupted)
    with pytest.raises(KeyboardInterrupt):
        own_pictures(folder)
    assert len(list(expected.folder.glob("*.json"))) == 2  # nine were read, one of them broken
    calls[:] = ["" for _ in range(50)]
    again = own_pictures(folder)
    assert len(calls) - 50 == 20 - 9
    assert again.pool.captions == expected.pool.captions and again.left_out == expected.left_out
    assert len(again.pool) == 19
    assert all(np.array_equal(again.pool.picture(i), expected.pool.picture(i)) for i in range(19))


def test_a_changed_folder_is_read_again(folder):
    assert len(own_pictures(folder).pool) == 20
    write_metadata(folder, write_pictures(folder, 21))
    assert len(own_pictures(folder).pool) == 21


@pytest.mark.parametrize("streaming", [True, False])
def test_a_set_as_the_hub_has_it(tmp_path, folder, monkeypatch, streaming):
    """A parquet file with pictures inside, several captions each; by its folder, and by a hub id."""
    import datasets

    own = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train")
    captions = [[text, text.upper()] for text in own["text"]]
    made = own.remove_columns("text").add_column("captions", captions)
    (tmp_path / "set").mkdir()
    made.to_parquet(str(tmp_path / "set" / "train-00000-of-00001.parquet"))
    local = own_pictures(tmp_path / "set", streaming=streaming)
    assert len(local.pool) == 20 and local.pool.captions[3] == captions[3] and local.left_out == []
    load, asked = datasets.load_dataset, []

    def from_hub(path, **options):
        asked.append(path)
        return load(str(tmp_path / "set"), **options)

    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    monkeypatch.setattr(pictures, "hub_failure", lambda *_: None)
    hub = own_pictures("someone/cubes", streaming=streaming)
    assert asked == ["someone/cubes"] and hub.pool.captions == local.pool.captions
    assert all(np.array_equal(hub.pool.picture(i), local.pool.picture(i)) for i in range(20))


def test_mistakes_are_told_in_one_sentence(folder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no metadata.jsonl; write one"):
        own_pictures(tmp_path / "empty")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: (_ for _ in ()).throw(OSError("down")))
    with pytest.raises(WeightsError, match="'no/such' is no folder here.*hf download --repo-type dataset no/such"):
        own_pictures("no/such")
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    write_metadata(folder, [{"file_name": row["file_name"], "label": row["text"]} for row in rows])
    with pytest.raises(ValueError, match="columns image, label; needed are pictures and one of text, caption"):
        own_pictures(folder)
    write_metadata(folder, [row | {"text": ""} for row in rows])
    with pytest.raises(ValueError, match="no picture that can be used. 0 pictures.*0.png: no caption"):
        own_pictures(folder)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install -e '.\[data,train\]'"):
        own_pictures(folder, size=32)


def test_names_that_look_like_splits_are_pictures_like_others(tmp_path):
    rows = write_pictures(tmp_path / "mine", 4)
    for row, name in zip(rows, ("steam-train.png", "test.png", "val/1.png", "train/2.png"), strict=True):
        (tmp_path / "mine" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / row["file_name"]).rename(tmp_path / "mine" / name)
        row["file_name"] = name
    write_metadata(tmp_path / "mine", rows)
    own = own_pictures(tmp_path / "mine")
    assert len(own.pool) == 4 and own.left_out == []


def test_pictures_that_lie_on_the_hub_are_fetched(monkeypatch):
    """A streamed image folder of the hub names its pictures by address, without their bytes."""
    content = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 8, 7)).save(content, "PNG")
    asked = []

    def fetch(path, mode):
        asked.append(path)
        return io.BytesIO(content.getvalue())

    monkeypatch.setattr("datasets.utils.file_utils.xopen", fetch)
    square = pictures._square({"path": "hf://datasets/a/b/1.png", "bytes": None}, 64)
    assert asked == ["hf://datasets/a/b/1.png"] and (square == (9, 8, 7)).all()

    def down(path, mode):
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.utils.file_utils.xopen", down)
    with pytest.raises(ConnectionError):  # and not a broken picture, left out for ever
        pictures._square({"path": "hf://datasets/a/b/1.png", "bytes": None}, 64)


def test_deep_pictures_are_not_read_as_white(folder):
    Image.fromarray(np.full((70, 70), 30_000, np.uint16)).save(folder / "0.png")
    assert own_pictures(folder).left_out == [("0.png", "more than 8 bits a channel; save it with 8")]


def test_about_one_picture_in_twenty_is_held_out_and_stays_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 8, 8, 3), np.uint8)
    texts = [[f"number {i}"] for i in range(400)]
    pool = data.Pool([noise], texts, [[]] * 400, list(range(400)))
    train, held = material.split(pool)
    assert sorted(train.seeds + held.seeds) == list(range(400)) and 8 <= len(held) <= 35
    assert all(np.array_equal(held.picture(k), noise[i]) for k, i in enumerate(held.seeds))
    assert held.captions == [texts[i] for i in held.seeds]
    twice = data.Pool([np.concatenate([noise[5:], noise[5:]])], texts[5:] * 2, [[]] * 790, list(range(790)))
    again = {i % 395 + 5 for i in material.split(twice)[1].seeds}  # others lost, all of them twice
    assert again == {i for i in held.seeds if i >= 5}
    few = data.Pool([noise[:3]], texts[:3], [[]] * 3, [0, 1, 2])
    assert [len(part) for part in material.split(few)] == [2, 1]


@pytest.fixture
def encoder(tmp_path):
    """Some T5 of the hub's layout, another width than ours, in a folder."""
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=1600, d_model=48, d_kv=12, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    transformers.T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    shutil.copy(material.ENCODER / "tokenizer.json", tmp_path / "t5")
    return tmp_path / "t5"


UNET = UNetConfig(channels=(32, 32), blocks=(1, 1), attention=(None, "self"), strides=(1, 2), patch=2, head_channels=32)


def test_a_base_is_trained_on_them_with_any_encoder_and_draws(folder, encoder, tmp_path, monkeypatch, capsys):
    """The README's command, small: it resumes, needs the encoder once, and what it wrote is a cascade."""
    recipe = Recipe(UNET, TrainConfig(batch=8, lr=3e-3, warmup=5, steps=12))
    monkeypatch.setattr(base64, "CPU", recipe)
    monkeypatch.setattr(base64, "MILESTONES", (64,))
    monkeypatch.setattr(base64, "VALIDATION", 16)
    (folder / "3.png").write_bytes(b"broken")
    model = tmp_path / "model"
    command = ["train", "base64", "--data", str(folder), "--text-encoder", str(encoder), "-o", str(model)]
    cli.app([*command, "--device", "cpu"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "19 pictures with captions; 1 left out\n  3.png: broken" in out
    assert (model / "run" / "milestones" / "000000064.png").exists()
    manifest, config = weights.load_manifest(model / "base64"), weights.load_config(model / "base64")
    assert manifest["pictures_seen"] == 96 and manifest["world"] == "mine"
    assert config["text_encoder"] == str(encoder) and config["unet"]["text_dim"] == 48
    cascade = load_cascade("cpu", torch.float32, model)
    assert cascade.sample(["a red cube"], steps=2).images.shape == (1, 3, 64, 64)

    def not_needed(*_, **__):
        raise AssertionError("all captions are embedded already")

    monkeypatch.setattr(material, "load_text_encoder", not_needed)
    monkeypatch.setattr(base64, "CPU", Recipe(UNET, TrainConfig(batch=8, lr=3e-3, warmup=5, steps=14)))
    cli.app([*command, "--device", "cpu"], standalone_mode=False)
    assert weights.load_manifest(model / "base64")["pictures_seen"] == 112
    cli.app(["sample", "a red cube", "--model", str(model), "--device", "cpu", "-o", str(tmp_path / "a.png")],
            standalone_mode=False)  # fmt: skip
    assert Image.open(tmp_path / "a.png").size == (64, 64)


def test_cached_and_encoded_captions_are_the_same_text(folder, encoder):
    from imagen_lite.recipes.stages import Captioned

    pool, cpu = own_pictures(folder).pool, torch.device("cpu")
    cache = material.embedded([text for own in pool.captions for text in own], encoder, cpu)
    recipe = Recipe(UNET, TrainConfig(batch=8), text_length=5)
    cached, encoded = (Captioned(pool, read, recipe, cpu) for read in (cache, load_text_encoder(encoder)))
    (images, row), again = cached.batch(0, 1), encoded.batch(0, 1)
    assert torch.equal(images, again[0]) and torch.equal(row, again[1])
    text, expected = cached.text(row), encoded.text(row)
    assert torch.equal(text.mask, expected.mask) and text.mask.shape == (8, 5)
    # Cut after it was embedded, a caption's tokens still know the rest of it: they differ where one is cut.
    whole = Recipe(UNET, TrainConfig(batch=8))
    cached, encoded = (Captioned(pool, read, whole, cpu) for read in (cache, load_text_encoder(encoder)))
    assert torch.allclose(cached.text(row).tokens, encoded.text(row).tokens, atol=2e-3)


def test_embedding_that_was_interrupted_goes_on(folder, encoder, monkeypatch):
    captions = [f"a red cube, number {i}" for i in range(70)]

    class Interrupted(EmbeddingCache):
        def _encode(self, captions):
            raise KeyboardInterrupt

    monkeypatch.setattr(material, "EmbeddingCache", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        material.embedded(captions, encoder, torch.device("cpu"))
    monkeypatch.setattr(material, "EmbeddingCache", EmbeddingCache)
    cache = material.embedded(captions, encoder, torch.device("cpu"))
    assert cache.encoder is None and len(cache(captions)) == 70
    tensors = encoder / "model.safetensors"
    state = load_file(tensors)
    save_file({name: 2 * tensor for name, tensor in state.items()}, tensors, {"format": "pt"})
    other = material.embedded(captions, encoder, torch.device("cpu"))  # another encoder in the same folder
    assert other.fingerprint != cache.fingerprint and other.path != cache.path


def test_captions_that_cannot_be_drawn_do_not_end_a_run(folder, monkeypatch):
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    write_metadata(folder, [row | {"text": "1984"} for row in rows])
    with pytest.raises(ValueError, match="none of the held-out captions can be drawn"):
        material.own(str(folder), None, None, 100, 48, torch.device("cpu"))
    write_metadata(folder, [row | {"text": row["text"] if i % 2 else "красный куб"} for i, row in enumerate(rows)])
    monkeypatch.setattr(material, "split", lambda pool: (pool, pool))
    given = material.own(str(folder), None, None, 100, 4, torch.device("cpu"))
    assert given.prompts == tuple(row["text"] for i, row in enumerate(rows) if i % 2)


def test_a_run_does_not_go_on_from_another_model(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(base64, "CPU", Recipe(UNET, TrainConfig(batch=4, steps=2)))
    monkeypatch.setattr(base64, "VALIDATION", 4)
    command = ["train", "base64", "--device", "cpu", "-o", str(tmp_path / "model"), "--data"]
    cli.app([*command, str(folder)], standalone_mode=False)
    assert "0.0% of the captions have more than 48 tokens" in capsys.readouterr().out
    other = shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(ValueError, match="was trained with world mine, not other; give another --output"):
        cli.app([*command, str(other)], standalone_mode=False)
    (tmp_path / "model" / "run" / "state.safetensors").unlink()
    with pytest.raises(ValueError, match="base64 was trained with world mine, not other"):
        cli.app([*command, str(other)], standalone_mode=False)
    cli.app([*command, str(other), "--fresh"], standalone_mode=False)
    assert weights.load_manifest(tmp_path / "model" / "base64")["world"] == "other"


def test_the_doctor_looks_at_own_pictures(folder, monkeypatch, capsys):
    monkeypatch.setattr(base64, "CPU", Recipe(UNET, TrainConfig(batch=4, lr=1e-2)))
    monkeypatch.setattr(base64.checks, "check_overfit", lambda *_, **__: "learned by heart")
    with pytest.raises(ValueError, match="unknown to t5-lite-base|distinct"):
        rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        write_metadata(folder, [row | {"text": "Ωμέγα ψ abc"} for row in rows])
        monkeypatch.setattr(material, "_can_be_drawn", bool)
        cli.app(["train", "base64", "--doctor", "--device", "cpu", "--data", str(folder)], standalone_mode=False)
    assert "pictures span" in capsys.readouterr().out


def test_what_does_not_go_together_is_told(folder, tmp_path):
    for arguments, message in (
        (["train", "base64", "--text-encoder", "x/y"], "--text-encoder and --output go with --data"),
        (["train", "sr256", "--data", str(folder)], "--data is for base64"),
        (["train", "base64", "--data", str(folder), "--text-encoder", "gpt2"], "there is no folder 'gpt2'; of the hub"),
        (["train", "base64", "--data", str(folder), "-o", str(folder / "model")], "lies in --data"),
    ):
        with pytest.raises(ValueError, match=message):
            cli.app(arguments, standalone_mode=False)
    with pytest.raises(WeightsError, match="no text encoder in"):
        material.embedded(["a cube"], tmp_path / "nothing", torch.device("cpu"))
    write_metadata(folder, write_pictures(folder, 1))
    with pytest.raises(ValueError, match="two or more"):
        material.split(own_pictures(folder).pool)
    assert data.cache_folder().is_relative_to(tmp_path)
