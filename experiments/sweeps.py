"""What the explorers show, prepared; and the signature picture: one prompt, one noise, w × thresholding.

python -m experiments.sweeps
"""

import json

from experiments.results import BASE, is_current, save_result
from imagen_lite import processes, viz, weights
from imagen_lite.cascade import Cascade, load_cascade
from imagen_lite.stage import STAGES, default_device
from imagen_lite.widgets.cascade import CascadeExplorer
from imagen_lite.widgets.enlarged import enlarge_all, save_enlarged
from imagen_lite.widgets.figures import sweep_sheet
from imagen_lite.widgets.panels import enlarge, stack_pictures
from imagen_lite.widgets.steps import DenoisingScrubber
from imagen_lite.widgets.sweep import FOLDER, THRESHOLDS, sample_sweep, save_sweep
from imagen_lite.widgets.trace import sample_trace, save_trace

SIGNATURE = weights.DATA / "readme" / "signature.png"
STEPS = weights.DATA / "readme" / "steps.png"  # one picture being drawn: notebook 03's first picture
CASCADE = weights.DATA / "readme" / "cascade.jpg"  # one picture after each stage: notebook 09's first picture
ROW = weights.DATA / "readme" / "guidance.png"  # its last row alone: notebook 07's first picture
PROMPTS = {  # category -> (prompt, seed); the first of all is the signature picture
    "one thing": (
        ("a pink mushroom on the grass", 0), ("a red cone on a wooden table", 0), ("a white snowman at night", 0),
    ),
    "two things": (("a red cone next to a blue cube", 0), ("a green tree and a white snowman", 0)),
    "a relation": (("a purple sphere to the left of a yellow cube", 0), ("a snowman on top of a red rocket", 0)),
    "a count": (("three pink spheres on the sand", 0),),
    "text-only words": (("a crimson orb on the grass", 0), ("an azure cottage", 0)),
    "outside this world": (("a horse", 0),),
}  # fmt: skip
LISTED = [(category, prompt, seed) for category, rows in PROMPTS.items() for prompt, seed in rows]
TRACES = {  # name -> (prompt, seed, weight, thresholdings)
    "trace-00": ("a green tree on a wooden table", 0, 5.0, ("dynamic",)),
    "trace-08": ("a pink mushroom on the grass", 0, 8.0, THRESHOLDS),
}
ENLARGED = {"cascade-00": ("a striped red cone on a wooden table", 0)}  # name -> (prompt, seed)


def enlarged(cascade: Cascade) -> None:
    """What the cascade explorer shows, and one picture after each stage."""
    for name, (prompt, seed) in ENLARGED.items():
        save_enlarged(enlarge_all(cascade, prompt, seed), name)
    viz.save(CascadeExplorer("cascade-00").stages(), CASCADE)


def traces(cascade: Cascade) -> None:
    """What the scrubber and the saturation explorer show, and one picture being drawn."""
    for name, (prompt, seed, weight, thresholds) in TRACES.items():
        save_trace(sample_trace(cascade, prompt, seed, weight, thresholds), name)
    viz.save(DenoisingScrubber("trace-00").figure(), STEPS)


def sweeps(cascade: Cascade) -> None:
    """What the guidance explorer shows, and the signature picture; of several processes each draws its share."""
    rank, count = processes.place()
    for index, (_, prompt, seed) in list(enumerate(LISTED))[rank::count]:
        sweep = sample_sweep(cascade, prompt, seed)
        save_sweep(sweep, f"{index:02d}")
        if index == 0:
            viz.save(sweep_sheet(sweep.prompt, sweep.drawn()), SIGNATURE)
            row = [enlarge(picture, 128) for picture in sweep.pictures[THRESHOLDS.index("dynamic")]]
            viz.save(stack_pictures(row, across=True, gap=4), ROW)
        print(f"{index:02d}", prompt, [[frame.aligned for frame in row] for row in sweep.frames], flush=True)
    names = {f"{category}: {prompt}": f"{index:02d}" for index, (category, prompt, _) in enumerate(LISTED)}
    weights.write_atomic(FOLDER / "index.json", json.dumps(names, indent=1) + "\n")


def main(everything: bool = True) -> None:
    """Draw all of them; unless `everything`, what the base model draws alone is left if these weights drew it."""
    cascade = load_cascade(processes.join(default_device()))
    first = processes.place()[0] == 0
    if everything or not is_current("sweeps"):
        sweeps(cascade)
        if first:
            traces(cascade)
    if first and 256 in cascade.stages:
        enlarged(cascade)
    told = {
        "prompts": [list(row) for row in LISTED],
        "traces": list(TRACES),
        "steps": cascade.stages[64].sampling.steps,
    }
    used = (*BASE, *(STAGES[size] for size in cascade.stages if size > 64))
    processes.leave()  # all are drawn
    if first:
        save_result("sweeps", told | {"enlarged": {name: list(row) for name, row in ENLARGED.items()}}, models=used)


if __name__ == "__main__":
    main()
