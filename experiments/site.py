"""The site: the notebooks as they were run, with sliders that need no kernel, in pages that ask nobody for anything.

make site        # writes build/site; needs npm, and the network the first time
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.results import ROOT

SITE = ROOT / "build" / "site"
# What becomes a page, and the pictures that pages show.
PAGES = ("notebooks/[0-9][0-9]_*.ipynb", "notebooks/*.md", "docs/*.md", "data/*/README.md", "*.md", "data/readme/*")
# What the pages need beside them: packages of npm, and the files taken out of each.
SCRIPTS = {
    "@jupyter-widgets/html-manager@1.0.15": ("dist/embed.js", "dist/*.woff2"),  # woff2: its icons
    "mathjax@3.2.2": ("es5/tex-svg-full.js",),  # all of TeX in one file; version 4 loads parts as it goes
}


class NoScripts(Exception):
    """The scripts that the pages need could not be fetched."""


def fetch_scripts(folder: Path, scripts: Mapping[str, Sequence[str]] = SCRIPTS) -> None:
    """Takes what pages ask for out of npm's packages, of exactly these versions; npm keeps what it fetched.

    Raises:
        NoScripts: there is no npm, or it could not fetch.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NoScripts("the site needs npm to be built, and it is not there: install Node.js (https://nodejs.org)")
    folder.mkdir()
    for package, wanted in scripts.items():
        with tempfile.TemporaryDirectory() as temporary:
            command = [npm, "pack", "--silent", "--prefer-offline", "--fetch-retries=1", package]
            if subprocess.run(command, cwd=temporary, capture_output=True).returncode:
                raise NoScripts(f"npm could not fetch {package}: building the site needs the network the first time")
            with tarfile.open(next(Path(temporary).glob("*.tgz"))) as archive:
                archive.extractall(temporary, filter="data")
            for pattern in wanted:
                for path in (Path(temporary) / "package").glob(pattern):
                    shutil.copyfile(path, folder / path.name)


def gather(folder: Path) -> None:
    """Copies the pages and their pictures into one folder, as they lie in the repository."""
    for pattern in PAGES:
        for path in ROOT.glob(pattern):
            to = folder / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
    shutil.copyfile(ROOT / "site" / "index.md", folder / "index.md")


def build(folder: Path) -> None:
    """Writes the site into a folder that is not there yet.

    Raises:
        NoScripts: the scripts that the pages need could not be fetched.
        RuntimeError: Sphinx complained, of a link that leads nowhere or a picture that is not there, say.
    """
    with tempfile.TemporaryDirectory() as temporary:
        scripts, pages, kept = (Path(temporary) / name for name in ("scripts", "pages", "kept"))
        fetch_scripts(scripts)
        gather(pages)
        static = f"html_static_path={ROOT / 'site' / 'static'},{scripts}"
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", str(ROOT / "site"), "-d", str(kept), "-D", static]
        told = subprocess.run([*command, str(pages), str(folder)], capture_output=True, text=True)
        if told.returncode:
            raise RuntimeError(f"the site was not built:\n{told.stderr.replace(f'{pages}/', '').strip()}")
        (folder / ".buildinfo").unlink()  # only Sphinx reads it, and it differs with the temporary folder


def main() -> None:
    """Builds the site in its place, once it is whole, and says where that is."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            build(Path(temporary) / "site")
        except (NoScripts, RuntimeError) as error:
            raise SystemExit(str(error)) from None
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.move(Path(temporary) / "site", SITE)
    print(f"the site lies in {SITE.relative_to(ROOT)}: open {SITE.relative_to(ROOT)}/index.html")


if __name__ == "__main__":
    main()
