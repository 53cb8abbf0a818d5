"""A smaller world, for a model that is trained while one watches: one large thing, one table, one place to stand."""

import random

from imagen_lite.scenes.world import COLORS, HELD_OUT, Camera, Scene, Thing

KINDS = ("sphere", "cube", "cone")
CAMERA, SUN = Camera(elevation=22.0, distance=3.6, target=(0.0, 0.0, 0.45)), (40.0, 55.0)
PAIRS = tuple((color, kind) for color in COLORS for kind in KINDS)


def small_scenes(count: int, seed: int = 0) -> tuple[list[Scene], list[str]]:
    """Scenes of a matte sphere, cube or cone, and their captions; held-out combinations are left out.

    The same for the same arguments; only colour, kind, place and turn differ.
    """
    rng = random.Random(seed)
    shown = [pair for pair in PAIRS if pair not in HELD_OUT]
    scenes, captions = [], []
    for _ in range(count):
        color, kind = rng.choice(shown)
        x, y, yaw = rng.uniform(-0.35, 0.35), rng.uniform(-0.35, 0.35), rng.uniform(0, 90)
        scenes.append(Scene((Thing(kind, color, x=x, y=y, yaw=yaw),), "wood", "noon", CAMERA, SUN, seed=3))
        captions.append(small_caption(color, kind))
    return scenes, captions


def small_caption(color: str, kind: str) -> str:
    """The sentence for a colour and a kind."""
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color} {kind}"
