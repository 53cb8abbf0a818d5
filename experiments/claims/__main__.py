"""The ledger of the paper's claims.

python -m experiments.claims                # print it
python -m experiments.claims run NAME ...   # try some claims; without names, all that have no result yet

What takes long is kept in the cache part by part, and taken up where it stopped; --fresh begins again.
"""

import argparse
import shutil

from experiments.claims import figures, results
from experiments.claims.ledger import CLAIMS, as_text, tried
from imagen_lite.data import cache_folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The paper's claims, tried small.")
    parser.add_argument("what", nargs="?", choices=("show", "run"), default="show")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(claim.name for claim in CLAIMS))
    parser.add_argument("--fresh", action="store_true", help="forget all that the cache keeps of trials")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(cache_folder() / "runs" / "claims", ignore_errors=True)
    if unknown := set(options.names) - {claim.name for claim in CLAIMS}:
        parser.error(f"no claim is called {unknown.pop()!r}; there are {', '.join(claim.name for claim in CLAIMS)}")
    for claim in CLAIMS if options.what == "run" else ():
        if claim.name in options.names or not (options.names or tried(claim)):
            results.save(claim.name, claim.find(), claim.models)
            figures.draw(claim.name)
    print(as_text())


if __name__ == "__main__":
    main()
