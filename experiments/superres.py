"""What super-resolution adds, judged: Fréchet distance, consistency, colour, sharpness, detail from the caption alone.

python -m experiments.superres 256              # or 1024; needs the stages up to it
python -m experiments.superres 256 --stages     # after a new base: only what that changes
python -m experiments.superres 256 --details letter    # only letters, or patterns, by the caption alone
"""

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from experiments.claims.lab import side_by_side
from experiments.heed import bearers, told
from experiments.looks import color_shift, random_features, spectrum
from experiments.results import is_current, load_result, save_result, table
from imagen_lite import data, weights
from imagen_lite.cascade import Cascade, load_cascade, to_pil
from imagen_lite.data import Pool, to_images
from imagen_lite.evaluate import alignment
from imagen_lite.evaluate.alignment_report import CATEGORIES, cases, interval
from imagen_lite.evaluate.fidelity import consistency, frechet_distance, reader_features
from imagen_lite.scenes.detail import read_details
from imagen_lite.scenes.reader import box_of
from imagen_lite.scenes.renderer import render
from imagen_lite.scenes.world import SPLITS, Scene, sample_scene
from imagen_lite.stage import STAGES

FEATURES: dict[str, Callable[[Tensor], Tensor]] = {"reader": reader_features, "random": random_features}
WINDOW = {256: None, 1024: 256}  # what is compared of each picture
PICTURES = {256: 2000, 1024: 2048}  # compared, by default; for detail from the caption alone a quarter of them
TOLD = {"pattern": (8.0, 0.1), "letter": (3.0, 0.5)}  # guidance weight and level at which captions are asked for them
Draw = Callable[[Tensor, list[str], list[int]], Tensor]  # low-res pictures, captions, seeds -> pictures


def from_pil(pictures: Sequence[Image.Image]) -> Tensor:
    """PIL images of one size as (B, 3, H, W) in [-1, 1]; `cascade.to_pil` is the way there."""
    return to_images(torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])))


def lanczos(low_res: Tensor, size: int) -> Tensor:
    """Pillow's Lanczos, (B, 3, size, size)."""
    return from_pil([picture.resize((size, size), Image.Resampling.LANCZOS) for picture in to_pil(low_res)])


def bicubic(low_res: Tensor, size: int) -> Tensor:
    """torch's bicubic, (B, 3, size, size)."""
    return F.interpolate(low_res, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def drawer(cascade: Cascade, resolution: int, aug_level: float | None = None, weight: float | None = None) -> Draw:
    """The cascade's own way from low-res pictures, by the stage of this resolution, whatever their size."""
    stage = cascade.stages[resolution]

    def draw(low_res: Tensor, captions: list[str], seeds: list[int]) -> Tensor:
        side = 4 * low_res.shape[-1]
        alone = Cascade(cascade.text_encoder, {side: dataclasses.replace(stage, resolution=side)}, cascade.dtype)
        drawn = alone.sample(captions, low_res=low_res, seed=seeds, aug_level=aug_level, guidance_weight=weight)
        return drawn.images.cpu()  # the pictures that they are compared with are there

    return draw


def pools(resolution: int, n: int, split: str = "test") -> tuple[Pool, Pool]:
    """Real pictures of a split, and the same a quarter as large."""
    window = WINDOW[resolution]
    return (
        data.pool(n, split=split, size=resolution, window=window),
        data.pool(n, split=split, size=resolution // 4, window=window and window // 4),
    )


def pairs(
    resolution: int, n: int, batch: int = 8, split: str = "test"
) -> Iterator[tuple[Tensor, Tensor, list[str], list[int]]]:
    """Real pictures of a split, the same a quarter as large, captions and seeds, a batch at a time."""
    real, small = pools(resolution, n, split)
    for i in range(0, n, batch):
        rows = range(i, min(i + batch, n))
        images, low_res = (
            to_images(torch.from_numpy(np.stack([pool.picture(k) for k in rows]))) for pool in (real, small)
        )
        yield images, low_res, [real.captions[k][0] for k in rows], list(rows)


def from_renders(draw: Draw, resolution: int, n: int, split: str = "test") -> dict:
    """Pictures drawn from real low-res ones against the real large ones, and against interpolation."""
    ways = ("real", "drawn", "bicubic", "lanczos")
    found: dict[tuple[str, str], list[Tensor]] = {(way, name): [] for way in ways for name in FEATURES}
    power: dict[str, list[Tensor]] = {way: [] for way in ways}
    shifts: dict[str, list[Tensor]] = {"drawn": [], "renders": []}
    for real, low_res, captions, seeds in tqdm(
        pairs(resolution, n, split=split), total=-(-n // 8), desc="from renders"
    ):
        size = real.shape[-1]
        drawn = draw(low_res, captions, seeds)
        shifts["drawn"].append(color_shift(drawn, real))
        shifts["renders"].append(color_shift(real, low_res))  # of the world itself: it is darker seen close
        for way, images in zip(ways, (real, drawn, bicubic(low_res, size), lanczos(low_res, size)), strict=True):
            power[way].append(spectrum(images))
            for name, features in FEATURES.items():
                found[way, name].append(features(images))
    tables = {key: torch.cat(parts) for key, parts in found.items()}
    distance = {
        name: {way: round(frechet_distance(tables[way, name], tables["real", name]), 5) for way in ways[1:]}
        for name in FEATURES
    }
    mean_power = {way: torch.stack(parts).mean(0) for way, parts in power.items()}
    sharp = {way: round(float((mean_power[way] / mean_power["real"])[16:].mean()), 3) for way in ways[1:]}
    shift = {way: [round(v, 4) for v in torch.cat(parts)[:100].mean(0).tolist()] for way, parts in shifts.items()}
    return {
        "n": n, "frechet": distance,
        "ratio": {name: round(d["drawn"] / d["bicubic"], 4) for name, d in distance.items()},
        "power_of_fine_detail": sharp, "color_shift": shift,
    }  # fmt: skip


def consistent(cascade: Cascade, resolution: int, n: int, split: str = "test") -> dict:
    """PSNR of what is drawn, made small again, against what it was drawn from; no augmentation, w = 1."""
    draw = drawer(cascade, resolution, aug_level=0.0, weight=1.0)
    psnr = torch.cat(
        [consistency(draw(low, texts, seeds), low) for _, low, texts, seeds in pairs(resolution, n, split=split)]
    )
    ends = interval(psnr.numpy())
    return {"n": n, "psnr_db": round(float(psnr.mean()), 2), "interval": ends, "least": round(float(psnr.min()), 2)}


def after_each_stage(cascade: Cascade, resolution: int, n: int, batch: int = 8) -> dict:
    """Alignment of pictures drawn from text alone, as each stage up to `resolution` shows it; differences to 64 px."""
    names = list(CATEGORIES)[:3]
    captions = [case.caption for name in names for case in cases(name, "test", -(-n // len(names)))][:n]
    right: dict[int, list[bool]] = {size: [] for size in cascade.stages if size <= resolution}
    for i in tqdm(range(0, n, batch), desc="after each stage"):
        part = captions[i : i + batch]
        for size, images in cascade.sample(part, seed=i, resolution=resolution).stages.items():
            right[size] += [verdict.aligned for verdict in alignment(images, part)]
    table = {size: np.array(found, float) for size, found in right.items()}
    first = table[min(table)]
    rows = {size: {"aligned": round(v.mean(), 4), "against 64": round((v - first).mean(), 4),
                   "interval": interval(v - first)} for size, v in table.items()}  # fmt: skip
    return {"n": n, "rows": rows}


def bearing(detail: str, split: str = "test") -> Iterator[tuple[Scene, str]]:
    """Scenes of one thing with a pattern, or a letter, and a caption that tells it."""
    for seed in SPLITS[split]:
        scene = sample_scene(seed, count=1)
        if bearers(scene, detail):
            yield scene, told(scene, detail)


def right(images: Tensor, scenes: Sequence[Scene], detail: str) -> list[bool]:
    """Whether the judge of details reads each scene's one thing right."""
    words = read_details(images, [box_of(scene, 0) for scene in scenes])
    return [w[detail] == getattr(s.things[0], detail) for w, s in zip(words, scenes, strict=True)]


def unread(detail: str, split: str = "test", batch: int = 8) -> Iterator[tuple[Tensor, list[Scene], list[str]]]:
    """Batches of what the judge misreads at 64 px, enlarged by a formula: low-res renders, scenes and captions."""
    source = bearing(detail, split)
    while some := list(itertools.islice(source, batch)):
        scenes, captions = (list(part) for part in zip(*some, strict=True))
        low_res = render(scenes, 64)
        rows = [k for k, read in enumerate(right(bicubic(low_res, 256), scenes, detail)) if not read]
        if rows:
            yield low_res[rows], [scenes[k] for k in rows], [captions[k] for k in rows]


def by_caption_alone(
    cascade: Cascade, detail: str, n: int, weight: float, aug_level: float, split: str = "test"
) -> dict:
    """Patterns or letters that cannot be read at 64 px: how often right at 256 px with the caption, and without."""
    ways = {way: drawer(cascade, 256, aug_level, w) for way, w in (("with", weight), ("without", 0.0))}
    found: dict[str, list[bool]] = {way: [] for way in ways}
    for low_res, scenes, captions in tqdm(unread(detail, split), desc=detail):
        seeds = [scene.seed for scene in scenes]
        for way, draw in ways.items():
            found[way] += right(draw(low_res, captions, seeds), scenes, detail)
        if len(found["with"]) >= n:
            break
    table = {way: np.array(hits[:n], float) for way, hits in found.items()}
    gain = table["with"] - table["without"]
    rates = {way: round(v.mean(), 4) for way, v in table.items()}
    told = {"n": len(gain), "weight": weight, "aug_level": aug_level}
    return told | rates | {"gain": round(gain.mean(), 4), "interval": interval(gain)}


def as_text(results: dict[int, dict]) -> str:
    """The measured stages side by side, as markdown; `results` by resolution."""
    found = [results[size] for size in results]
    rows = [
        ["Fréchet distance to renders: drawn (bicubic, Lanczos)", *(_distances(r, "reader") for r in found), ""],
        ["**drawn / bicubic**", *(f"**{r['from_renders']['ratio']['reader']:.3f}**" for r in found), "0.25; 0.33"],
        ["the same by random features", *(f"{r['from_renders']['ratio']['random']:.3f}" for r in found), ""],
        [
            "fine detail against renders': drawn (bicubic)",
            *("{drawn:.2f} ({bicubic:.2f})".format(**r["from_renders"]["power_of_fine_detail"]) for r in found), "",
        ],
        [
            "largest shift of a channel's mean against the render (the render's own against the small picture)",
            *(_shift(r["from_renders"]["color_shift"]) for r in found), "0.01",
        ],
        ["consistency, level 0, w = 1 (least)", *(_consistency(r["consistency"]) for r in found), "28; 32 dB"],
        ["alignment against the same pictures at 64 px", *(_paired(r["stages"], size) for size, r in results.items()),
         "-0.02"],
        ["pattern right by the caption alone: with (without), gain", *(_alone(r, "pattern") for r in found), "above 0"],
        ["letter right by the caption alone: with (without), gain", *(_alone(r, "letter") for r in found), "above 0"],
    ]  # fmt: skip
    counts = "; ".join(
        f"{size} px: n = {r['from_renders']['n']:,} pictures, {r['consistency']['n']} for consistency, "
        f"{r['stages']['n']} prompts" for size, r in results.items()
    )  # fmt: skip
    head = ["", *(f"{size // 4} → {size}" for size in results), "needed"]
    return table(head, rows) + f"\n\n{counts}; 95 % bootstrap intervals; {found[-1]['hardware']}."


def _distances(result: dict, features: str) -> str:
    return "{drawn:.4f} ({bicubic:.4f}, {lanczos:.4f})".format(**result["from_renders"]["frechet"][features])


def _consistency(row: dict) -> str:
    return f"{row['psnr_db']:.1f} dB ({row['least']:.1f})"


def _shift(shift: dict[str, list[float]]) -> str:
    drawn, renders = (max(map(abs, shift[way])) for way in ("drawn", "renders"))
    return f"{drawn:.4f} ({renders:.4f})"


def _paired(stages: dict, size: int) -> str:
    row = stages["rows"][str(size)]
    return f"{row['against 64']:+.3f} [{row['interval'][0]:+.3f}, {row['interval'][1]:+.3f}]"


def _alone(result: dict, detail: str) -> str:
    if detail not in result:
        return ""
    r = result[detail]
    ends = f"[{r['interval'][0]:+.2f}, {r['interval'][1]:+.2f}]"
    at = f"w = {r['weight']:g}, level {r['aug_level']:g}, n = {r['n']}"
    return f"{r['with']:.2f} ({r['without']:.2f}), {r['gain']:+.2f} {ends}; {at}"


def used_alone(size: int) -> list[str]:
    """The models by which a stage is measured, whatever drew the small pictures."""
    details = size == 256 and (weights.DATA / "weights" / "detail").is_dir()
    return ["t5-lite-base", "reader", *(["detail"] if details else []), STAGES[size]]


def measured(what: str, size: int, n: int) -> dict:
    """One entry of the result, of the shipped cascade: its name, the stage's resolution, pictures compared."""
    cascade = load_cascade()
    if what == "from_renders":
        return from_renders(drawer(cascade, size), size, n)
    if what == "consistency":
        return consistent(cascade, size, max(16, n // 20))
    if what == "stages":
        return after_each_stage(cascade, size, max(8, n // 10))
    return by_caption_alone(cascade, what, max(16, n // 4), *TOLD[what])


def entries(size: int, n: int) -> list[str]:
    """All entries of a stage's result; the renders that they need are made first, by all cores."""
    pools(size, n)
    return ["from_renders", *(TOLD if "detail" in used_alone(size) else ()), "stages", "consistency"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Judge a super-resolution stage.")
    parser.add_argument("resolution", type=int, choices=list(WINDOW))
    parser.add_argument("-n", type=int, help="pictures for the Fréchet distance")
    parser.add_argument("--stages", action="store_true", help="only what a new base changes: alignment by stages")
    parser.add_argument("--details", nargs="+", choices=tuple(TOLD), help="only these, by the caption alone")
    options = parser.parse_args(arguments)
    size, stages = options.resolution, load_cascade().stages
    n = options.n or PICTURES[size]
    alone = used_alone(size)
    used = list(dict.fromkeys([*alone, *(STAGES[stage] for stage in stages if stage <= size)]))
    if options.details and "detail" not in alone:
        parser.error(f"details are judged at 256 px, not at {size}")
    some = options.details or (["stages"] if options.stages else [])
    if some and not is_current(f"sr{size}", used if options.details else alone):
        parser.error(f"{STAGES[size]} is not the one that was measured; measure all of it")
    result, names = load_result(f"sr{size}") if some else {}, some or entries(size, n)
    jobs = [partial(measured, name, size, n) for name in names]
    found = side_by_side(jobs) if len(jobs) > 1 else [jobs[0]()]
    save_result(f"sr{size}", result | dict(zip(names, found, strict=True)), models=used)


if __name__ == "__main__":
    main()
