"""CLIP-lite: unit vectors, padding without effect, a loss that is low where captions find their pictures, scores."""

import pytest
import torch

from imagen_lite import data
from imagen_lite.data import Pool
from imagen_lite.recipes import clip_lite as recipe
from imagen_lite.scenes.clip_lite import ClipConfig, ClipLite, clip_scores, contrastive_loss, load_clip_lite, tokenizer
from imagen_lite.train import TrainConfig

COLORS = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 200, 20), "yellow": (220, 220, 20)}
NAMES = list(COLORS)
SMALL = ClipConfig(widths=(16, 16, 32), dim=32, layers=1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ClipLite(SMALL).eval()


@pytest.fixture(scope="module")
def pool():
    """Sixteen pictures of a square in one of four colours, and captions that say which; none may be mirrored."""
    pictures = torch.full((16, 64, 64, 3), 90, dtype=torch.uint8)
    for i in range(16):
        pictures[i, 8 + i : 40 + i, 16:48] = torch.tensor(COLORS[NAMES[i % 4]], dtype=torch.uint8)
    captions = [[f"a {NAMES[i % 4]} cube"] * data.CAPTIONS for i in range(16)]
    return Pool([pictures.numpy()], captions, [[] for _ in range(16)], list(range(16)))


def test_vectors_have_length_one_and_padding_changes_nothing(model):
    ids, mask = tokenizer()(["a red cone", "a small blue house on the grass"])
    both, alone = model.of_text(ids, mask), model.of_text(*tokenizer()(["a red cone"]))
    torch.testing.assert_close(both[:1], alone)
    pictures = model.of_pictures(torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    for vectors in (both, pictures):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_word_order_reaches_the_caption(model):
    a, b = (
        model.of_text(*tokenizer()([text])) for text in ("a red cube and a blue cone", "a blue cube and a red cone")
    )
    assert (a - b).abs().max() > 1e-4


def test_the_loss_is_clips():
    """Symmetric cross-entropy: log B where nothing is known, near 0 where each finds its own; both directions count."""
    assert contrastive_loss(torch.zeros(8, 8)) == pytest.approx(torch.tensor(8.0).log())
    assert contrastive_loss(100 * torch.eye(8)) < 1e-6
    one_way = torch.tensor([[5.0, 0.0], [9.0, 8.0]])  # every picture's caption is right but one, every caption's too
    rows, columns = (torch.log_softmax(one_way, d).diagonal().mean() for d in (1, 0))
    assert contrastive_loss(one_way) == pytest.approx(-float(rows + columns) / 2)


def test_pictures_of_a_batch_are_all_different(pool):
    pictures = recipe.CaptionedPictures(pool, torch.device("cpu"))
    pictures.pictures = torch.arange(16, dtype=torch.uint8).view(16, 1, 1, 1).expand(16, 64, 64, 3)
    for step in range(5):
        images, ids, mask = pictures.batch(TrainConfig(batch=8), step)
        assert len({round(float(image.mean()), 4) for image in images}) == 8 and ids.shape == mask.shape
        again = pictures.batch(TrainConfig(batch=8), step)[0]
        assert torch.equal(images, again)


def test_a_run_learns_colours_and_is_read_back(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "pool", lambda *_, **__: pool)
    monkeypatch.setattr(recipe, "ClipLite", lambda: ClipLite(SMALL))
    config = TrainConfig(batch=4, lr=5e-4, warmup=5, steps=300, ema=0.9)
    recipe.run(out=tmp_path / "clip", run_folder=tmp_path / "run", config=config)
    model = load_clip_lite(tmp_path / "clip")
    images = data.to_images(pool.tensor())[:4]
    scores = clip_scores(images, [f"a {name} cube" for name in NAMES], model)
    assert scores.argmax(1).tolist() == [0, 1, 2, 3] and scores.abs().max() <= 1 + 1e-5
    large = torch.nn.functional.interpolate(images, (128, 128))
    torch.testing.assert_close(clip_scores(large, ["a red cube"], model), scores[:, :1], atol=0.02, rtol=0)


def test_what_it_cannot_take_it_refuses():
    with pytest.raises(TypeError, match="list of strings"):
        clip_scores(torch.zeros(1, 3, 64, 64), [1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="list of strings"):
        clip_scores(torch.zeros(1, 3, 64, 64), "a red cone")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        clip_scores(torch.zeros(1, 3, 64, 64), [])
    with pytest.raises(ValueError, match="multiples of 16"):
        ClipConfig(widths=(16, 20, 32))
    with pytest.raises(ValueError, match="multiple of 32"):
        ClipConfig(dim=40)
