"""The reader: targets and their decoding, the loss, reading at any size, and the shipped weights on fresh renders."""

import pytest
import torch

from imagen_lite.data import to_images, to_uint8
from imagen_lite.recipes.reader import Targets, detection_loss, empty_scenes, heat_target, roughen, targets
from imagen_lite.scenes.claims import placed
from imagen_lite.scenes.reader import (
    ATTRIBUTES,
    CHANNELS,
    GRID,
    SETTING,
    Reader,
    ReaderConfig,
    box_of,
    decode,
    depth_of,
    read,
    read_setting,
)
from imagen_lite.scenes.reader_scores import match_boxes, reader_scores
from imagen_lite.scenes.renderer import render, render_ids
from imagen_lite.scenes.world import sample_scene

SCENES = [sample_scene(seed, combinations="all") for seed in range(60)]


def perfect_maps(target: Targets) -> dict[str, torch.Tensor]:
    """The maps of a network that makes no mistake."""
    batch = len(target.box)
    maps = {name: torch.zeros(batch, count, GRID, GRID) for name, count in CHANNELS.items()}
    maps["heat"][:, 0] = torch.logit(heat_target(target)[0].clamp(1e-4, 1 - 1e-4))
    for b, i in (target.weight > 0).nonzero().tolist():
        cx, cy = (target.box[b, i, :2] * GRID).tolist()
        x, y = int(cx), int(cy)
        maps["offset"][b, :, y, x] = torch.tensor([cx - x - 0.5, cy - y - 0.5])
        maps["extent"][b, :, y, x] = target.box[b, i, 2:].log()
        maps["depth"][b, 0, y, x] = target.depth[b, i]
        maps["on"][b, 0, y, x] = 8.0 * (2 * target.labels[b, i, 0] - 1)
        for k, name in enumerate(ATTRIBUTES):
            maps[name][b, target.labels[b, i, 1 + k], y, x] = 8.0
    return maps


def test_decoding_perfect_maps_gives_back_the_things():
    for scene, seen in zip(SCENES, decode(perfect_maps(targets(SCENES)), 0.35), strict=True):
        owner = match_boxes([box_of(scene, i)[:2] for i in range(len(scene.things))], seen)
        assert len(seen) == len(scene.things) == len(owner)
        for i, (thing, truth) in enumerate(zip(scene.things, placed(scene), strict=True)):
            found = seen[owner[i]]
            assert all(getattr(found, name) == getattr(thing, name) for name in ATTRIBUTES)
            assert found.x == pytest.approx(truth.x, abs=1e-4)
            assert found.depth == pytest.approx(depth_of(scene, i), abs=1e-4)
            assert found.on == (None if thing.on is None else owner[thing.on])


def test_depth_differs_from_that_of_claims_by_a_constant_of_the_scene():
    for scene in SCENES:
        gaps = [depth_of(scene, i) - truth.depth for i, truth in enumerate(placed(scene))]
        assert max(gaps) - min(gaps) < 1e-9


def test_boxes_hold_the_silhouettes():
    alone = [sample_scene(seed, combinations="all", count=1) for seed in range(40)]
    ids, _ = render_ids(alone, 64)
    overlaps = []
    for scene, picture in zip(alone, ids, strict=True):
        ys, xs = (picture == 0).nonzero().T
        left, right, top, bottom = (float(v) / 64 for v in (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1))
        x, y, w, h = box_of(scene, 0)
        dx = min(right, x + w / 2) - max(left, x - w / 2)
        dy = min(bottom, y + h / 2) - max(top, y - h / 2)
        both = max(dx, 0) * max(dy, 0)
        overlaps.append(both / (w * h + (right - left) * (bottom - top) - both))
    assert min(overlaps) > 0.5 and sum(overlaps) / len(overlaps) > 0.75


def test_mirrored_targets_are_those_of_the_mirrored_scene():
    scenes = [s for s in SCENES if s.mirrored() is not None][:20]
    flipped = targets(scenes).mirrored(torch.ones(len(scenes), dtype=torch.bool))
    expected = targets([m for s in scenes if (m := s.mirrored()) is not None])
    there = expected.weight > 0
    torch.testing.assert_close(flipped.box[there], expected.box[there])
    torch.testing.assert_close(flipped.depth[there], expected.depth[there])
    assert torch.equal(flipped.labels, expected.labels) and torch.equal(flipped.setting, expected.setting)


def test_things_too_hidden_are_neither_asked_for_nor_forbidden():
    scene = next(s for s in SCENES if len(s.things) == 2)
    target = targets([scene], torch.tensor([[1.0, 0.1, 0.0, 0.0]]).numpy())
    heat, asked = heat_target(target)
    assert target.weight[0].tolist() == [1.0, -1.0, 0.0, 0.0]
    x, y = (box_of(scene, 1)[k] * GRID for k in (0, 1))
    assert asked[0, int(y), int(x)] == 0 and (heat == 1).sum() == 1


def test_the_loss_is_least_for_perfect_maps():
    target = targets(SCENES[:8])
    sizes = {name: len(words) for name, words in SETTING.items()}
    right = {n: 9.0 * torch.eye(sizes[n])[target.setting[:, i]] for i, n in enumerate(SETTING)}
    best = detection_loss(perfect_maps(target), right, target)
    for name in CHANNELS:
        worse = perfect_maps(target)
        worse[name] = worse[name].roll(1, 1) + 0.7 if name not in ("heat", "on") else -worse[name]
        assert detection_loss(worse, right, target) > best, name
    assert detection_loss(perfect_maps(target), {n: -v for n, v in right.items()}, target) > best


def test_empty_scenes_show_their_setting_and_nothing_else():
    scenes, pictures = empty_scenes(6)
    assert pictures.shape == (6, 64, 64, 3) and pictures.dtype == torch.uint8
    assert targets(scenes).weight.abs().sum() == 0
    full = to_uint8(render([sample_scene(seed, combinations="all") for seed in range(6)], 64))
    changed = (pictures.int() - full.int()).abs().amax(-1) > 2
    assert all(0.02 < share < 0.9 for share in changed.float().mean((1, 2)).tolist())  # the things and their shadows


def test_shapes_and_that_a_fixed_batch_is_learned():
    torch.manual_seed(0)
    model = Reader(ReaderConfig((16, 32, 32)))
    images, target = render(SCENES[:6], 64), targets(SCENES[:6])
    maps, setting = model(images)
    assert {k: tuple(v.shape) for k, v in maps.items()} == {k: (6, n, GRID, GRID) for k, n in CHANNELS.items()}
    assert {k: tuple(v.shape) for k, v in setting.items()} == {k: (6, len(v)) for k, v in SETTING.items()}
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    losses = []
    for _ in range(60):
        loss = detection_loss(*model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_roughening_changes_pictures_but_not_their_colour():
    images = torch.full((64, 3, 64, 64), -0.2)
    images[:, 0] = 0.4
    rough = roughen(images, torch.Generator().manual_seed(0))
    assert rough.shape == images.shape and rough.abs().max() <= 1 and not torch.equal(rough, images)
    red, green, blue = rough.mean((2, 3)).T
    assert ((red - green) > 0.4).all() and ((green - blue).abs() < 0.05).all()
    assert torch.equal(rough, roughen(images, torch.Generator().manual_seed(0)))


def test_bad_configurations_and_images_are_refused_by_name():
    with pytest.raises(ValueError, match=r"\(30, 64, 96\)"):
        ReaderConfig((30, 64, 96))
    with pytest.raises(ValueError, match="1.5"):
        ReaderConfig(threshold=1.5)
    with pytest.raises(ValueError, match=r"\(1, 3, 32, 32\)"):
        read(torch.zeros(1, 3, 32, 32), Reader())


def test_shipped_reader_finds_fresh_things_and_ships_its_own_error():
    scores = reader_scores(count=200)
    assert scores["found"] >= 0.95, scores
    assert scores["false_positives"] <= 0.05, scores
    assert min(scores[name] for name in ("surface", "light", "color", "kind")) >= 0.95, scores


def test_shipped_reader_reads_larger_pictures_alike():
    small, large = (render(SCENES[:12], size) for size in (64, 128))
    told = [[[(s.kind, s.color) for s in seen] for seen in read(images)] for images in (small, large)]
    same = sum(sorted(a) == sorted(b) for a, b in zip(*told, strict=True))
    assert same >= 11
    assert len(read_setting(small)) == 12


def test_shipped_reader_sees_nothing_where_there_is_nothing():
    flat = torch.cat([torch.full((1, 3, 64, 64), v) for v in (-0.9, -0.3, 0.0, 0.4, 0.9)])
    assert sum(len(seen) for seen in read(flat)) == 0
    scenes, pictures = empty_scenes(100, first=10_000)  # none that it was trained on
    assert sum(len(seen) > 0 for seen in read(to_images(pictures))) <= 2
    assert len(scenes) == 100
