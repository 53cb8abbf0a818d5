"""The world's own figures: how large things are, how much they cover, how far the light reaches.

python -m imagen_lite.scenes.figures
"""

import numpy as np
import torch

from imagen_lite.scenes.renderer import render, render_ids
from imagen_lite.scenes.world import LIGHTS, SPLITS, Scene, sample_scene


def world_figures(count: int = 1000, pictures_per_light: int = 40) -> dict:
    """Measures `count` random scenes of the test split at 64 px (DESIGN §2).

    Returns:
        {"scenes", "things", "median_px", "p5_px": across things, "cover": mean share of the picture,
         "range": light -> spread of pixel values between the 1st and 99th percentile, of 2,
         "elevation", "horizon": 5th and 95th percentile, share of pictures that show the horizon}
    """
    scenes = [sample_scene(seed) for seed in SPLITS["test"][:count]]
    across = np.array([size for scene in scenes for size in _sizes(scene)])
    cover = [float((render_ids(scenes[i : i + 100])[0] >= 0).float().mean()) for i in range(0, count, 100)]
    spans = {}
    for light in LIGHTS:
        lit = [s for s in scenes if s.light == light][:pictures_per_light]
        values = torch.cat([render([s], 64).flatten() for s in lit]).numpy()
        spans[light] = round(float(np.subtract(*np.percentile(values, (99, 1)))), 3)
    elevations = [s.camera.elevation for s in scenes]
    return {
        "scenes": count,
        "things": len(across),
        "median_px": round(float(np.median(across)), 1),
        "p5_px": round(float(np.percentile(across, 5)), 1),
        "cover": round(float(np.mean(cover)), 3),
        "range": spans,
        "elevation": [round(float(v), 1) for v in np.percentile(elevations, (5, 95))],
        "horizon": round(float(np.mean([_shows_horizon(s) for s in scenes])), 3),
    }


def _sizes(scene: Scene) -> list[float]:
    """How wide each thing is on a 64-px picture: its footprint's diameter, seen at its middle."""
    sizes = []
    for i, thing in enumerate(scene.things):
        z = scene.base_height(i) + thing.height / 2
        left, right = (scene.camera.project(thing.x + side * thing.radius, thing.y, z)[0] for side in (-1, 1))
        sizes.append((right - left) * 32)
    return sizes


def _shows_horizon(scene: Scene) -> bool:
    """Whether a point of the table far behind the scene is inside the picture."""
    return scene.camera.project(0.0, 1e4, 0.0)[1] > -1


def format_figures(figures: dict) -> str:
    """The figures as lines."""
    spans = ", ".join(f"{light} {span:.2f}" for light, span in figures["range"].items())
    low, high = figures["elevation"]
    return (
        f"{figures['scenes']:,} scenes, {figures['things']:,} things, at 64 px\n"
        f"across: median {figures['median_px']} px, 5th percentile {figures['p5_px']} px\n"
        f"things cover {figures['cover']:.1%} of the picture\n"
        f"1-99 % range of pixel values, of 2: {spans}\n"
        f"camera: elevation {low}° to {high}° (5-95 %), the horizon shows in {figures['horizon']:.0%}"
    )


if __name__ == "__main__":
    print(format_figures(world_figures()))
