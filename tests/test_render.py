"""The ray tracer: geometry against closed forms, windows against crops, and pictures that keep their promises."""

import dataclasses
import math

import pytest
import torch

from imagen_lite.scenes import trace
from imagen_lite.scenes.pack import pack
from imagen_lite.scenes.renderer import render, render_ids
from imagen_lite.scenes.world import (
    BOUNDS,
    COLORS,
    FINISHES,
    FOV,
    KINDS,
    LIGHTS,
    PATTERNS,
    SCALE,
    SURFACES,
    Camera,
    Scene,
    Thing,
    sample_scene,
)

SUN = {"noon": 60.0, "sunset": 19.0, "overcast": 70.0, "lamp": 46.0, "moon": 45.0}


def alone(kind="sphere", color="red", light="noon", surface="wood", azimuth=60.0, **words) -> Scene:
    """One thing in the middle of the picture."""
    camera = Camera(25.0, 5.0, (0.0, 0.0, 0.5))
    return Scene((Thing(kind, color, **words),), surface, light, camera, (azimuth, SUN[light]), 5)


def test_a_window_is_a_crop():
    scenes = [alone(surface=s, light="lamp", finish="shiny") for s in SURFACES] + [sample_scene(21)]
    whole = render(scenes, 48)
    window = render(scenes, 48, window=(13, 5, 20, 31))
    assert (whole[:, :, 13:33, 5:36] - window).abs().max() < 2e-3


def test_a_picture_does_not_depend_on_its_batch():
    scenes = [sample_scene(seed) for seed in range(12)]
    together = render(scenes, 32)
    apart = torch.cat([render([s], 32) for s in scenes])
    assert (together - apart).abs().max() < 2e-3
    assert torch.equal(together, render(scenes, 32))


def test_training_switches_do_not_reach_the_geometry():
    scenes = [sample_scene(seed) for seed in range(4)]
    plain = render(scenes, 24)
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(render(scenes, 24), plain)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)


def test_every_word_of_the_world_renders_within_range():
    scenes = [
        alone(
            k, c, LIGHTS[(i + j) % 5], SURFACES[(i + 2 * j) % 5], finish=FINISHES[j % 2], pattern=PATTERNS[(i + j) % 4]
        )
        for i, k in enumerate(KINDS)
        for j, c in enumerate(COLORS)
    ]
    scenes += [alone("cube", letter=letter) for letter in "AW"]
    pictures = render(scenes, 24)
    assert pictures.isfinite().all() and pictures.amin() >= -1 and pictures.amax() <= 1
    assert pictures.flatten(1).std(1).min() > 0.08


def test_more_rays_and_more_pixels_show_the_same_picture():
    scenes = [sample_scene(seed) for seed in (3, 8, 14)]
    coarse = render(scenes, 32, supersample=4)
    fine = torch.nn.functional.avg_pool2d(render(scenes, 64, supersample=2), 2)
    assert (coarse - fine).abs().mean() < 0.02


def test_a_sphere_covers_the_area_of_its_outline():
    size, scene = 256, alone("sphere")
    ids, full = render_ids([scene], size)
    angle = math.asin(0.5 / scene.camera.distance)
    radius = math.tan(angle) / math.tan(math.radians(FOV / 2)) * size / 2
    assert int((ids == 0).sum()) == int(full[0, 0]) == pytest.approx(math.pi * radius**2, rel=5e-3)


def test_ids_say_who_stands_before_whom():
    near, far = Thing("cube", "red", y=-0.8), Thing("sphere", "blue", y=0.8)
    scene = Scene((far, near), "sand", "noon", Camera(14.0, 6.0, (0.0, 0.0, 0.5)), (40.0, 60.0), 1)
    ids, full = render_ids([scene, alone()], 64)
    visible = [(ids[0] == k).sum() for k in (0, 1)]
    assert 0 < visible[0] < full[0, 0] and visible[1] == full[0, 1]
    assert full[1, 1] == 0 and (ids[1] <= 0).all()


def test_mirrored_scenes_have_mirrored_outlines():
    scenes = [s for s in map(sample_scene, range(60)) if s.mirrored() is not None]
    ids, full = render_ids(scenes, 64)
    flipped, flipped_full = render_ids([m for s in scenes if (m := s.mirrored())], 64)
    assert (ids != flipped.flip(-1)).float().mean() < 1e-3
    assert ((full - flipped_full).abs() <= 3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_things_stay_within_their_bounds(kind):
    """What other parts rely on: `BOUNDS` holds each kind, and hardly more (seen from afar, nearly from the side)."""
    for yaw in (0.0, 30.0, 77.0):
        scene = dataclasses.replace(alone(kind, yaw=yaw), camera=Camera(0.0, 60.0, (0.0, 0.0, 0.8)))
        ids, _ = render_ids([scene], 512)
        rows, columns = (ids[0] == 0).nonzero(as_tuple=True)
        pixel = 2 * 60.0 * math.tan(math.radians(FOV / 2)) / 512
        radius, height, _ = BOUNDS[kind]
        assert (columns - 255.5).abs().max() * pixel <= radius + 0.06
        assert (int(rows.max()) - int(rows.min()) + 1) * pixel == pytest.approx(height, abs=2.5 * pixel)


def small_world() -> tuple[list[Scene], torch.Tensor]:
    """Scenes of every kind, and points (B, 3, N) around and on the table of each."""
    scenes = [alone(kind, yaw=20.0, light="lamp", size=size) for kind in KINDS for size in SCALE]
    points = torch.rand(len(scenes), 3, 1500, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    points[:, 2] = points[:, 2].clamp(min=0.0)
    return scenes, points


def test_soft_shadows_agree_with_shadow_rays_when_the_light_is_small():
    scenes, points = small_world()
    world = pack(scenes, torch.device("cpu"))
    light = torch.tensor([2.0, -1.5, 2.6]).expand(len(scenes), 3)
    shadows = trace.shadows_of(world, light, torch.full((len(scenes),), 1e-5))
    way = torch.nn.functional.normalize(light[:, :, None] - points, dim=1)
    outside = trace.clearance(world, points).amin(1) > 0.02
    soft = trace.visibility(world, shadows, points, way)
    hard = (trace.hit_distances(world, points, way).amin(1) > trace.FAR).float()
    wrong = ((soft - hard).abs() > 0.5) & outside
    assert 0.02 < (hard == 0)[outside].float().mean() < 0.9
    assert wrong.float().mean() < 0.01


def test_penumbras_widen_with_the_light_and_with_the_way():
    world = pack([alone("cube")], torch.device("cpu"))
    light = torch.tensor([[10.0, 0.0, 8.0]])
    line = torch.linspace(-4.0, -0.451, 4000)
    points = torch.stack([line, torch.zeros_like(line), torch.zeros_like(line)])[None]
    way = torch.nn.functional.normalize(light[:, :, None] - points, dim=1)
    widths = []
    for softness in (0.02, 0.1):
        seen = trace.visibility(world, trace.shadows_of(world, light, torch.tensor([softness])), points, way)[0]
        touching = line[(seen < 0.05)].max()  # dark right up to the cube's side
        assert touching > -0.48
        widths.append(((seen > 0.05) & (seen < 0.95) & (line < -0.6)).sum())
    assert widths[1] > 3 * widths[0] > 0


def test_shadows_fall_away_from_the_sun():
    left = render([alone(azimuth=90.0, surface="sand")], 32)[0].mean(0)  # the sun is on the right
    right = render([alone(azimuth=-90.0, surface="sand")], 32)[0].mean(0)
    below = slice(20, 26)
    assert left[below, 4:10].mean() < right[below, 4:10].mean() - 0.05
    assert left[below, 22:28].mean() > right[below, 22:28].mean() + 0.05


def chroma(pictures: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
    """Mean colour (B, 3) of the thing in each picture."""
    on = (render_ids(scenes, pictures.shape[-1])[0] == 0)[:, None]
    return (pictures * on).sum((2, 3)) / on.sum((2, 3))


@pytest.mark.parametrize("light", LIGHTS)
def test_the_eight_colours_tell_apart_in_every_light(light):
    for finish in FINISHES:
        scenes = [alone("duck", color, light, "sand", finish=finish) for color in COLORS]
        colors = chroma(render(scenes, 32), scenes)
        apart = torch.cdist(colors, colors) + torch.eye(len(COLORS)) * 9
        assert apart.min() > (0.16 if light == "moon" else 0.2), light


def test_patterns_keep_the_colour_of_the_thing():
    for color in COLORS:
        scenes = [alone("sphere", color, pattern=pattern) for pattern in PATTERNS]
        plain, *patterned = chroma(render(scenes, 32), scenes)
        others = [alone("sphere", other) for other in COLORS if other != color]
        rest = chroma(render(others, 32), others)
        assert all((p - plain).norm() < (p - rest).norm(dim=1).min() for p in patterned)


def test_shiny_things_shine_and_matte_ones_do_not():
    scenes = [alone("sphere", "blue", finish=finish, light="noon") for finish in FINISHES]
    matte, shiny = render(scenes, 64)
    away = (render_ids(scenes, 64)[0][:1] != 0).float()
    on = torch.nn.functional.max_pool2d(away, 3, 1, 1)[0] == 0  # pixels that show nothing else
    assert shiny.amin(0)[on].max() > 0.6 > -0.2 > matte.amin(0)[on].max()


@pytest.mark.parametrize("light", ["noon", "sunset", "overcast"])
def test_days_use_the_whole_tonal_range(light):
    scenes = [s for s in map(sample_scene, range(600)) if s.light == light][:40]
    low, high = torch.quantile(render(scenes, 32).flatten(), torch.tensor([0.01, 0.99]))
    assert high - low > 1.6


def test_nights_are_dark_and_grass_is_not_sand():
    noon, moon = (render([alone(light=x, surface="cloth")], 32).mean() for x in ("noon", "moon"))
    assert moon < noon - 0.5
    grass, sand = (render([alone(surface=s)], 32)[0, :, 24:].mean((1, 2)) for s in ("grass", "sand"))
    assert grass[1] > grass[0] + 0.05 and sand[0] > sand[2] + 0.2


def test_wood_does_not_moire():
    """Far coarser than its grain, a plain table is as smooth as the average of many rays says."""
    scene = dataclasses.replace(alone(surface="wood"), camera=Camera(30.0, 9.0, (0.0, 0.0, 0.5)))
    few, many = render([scene], 32, supersample=1), render([scene], 32, supersample=6)
    assert (few - many)[..., 26:, :].abs().mean() < 0.04


@pytest.mark.parametrize(
    ("window", "message"), [((0, 0, 65, 4), "inside"), ((-1, 0, 4, 4), "inside"), ((0, 0, 0, 4), "inside")]
)
def test_a_window_must_lie_inside(window, message):
    with pytest.raises(ValueError, match=message):
        render([alone()], 64, window=window)


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        render([alone()], 0)
    with pytest.raises(ValueError, match="at least 1"):
        render([alone()], 8, supersample=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_draws_the_same():
    scenes = [sample_scene(seed) for seed in range(8)]
    assert (render(scenes, 64) - render(scenes, 64, device="cuda").cpu()).abs().mean() < 2e-3
