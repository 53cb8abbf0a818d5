"""Command line; see the package."""

import argparse
import json
from typing import Any

from experiments.claims.results import commit
from experiments.peers import curves, environment, machine, matching, quality, speed, user
from experiments.results import RESULTS, save_result
from imagen_lite.recipes.base64 import UNET

MEASURED = {"speed": speed, "machine": machine, "user": user}
TABLES = MEASURED | {"quality": curves}
TITLES = {
    "speed": "A network call and a training step beside the peers'",
    "machine": "The base against its own layers, each timed alone",
    "user": "What a user feels",
    "quality": "The same minutes of training",
}


def keep(part: str, found: dict[str, Any]) -> None:
    """Puts a part into data/results/peers.json, with the commit, the versions and the machine; others stay."""
    path = RESULTS / "peers.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    about = {"commit": commit(), "versions": environment.versions(), "processor": environment.processor()}
    save_result("peers", before | {part: found | about}, path, models=("t5-lite-base", "base64"))


def show() -> str:
    """All parts that have been measured, as markdown."""
    path = RESULTS / "peers.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    texts = []
    for part, title in TITLES.items():
        if part in result:
            one = result[part]
            libraries = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
            end = f"{one['processor']}, {result['hardware']}; {libraries}; commit {one['commit']}."
            texts.append(f"### {title}\n\n{TABLES[part].as_text(one)} {end}")
    return "\n\n".join(texts) or "nothing has been measured yet: python -m experiments.peers"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Our U-Net beside others, and beside the machine.")
    parser.add_argument("parts", nargs="*", help="setup, networks, speed, machine, user, quality; none: the speed")
    parser.add_argument("--show", action="store_true", help="only print what was measured")
    parser.add_argument("--rounds", type=int, help="of speed, machine and user")
    parser.add_argument("--scale", type=float, default=1.0, help="of the repeats in a round")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--minutes", type=float, default=quality.MINUTES, help="of training, for each of quality's runs"
    )
    parser.add_argument("--n", type=int, default=quality.N, help="pictures that quality draws of each network")
    options = parser.parse_args()
    if unknown := set(options.parts) - {"setup", "networks", *TABLES}:
        parser.error(f"there is no part {unknown.pop()!r}")
    for part in () if options.show else options.parts or ("networks", "speed", "machine", "user"):
        if part == "setup":
            environment.setup()
        elif part == "networks":
            matching.matches(UNET, speed.SIDE)
        elif part == "quality":
            keep(part, quality.measure(options.minutes, options.n))
        else:
            rounds = {} if options.rounds is None else {"rounds": options.rounds}
            keep(part, MEASURED[part].measure(**rounds, scale=options.scale, device=options.device))
    print(show())


if __name__ == "__main__":
    main()
