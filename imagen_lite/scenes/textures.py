"""Detail drawn once and looked up at the right blur: the five surfaces, and the letters.

A texture is a square tile with a pyramid of ever smaller copies under it. A ray asks for the copy whose texels
are as large as its own footprint, so fine grain fades into its mean instead of turning into moiré.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

TILE = {"wood": 3.0, "tiles": 1.6, "grass": 1.5, "sand": 1.5, "cloth": 0.8}  # table units a tile covers
_SIZE = 1024


@dataclass(frozen=True)
class Pyramid:
    """`texels` (T, C): all levels of `layers` square textures of `size`, level by level, row by row."""

    texels: Tensor
    size: int
    layers: int
    wrap: bool

    def look_up(self, u: Tensor, v: Tensor, footprint: Tensor, layer: Tensor | None = None) -> Tensor:
        """Bilinear values (M, C) at u, v (M,) in tiles, at the level nearest to `footprint` (M,) in tiles."""
        levels = self.size.bit_length() - 1
        wanted = (footprint * self.size).clamp(min=1.0).log2().round()
        level = torch.minimum(wanted, torch.full_like(wanted, levels - 2))
        size = torch.exp2(levels - level)
        # Levels l = 0, 1, .. hold layers * 4^(levels - l) texels each, one after the other.
        start = ((4.0**levels - size * size) * (4 * self.layers / 3)).round().long()
        if layer is not None:
            start = start + layer.long() * (size * size).long()
        x, y = u * size - 0.5, v * size - 0.5
        x0, y0 = x.floor(), y.floor()
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]

        def at(dx: int, dy: int) -> Tensor:
            if self.wrap:
                column, row = torch.remainder(x0 + dx, size), torch.remainder(y0 + dy, size)
            else:
                column, row = (
                    torch.minimum((x0 + dx).clamp(min=0), size - 1),
                    torch.minimum((y0 + dy).clamp(min=0), size - 1),
                )
            return self.texels.index_select(0, start + (row * size + column).long())

        return at(0, 0).lerp(at(1, 0), fx).lerp(at(0, 1).lerp(at(1, 1), fx), fy)


def pyramid(images: Tensor, wrap: bool) -> Pyramid:
    """Build a `Pyramid` from images (layers, C, size, size), size a power of two."""
    layers, channels, size, _ = images.shape
    levels = [images]
    while levels[-1].shape[-1] > 1:
        levels.append(torch.nn.functional.avg_pool2d(levels[-1], 2))
    flat = [level.permute(0, 2, 3, 1).reshape(-1, channels) for level in levels]
    return Pyramid(torch.cat(flat), size, layers, wrap)


@cache
def surface(name: str, device: torch.device) -> Pyramid:
    """The tile of one surface: channels tone, mask (what each means, `materials` knows), slope along u and v."""
    draw = {"wood": _wood, "tiles": _tiles, "grass": _grass, "sand": _sand, "cloth": _cloth}[name]
    generator = torch.Generator().manual_seed(20240 + len(name))
    tone, mask, height = draw(generator)
    per_unit = _SIZE / TILE[name] / 2
    slopes = [(height.roll(-1, k) - height.roll(1, k)) * per_unit for k in (1, 0)]
    return pyramid(torch.stack([tone, mask, *slopes])[None].to(device), wrap=True)


def _noise(generator: torch.Generator, across: float, along: float, size: int = _SIZE) -> Tensor:
    """Seamless smooth noise (size, size), mean 0, deviation 1, with features of so many texels in u and in v."""
    white = torch.fft.rfft2(torch.randn(size, size, generator=generator))
    fu, fv = torch.fft.rfftfreq(size)[None, :], torch.fft.fftfreq(size)[:, None]
    smooth = torch.fft.irfft2(white * torch.exp(-((fu * across) ** 2 + (fv * along) ** 2) * 5), s=(size, size))
    return (smooth - smooth.mean()) / smooth.std()


def _bump(x: Tensor, width: float) -> Tensor:
    """1 at x = 0, falling to 0 at ±width."""
    return (1 - (x / width) ** 2).clamp(0, 1) ** 2


def _wood(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Six planks along u: tone is grain, mask the gaps between planks."""
    v, u = torch.meshgrid(torch.arange(_SIZE) / _SIZE, torch.arange(_SIZE) / _SIZE, indexing="ij")
    planks = 6
    plank = (v * planks).floor().long()
    tint, phase, joint = (torch.rand(planks, generator=g)[plank] for _ in range(3))
    across = v * planks - plank
    wander = _noise(g, 300, 60) * 0.18 + _noise(g, 120, 24) * 0.05
    rings = torch.sin(((across + phase * 7 - 0.5) * 1.3 + wander) * 2 * math.pi * (3 + 4 * tint))
    fibre = _noise(g, 90, 3.0) * 0.5 + _noise(g, 30, 1.6) * 0.5
    pores = (_noise(g, 26, 1.5) - 1.6).clamp(min=0)
    tone = 0.5 + (tint - 0.5) * 0.62 + rings * 0.13 + fibre * 0.07 - pores * 0.18
    end = (u - joint + 0.5).frac() - 0.5
    gap = torch.maximum(_bump(torch.minimum(across, 1 - across), 0.022), _bump(end, 0.004))
    return tone.clamp(0, 1), gap, fibre * 0.0002 - gap * 0.012


def _tiles(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Four by four glazed tiles: tone is the glaze, alternating; mask the grout."""
    v, u = torch.meshgrid(torch.arange(_SIZE) / _SIZE * 4, torch.arange(_SIZE) / _SIZE * 4, indexing="ij")
    i, j = u.floor().long(), v.floor().long()
    tint = torch.rand(4, 4, generator=g)[j, i]
    edge = torch.minimum(torch.minimum(u - i, 1 - (u - i)), torch.minimum(v - j, 1 - (v - j)))
    edge = edge + _noise(g, 20, 20) * 0.0015
    grout = ((0.032 - edge) / 0.008).clamp(0, 1)
    cloud = _noise(g, 60, 60) * 0.035 + _noise(g, 8, 8) * 0.02
    speck = (_noise(g, 3, 3) - 2.2).clamp(min=0) * 0.25
    tone = ((i + j) % 2) * 0.62 + 0.16 + (tint - 0.5) * 0.16 + cloud - speck
    height = ((edge - 0.03) / 0.05).clamp(0, 1).sqrt() * 0.012 + _noise(g, 40, 40) * 0.0006
    return tone.clamp(0, 1), grout, height + grout * _noise(g, 2, 2) * 0.0006


def _grass(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Blades painted from the soil up: tone is how light a blade is, mask how dry."""
    from PIL import Image, ImageDraw

    size, blades = _SIZE, 7000
    tone, dry = Image.new("L", (size, size), 30), Image.new("L", (size, size), 60)
    pens = ImageDraw.Draw(tone), ImageDraw.Draw(dry)
    draws = torch.rand(blades, 7, generator=g)
    lush = _noise(g, 150, 150)
    for k, (x, y, turn, length, bend, light, straw) in enumerate(draws.tolist()):
        x, y, turn = x * size, y * size, (turn - 0.5) * 2.6 - math.pi / 2
        length, width = 34 + 62 * length, 2.6 + 2.2 * light
        base = 30 + 95 * k / blades + 14 * float(lush[int(y) - 1, int(x) - 1])
        stations = [(x, y)]
        for _ in range(3):
            stations.append(
                (stations[-1][0] + length / 3 * math.cos(turn), stations[-1][1] + length / 3 * math.sin(turn))
            )
            turn += (bend - 0.5) * 1.1
        for s, ((x0, y0), (x1, y1)) in enumerate(zip(stations, stations[1:], strict=False)):
            nx, ny = (y1 - y0) / length * 3, (x0 - x1) / length * 3
            w0, w1 = width * (1 - s / 3.2), width * (1 - (s + 1) / 3.2)
            corners = [
                (x0 + nx * w0, y0 + ny * w0),
                (x1 + nx * w1, y1 + ny * w1),
                (x1 - nx * w1, y1 - ny * w1),
                (x0 - nx * w0, y0 - ny * w0),
            ]
            fill = (int(base * (0.62 + 0.28 * s) + 60 * light), int(255 * straw**3))
            for ox in (-size, 0, size):
                for oy in (-size, 0, size):
                    if all(-110 < a + o < size + 110 for a, o in ((x, ox), (y, oy))):
                        moved = [(a + ox, b + oy) for a, b in corners]
                        for pen, value in zip(pens, fill, strict=True):
                            pen.polygon(moved, fill=value)
    tones, drys = (
        torch.frombuffer(bytearray(i.tobytes()), dtype=torch.uint8).reshape(size, size) / 255 for i in (tone, dry)
    )
    return tones, drys, tones * 0.02


def _sand(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Ripples and grains: tone is the grains, mask the dark ones."""
    v = torch.arange(_SIZE)[:, None] / _SIZE
    ripple = torch.sin(2 * math.pi * 6 * v + _noise(g, 260, 200) * 1.8) * 0.5 + 0.5
    ripple = ripple * (0.5 + 0.25 * _noise(g, 200, 200).clamp(-2, 2))
    grain = _noise(g, 2.0, 2.0)
    coarse = _noise(g, 5, 5)
    tone = 0.5 + grain * 0.16 + coarse * 0.06 + _noise(g, 120, 120) * 0.05 + (ripple - 0.25) * 0.22
    dark = ((_noise(g, 2.5, 2.5) - 1.9) * 2).clamp(0, 1)
    return tone.clamp(0, 1), dark, ripple * 0.018 + grain * 0.0008 + coarse * 0.001 + _noise(g, 60, 60) * 0.003


def _cloth(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Checked linen: mask is the dyed checks (0, half where one thread is dyed, 1), tone the threads."""
    threads = 64
    v, u = torch.meshgrid(torch.arange(_SIZE) / _SIZE * threads, torch.arange(_SIZE) / _SIZE * threads, indexing="ij")
    i, j = u.floor(), v.floor()
    over = ((i + j) % 2).bool()  # the thread along u lies on top
    round_u, round_v = torch.sin(math.pi * (v - j)), torch.sin(math.pi * (u - i))
    thick = torch.where(over, round_u, round_v) * (0.75 + 0.25 * torch.where(over, round_v, round_u))
    slub_u, slub_v = (torch.randn(threads, generator=g) * 0.08 for _ in range(2))
    slub = (
        torch.where(over, slub_u[j.long()], slub_v[i.long()])
        + torch.where(over, _noise(g, 60, 2), _noise(g, 2, 60)) * 0.05
    )
    dyed_u, dyed_v = (j % 16 >= 8).float(), (i % 16 >= 8).float()
    dye = torch.where(over, dyed_u, dyed_v)
    wrinkle = _noise(g, 260, 260) * 0.006
    return (0.25 + 0.6 * thick + slub).clamp(0, 1), dye, thick * 0.004 + wrinkle


@cache
def grain(device: torch.device) -> Pyramid:
    """Fine wood grain along u under a thing's paint, one channel of mean 0."""
    g = torch.Generator().manual_seed(7)
    fibre = _noise(g, 120, 4, 512) * 0.6 + _noise(g, 40, 1.6, 512) * 0.5
    rings = torch.sin(torch.arange(512)[:, None] * (2 * math.pi * 14 / 512) + _noise(g, 400, 60, 512) * 2.5)
    return pyramid((fibre + rings * 0.7)[None, None].to(device), wrap=True)


@cache
def letters(device: torch.device) -> Pyramid:
    """The 26 capitals in DejaVu Sans Bold, one layer each: 1 where there is ink, centred, 5/8 of the height."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    size = 256
    font = ImageFont.truetype(str(path), 220)
    glyphs = []
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        image = Image.new("L", (size, size), 0)
        left, top, right, bottom = font.getbbox(letter)
        at = ((size - left - right) / 2, (size - top - bottom) / 2)
        ImageDraw.Draw(image).text(at, letter, fill=255, font=font)
        glyphs.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(1, size, size) / 255)
    return pyramid(torch.stack(glyphs).to(device), wrap=False)
