"""Command line; see the package."""

import argparse

from experiments.peers import environment, matching, quality, speed
from experiments.peers.report import MEASURED, TABLES, keep, show
from imagen_lite.recipes.base64 import UNET


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
