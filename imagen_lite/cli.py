"""The command line: `imagen-lite sample, train, render, evaluate, bench, progress`.

What is heavy (torch, models) is imported inside the commands, so that `--help` and mistakes answer at once.
"""

import os
import signal
import sys
import time
import warnings
from contextlib import contextmanager
from errno import errorcode
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagen_lite import recipes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from imagen_lite.cascade import Cascade

app = typer.Typer(
    help="Imagen (arXiv 2205.11487) in small: draws what you type, in a world of wooden toys, and shows how.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

# What to do about an errno.
HELP: dict[str, str] = dict.fromkeys(("ENOSPC", "EDQUOT", "EFBIG"), "; free some disk space")
HELP |= dict.fromkeys(("EROFS", "EACCES"), "; name another folder (--output, IMAGEN_LITE_CACHE, IMAGEN_LITE_DATA)")
HELP |= {"ENOMEM": "; ask for less at once (--count, --resolution), or close other programs"}
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; by default the best there is.")]


@app.command()
def sample(
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT...", help="What to draw.")] = None,
    guidance_weight: Annotated[
        float | None, typer.Option("--guidance-weight", "-w", help="How strongly the prompt pulls; 1 is off.")
    ] = None,
    threshold: Annotated[str, typer.Option(help="none, static or dynamic: what holds x0 within [-1, 1].")] = "dynamic",
    percentile: Annotated[float, typer.Option(help="Of dynamic thresholding, in (0, 1].")] = 0.995,
    resolution: Annotated[int | None, typer.Option(help="64, 256 or 1024; by default the largest there is.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; by default what suits the model.")] = None,
    seed: Annotated[int | None, typer.Option(help="Picture i of the call uses seed + i.  [default: 0]")] = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="Pictures per prompt.")] = 1,
    surprise: Annotated[bool, typer.Option("--surprise", help="Make up a prompt.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where it goes: .png, .jpg, .webp.")] = Path("out.png"),
    model: Annotated[str | None, typer.Option(help="A model of your own: its folder, or its id on the hub.")] = None,
    device: Device = None,
):
    """Draw a picture from each PROMPT, and say what the reader sees in it.

    Example: imagen-lite sample "a shiny red cone next to a small blue house on the grass" -o out.png
    """
    from imagen_lite import viz

    viz.picture_path(output)
    wanted = _prompts(prompts or [], surprise, seed)
    for prompt in () if model else wanted:
        _say_unknown_words(prompt)
    cascade = _load(device, model)
    captions = [prompt for prompt in wanted for _ in range(count)]
    start = time.perf_counter()
    out = cascade.sample(
        captions, guidance_weight=guidance_weight, threshold=threshold, percentile=percentile, steps=steps,
        seed=seed or 0, resolution=resolution, progress=True,
    )  # fmt: skip
    viz.save(viz.grid(out.images), output)
    size = "×".join(str(n) for n in out.images.shape[2:])
    what = "1 picture" if len(captions) == 1 else f"{len(captions)} pictures"
    typer.echo(f"Drew {what} of {size} in {time.perf_counter() - start:.1f} s: {output.resolve()}")
    if not model:  # the reader knows our world alone
        _say_what_is_seen(out.stages[min(out.stages)], captions)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(recipes.RECIPES)}.", show_default=False)],
    max_minutes: Annotated[float | None, typer.Option(help="Stop after this long; run it again to go on.")] = None,
    device: Device = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start again, not where the last run stopped.")] = False,
    doctor: Annotated[bool, typer.Option("--doctor", help="Only check the data, and learn a batch by heart.")] = False,
    source: Annotated[str | None, typer.Option("--data", help="Your own pictures: a folder, or a hub id.")] = None,
    text_encoder: Annotated[str | None, typer.Option(help="With --data: a folder or hub id; by default ours.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="With --data: your model's folder.")] = None,
):
    """Train a model by its recipe, and write its weights: to data/weights, or of your own pictures to --output.

    A run goes on where the last one stopped, however it stopped: its state is in ~/.cache/imagen_lite/runs, or in
    --output.

    Your own pictures stand in a folder with a metadata.jsonl, a line for each: {"file_name": "0001.png", "text": "its
    caption"}. The text encoder is a T5, BERT, GPT-2 or CLIP; --output is my_model unless you say otherwise.

    Example: imagen-lite train base64 --data my_folder --text-encoder google/flan-t5-small -o my_model --max-minutes 60
    """
    recipes.follow(recipe, max_minutes=max_minutes, device=device, fresh=fresh, doctor=doctor, source=source,
                   text_encoder=text_encoder, output=output)  # fmt: skip


@app.command()
def render(
    seed: Annotated[int, typer.Option(help="Of the first scene; the others follow.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=400, help="How many scenes.")] = 16,
    size: Annotated[int, typer.Option(min=8, max=2048, help="Pixels of each picture's side.")] = 256,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the sheet goes.")] = Path("out.png"),
    device: Device = None,
):
    """Render random scenes of the world as a contact sheet, with a caption of each."""
    import torch
    from tqdm.auto import tqdm

    from imagen_lite import scenes, viz
    from imagen_lite.cascade import default_device

    viz.picture_path(output)
    place = default_device(device)
    world = [scenes.sample_scene(seed + i) for i in range(count)]
    at_once = max(1, 16 * 256**2 // size**2)
    parts = [scenes.render(world[i : i + at_once], size, device=place).cpu() for i in tqdm(range(0, count, at_once))]
    viz.save(viz.grid(torch.cat(parts)), output)
    for scene in world:
        typer.echo(f"{scene.seed:>6}  {scenes.captions(scene)[0]}")
    typer.echo(f"Rendered {count} scenes at {size}×{size}: {output.resolve()}")


@app.command()
def bench(
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="The median of this many is told.")] = 5,
    device: Device = None,
):
    """Measure import, rendering, sampling and a training step on this machine."""
    from imagen_lite import bench as benchmark

    result = benchmark.run(repeats, device)
    _tell(benchmark.format_rows(result), json, result)


@app.command()
def progress(
    path: Annotated[Path | None, typer.Argument(metavar="MY_IMAGEN", help="A my_imagen.py.")] = None,
):
    """Which exercises of the notebooks are solved: what my_imagen.py holds, here or in notebooks/."""
    from imagen_lite import learn

    places = [path] if path else [learn.own_file(), Path("notebooks") / learn.FILE]
    there = next((place for place in places if place.is_file()), None)
    if path and not there:
        raise FileNotFoundError(f"there is no file {str(path)!r}; leave it out to look here and in notebooks/")
    typer.echo(learn.progress(there or places[0]))
    typer.echo(f"by {there}" if there else "Nothing is solved yet: what passes in a notebook is kept in my_imagen.py.")


@app.command()
def evaluate(
    what: Annotated[str, typer.Argument(help="all; alignment, at many weights; or the reader, which judges.")] = "all",
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Captions a category, of alignment.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the pictures.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Of all: begin again, not where it stopped.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
    device: Device = None,
):
    """Measure the shipped models: what the pictures show, how real they look, by ten minutes or by the hour."""
    from imagen_lite import evaluate, processes
    from imagen_lite.recipes import evaluation
    from imagen_lite.stage import default_device

    ways = {
        "all": lambda where: (evaluation.evaluation(_load(where), seed, fresh), evaluation.format_evaluation),
        "alignment": lambda where: (evaluate.report(_load(where), n=n, seed=seed), evaluate.format_report),
        "reader": lambda where: (evaluate.reader_scores(device=where), evaluate.format_scores),
    }
    if what not in ways:
        raise ValueError(f"there is no {what!r} to evaluate; choose from {', '.join(ways)}")
    result, told = ways[what](processes.join(default_device(device)))
    if processes.place()[0] == 0:
        _tell(told(result), json, result)
    processes.leave()


def _tell(text: str, path: Path | None, result: dict) -> None:
    typer.echo(text)
    if path:
        from imagen_lite.weights import write_atomic

        write_atomic(path, dumps(result, indent=2) + "\n")


def _prompts(prompts: list[str], surprise: bool, seed: int | None) -> list[str]:
    """The prompts asked for, or one made up."""
    if bool(prompts) == surprise:
        raise ValueError('say what to draw, such as "a red cone on the grass", or ask for --surprise, not both')
    if not surprise:
        from imagen_lite.inputs import check_prompts

        return check_prompts(prompts)
    from imagen_lite.scenes.captions import surprise as make_up

    prompt = make_up(seed)
    typer.echo(f"Surprise: {prompt}")
    return [prompt]


def _say_unknown_words(prompt: str) -> None:
    """Names the words outside this world; they are drawn all the same, as the model understands them."""
    from imagen_lite.scenes.words import suggest, unknown_words
    from imagen_lite.scenes.world import COLORS, KINDS

    unknown = unknown_words(prompt)
    for word in unknown:
        like = suggest(word)
        typer.echo(f"{word!r} is outside this world" + (f": did you mean {' or '.join(like)}?" if like else "."))
    if unknown:
        typer.echo(f"It knows {', '.join(COLORS)}; {', '.join(KINDS)}. Drawn all the same, as well as it can.")


def _load(device: "str | torch.device | None", folder: str | None = None) -> "Cascade":
    """The shipped cascade, or one of your own, with a line that says what was loaded."""
    from imagen_lite.cascade import load_cascade

    start = time.perf_counter()
    cascade = load_cascade(device, folder=folder)
    typer.echo(f"Loaded {cascade.describe()} in {time.perf_counter() - start:.1f} s")
    return cascade


def _say_what_is_seen(images: "Tensor", captions: list[str]) -> None:
    """What the reader sees in each picture, and whether it is what the caption says."""
    from imagen_lite import evaluate, scenes
    from imagen_lite.weights import WeightsError

    try:
        everything = scenes.read(images)
    except WeightsError as error:  # the picture is there all the same
        typer.echo(f"Nobody read the picture: {error}")
        return
    for i, (seen, verdict) in enumerate(zip(everything, evaluate.alignment(images, captions), strict=True)):
        things = ", ".join(f"{s.size} {s.finish} {s.color} {s.kind}" for s in seen) or "nothing it knows"
        picture = "The reader sees" if len(captions) == 1 else f"Picture {i}: the reader sees"
        typer.echo(f"{picture} {things}; {verdict}")


@contextmanager
def one_sentence_errors():
    """Turns errors that the user can mend into one line on stderr and exit code 1.

    IMAGEN_LITE_DEBUG=1 shows where they come from.
    """
    warnings.showwarning = lambda message, *_, **__: print(f"Note: {message}", file=sys.stderr)
    try:
        yield
    except (ValueError, RuntimeError, OSError, ImportError, MemoryError) as error:
        if os.environ.get("IMAGEN_LITE_DEBUG"):
            raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        memory = isinstance(error, MemoryError) or " allocate" in text or "could not create a" in text  # oneDNN's way
        code = "ENOMEM" if memory else errorcode.get(getattr(error, "errno", None) or 0, "")
        print(f"imagen-lite: {text}{HELP.get(code, '')}", file=sys.stderr)
        sys.exit(1)


def main() -> None:
    """The entry point `imagen-lite`. SIGTERM ends it as Ctrl-C does: what was half written is taken away."""
    sys.stdout.reconfigure(errors="replace")  # pyright: ignore  # a terminal without "×" or "✓" is no reason to fail
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with one_sentence_errors():
        app()


if __name__ == "__main__":
    main()
