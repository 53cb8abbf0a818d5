"""The soak: does the harm, one fault after another, and keeps what came of it in data/results/soak.json.

make soak                                        # all of them, an hour or so
python -m experiments.soak NAME ...              # some; the results of the others stay as they are
python -m experiments.soak --show                # the table, as markdown
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from experiments.claims.results import commit
from experiments.results import RESULTS, load_result, table
from experiments.soak import disks, files, machine, pages, prompts, training
from experiments.soak.outcome import Asked
from imagen_lite.stage import default_device, hardware_name
from imagen_lite.weights import write_atomic

FAULTS: dict[str, tuple[str, Callable[[Asked], dict[str, Any]]]] = {
    "kills": ("kill -9 at random moments of a training, resumed each time", training.kills),
    "two": ("two trainings in one folder", training.two),
    "stops": ("SIGINT and SIGTERM during a training", training.stops),
    "full": ("a full disk while writing", disks.full),
    "readonly": ("read-only folders, and no home", disks.read_only),
    "files": ("truncated, flipped, swapped and hostile files", files.hostile),
    "memory": ("memory limits while sampling and training", machine.memory),
    "signals": ("SIGINT and SIGTERM while sampling and writing", machine.signals),
    "prompts": ("random prompts through tokenizer and parser", prompts.read),
    "calls": ("random prompts through the command line, sampler stubbed", prompts.called),
    "page": ("the lecture page under many sessions, memory in MB", pages.lecture),
    "notebooks": ("core notebooks interrupted in mid-cell and run again", pages.interrupted),
}


def run(name: str, asked: Asked) -> None:
    """Does one fault, and keeps its outcome with those of the others."""
    begun, fault = time.monotonic(), FAULTS[name][1]
    outcome = fault(asked)
    outcome |= {
        "seed": asked.seed,
        "seconds": round(time.monotonic() - begun, 1),
        "hardware": hardware_name(default_device()),
        "commit": commit(),
    }
    kept = load_result("soak")["faults"] if (RESULTS / "soak.json").exists() else {}
    result = {"faults": {key: (kept | {name: outcome})[key] for key in FAULTS if key in kept or key == name}}
    write_atomic(RESULTS / "soak.json", json.dumps(result, indent=1) + "\n")
    print(name, json.dumps(outcome), flush=True)


def as_text(result: dict[str, Any]) -> str:
    """The table."""
    rows = [
        [FAULTS[name][0], f"{at['tried']:,}", f"{at['survived']:,}", f"{at['lost']:,}", f"{at['seconds']:.0f} s",
         at["note"]]
        for name, at in result["faults"].items()
    ]  # fmt: skip
    return table(["fault", "tried", "survived", "lost", "took", "note"], rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Faults done on purpose, and what came of them.",
        epilog="\n".join(f"  {name:10}{told}" for name, (told, _) in FAULTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which faults; all, if none is named")
    parser.add_argument("--show", action="store_true", help="print the table of what was done before")
    for name, default in Asked().__dict__.items():
        kind: Any = {"type": type(default)} if not isinstance(default, tuple) else {"nargs": "+"}
        parser.add_argument(f"--{name}", default=default, **kind)
    options = vars(parser.parse_args())
    names, show = options.pop("names"), options.pop("show")
    if unknown := set(names) - FAULTS.keys():
        parser.error(f"no fault is called {unknown.pop()!r}; there are {', '.join(FAULTS)}")
    for name in () if show else names or FAULTS:
        run(name, Asked(**options))
    print(as_text(load_result("soak")))


if __name__ == "__main__":
    main()
