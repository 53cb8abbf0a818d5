"""Makes again everything that was made from the weights: README pictures, result files, and the texts they stand in.

make refresh                              # what its weights have changed of since (hours on a CPU after a new base)
python -m experiments.refresh --all       # all of it
python -m experiments.refresh --texts     # only put what is measured into the texts
"""

import argparse
import inspect
import json
import textwrap

from experiments import blind_spots, costs, drawbench, notebooks, samplers, superres, sweeps, thresholds
from experiments.claims import figures, ledger
from experiments.peers.report import show
from experiments.results import BASE, RESULTS, ROOT, insert, is_current, load_result, save_result, table, with_interval
from imagen_lite import bench, sampler, viz, weights
from imagen_lite.stage import STAGES

DRAWN = weights.DATA / "readme" / "drawn.jpg"
TABLES = {"samplers64": samplers.base_text, "blind_spots": blind_spots.as_text, "drawbench": drawbench.as_text}
MADE_BY = {"samplers64": lambda _: samplers.main(["64"]), "blind_spots": blind_spots.main, "drawbench": drawbench.main}
SCALE = ROOT / "docs" / "scale.md"
CLAIMS = ROOT / "docs" / "claims.md"
SPEED = ROOT / "docs" / "speed.md"
LARGEST = 256  # pixels a side of the pictures in it, as far as there is a stage
CARD = weights.DATA / "weights" / "README.md"
PROMPTS = (
    ("a shiny red cone next to a small blue house on the grass", 0), ("a yellow duck on the sand", 0),
    ("a green tree at sunset", 0), ("a purple sphere on the tiles", 0), ("a large white mushroom at night", 0),
    ("an orange house on a wooden table", 0), ("a pink cube and a green cylinder", 0), ("a blue rocket", 0),
)  # fmt: skip


def loop() -> str:
    """The body of the sampling loop as it stands in the source."""
    source = inspect.getsource(sampler.sample)
    body = source[source.index("steps = len(levels)") :]
    return f"```python\n{textwrap.dedent('    ' + body).rstrip()}\n```"


def draw() -> None:
    """The README's first picture: what the shipped cascade draws from `PROMPTS`."""
    from imagen_lite.cascade import load_cascade

    prompts, seeds = zip(*PROMPTS, strict=True)
    cascade = load_cascade()
    size = max(size for size in cascade.stages if size <= LARGEST)
    viz.save(viz.grid(cascade.sample(list(prompts), seed=list(seeds), resolution=size).images, columns=4), DRAWN)
    used = (*BASE, *(STAGES[stage] for stage in cascade.stages if 64 < stage <= size))
    save_result("drawn", {"prompts": [list(pair) for pair in PROMPTS]}, models=used)


def alignment(n: int) -> None:
    """The alignment table of the shipped cascade."""
    from imagen_lite import evaluate
    from imagen_lite.cascade import load_cascade

    smaller = {"validation": min(300, 3 * n), "each": min(32, n)}  # a quick look stays quick
    save_result("alignment", evaluate.report(load_cascade(), n=n, **smaller))


def alignment_table() -> str:
    """The alignment rows as markdown."""
    result = load_result("alignment")
    rows = [
        [
            r["category"], str(r["n"]), with_interval(r["aligned"], r["interval"], ".3f"), f"{r['ceiling']:.3f}",
            f"**{r['relative']:.3f}**", f"{r['needed']:.2f}", with_interval(r["gain"], r["gain_interval"], "+.3f"),
        ]
        for r in result["rows"]
    ]  # fmt: skip
    bits = ", ".join(f"{r['bits']:.2f} at w = {r['weight']:g}" for r in result["diversity"]["rows"])
    head = ["captions", "n", "aligned", "renders", "relative", "needed", "gain over w = 1"]
    return table(head, rows) + (
        f"\n\nw = {result['best_weight']:g}, chosen on {result['validation']['n']} validation captions; seed "
        f"{result['seed']}; 95 % bootstrap intervals; {result['hardware']}. Entropy of what captions leave open, in "
        f"bits: {bits}.\n\n{eyes_agree()}"
    )


def eyes_agree() -> str:
    """How far the reader can be trusted on generated pictures, in a sentence."""
    r = load_result("eyes")
    low, high = r["interval"]
    return (
        f"The judge against eyes, on {r['pictures']} generated pictures labelled once, by eye, without their captions: "
        f"the same things, colours and kinds in {r['agree']:.0%} [{low:.0%}, {high:.0%}] of pictures. It finds "
        f"{r['of_eyes_things_read']:.0%} of the things that eyes see, and eyes see {r['of_readers_things_seen']:.0%} "
        f"of the things that it reports."
    )


def state() -> str:
    """What the shipped base model is today, in a sentence, from its manifest and the alignment table."""
    manifest = weights.load_manifest(weights.DATA / "weights" / "base64")
    reached = {r["category"]: r["relative"] for r in load_result("alignment")["rows"]}
    minutes = 60 * manifest["hours"]
    spent = f"{minutes:.0f} minutes" if minutes < 100 else f"{manifest['hours']:.1f} hours"
    text = (
        f"*What the shipped base model draws today, after {manifest['pictures_seen']:,} pictures "
        f"({spent} on {manifest['hardware']}); nothing is chosen or retouched. Right as captions "
        f"say, of what the judge finds right in real renders: one thing {reached['one thing']:.0%}, two things "
        f"{reached['two things']:.0%}, a relation {reached['a relation']:.0%}. Training goes on with one command.*"
    )
    return textwrap.fill(text, 120)


def on_gpu() -> str:
    """What `imagen-lite bench` said on a lent GPU."""
    return f"```text\n{bench.format_rows(json.loads((weights.DATA / 'bench' / 'h100.json').read_text()))}\n```"


def texts() -> None:
    """Put the loop, the state and the measured tables into README.md, the model card and docs."""
    readme = ROOT / "README.md"
    text = insert(insert(readme.read_text(), "loop", loop()), "state", state())
    text = insert(text, "notebooks", notebooks.times())
    weights.write_atomic(readme, text)
    card = insert(CARD.read_text(), "alignment", alignment_table())
    if there := [size for size in superres.WINDOW if (RESULTS / f"sr{size}.json").exists()]:
        card = insert(card, "superres", superres.as_text({size: load_result(f"sr{size}") for size in there}))
    for name, as_text in TABLES.items():
        if (RESULTS / f"{name}.json").exists():
            card = insert(card, name, as_text(load_result(name)))
    weights.write_atomic(CARD, insert(card, "thresholds", thresholds.as_text(load_result("thresholds"))))
    figures.board(ledger.verdicts()).savefig(figures.BOARD, dpi=100)
    weights.write_atomic(CLAIMS, insert(CLAIMS.read_text(), "claims", ledger.as_text()))
    if (RESULTS / "costs.json").exists():
        weights.write_atomic(SCALE, insert(SCALE.read_text(), "costs", costs.as_text(load_result("costs"))))
    weights.write_atomic(SPEED, insert(insert(SPEED.read_text(), "peers", show()), "h100", on_gpu()))


def measure_again(everything: bool) -> None:
    """What else was measured with weights that have changed since, or all of it."""
    for name in (*(f"sr{size}" for size in superres.WINDOW), *TABLES):
        if not everything and is_current(name, list(load_result(name)["weights"])):
            continue
        if name.startswith("sr"):
            size = int(name[2:])
            alone = not everything and is_current(name, superres.used_alone(size))
            superres.main([str(size), *(["--stages"] if alone else [])])
        else:
            MADE_BY[name]([])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make again what was made from the weights.")
    parser.add_argument("--texts", action="store_true", help="only put what is measured into the texts")
    parser.add_argument("--all", action="store_true", help="also what was made from these very weights")
    parser.add_argument("-n", type=int, default=500, help="captions a category")
    parser.add_argument("--cells", type=int, default=24, help="captions a cell of the threshold table")
    options = parser.parse_args()
    if not options.texts:
        RESULTS.mkdir(parents=True, exist_ok=True)
        draw()
        sweeps.main(options.all)
        if options.all or not is_current("thresholds"):
            save_result("thresholds", thresholds.run(options.cells))
        if options.all or not is_current("alignment"):
            alignment(options.n)
        measure_again(options.all)
        notebooks.run_all(notebooks.notebooks())
    texts()
    print(json.dumps({path.name: path.stat().st_size for path in sorted(RESULTS.glob("*.json"))}))


if __name__ == "__main__":
    main()
