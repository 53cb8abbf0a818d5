"""The ways to install agree: pyproject.toml, constraints.txt, environment.yml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def constraints() -> dict[str, Requirement]:
    return requirements((ROOT / "constraints.txt").read_text().splitlines())


def conda_lines() -> list:
    return yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def test_environment_yml_agrees_with_pyproject():
    conda = {}
    for line in conda_lines():
        if isinstance(line, str):
            name, specifier = re.fullmatch(r"([a-z0-9_-]+)(.*)", line).groups()
            conda[CONDA_NAMES.get(name, name)] = SpecifierSet(specifier)
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda.pop("pip") == SpecifierSet()
    assert conda == {name: r.specifier for name, r in requirements(PROJECT["dependencies"]).items()}


def test_environment_yml_is_conda_grammar():
    rattler = pytest.importorskip("rattler")
    for line in conda_lines():
        if isinstance(line, str):
            assert rattler.MatchSpec(line, strict=True).name is not None
    assert conda_lines()[-1] == {"pip": ["-e ."]}


def test_constraints_pin_all_that_pyproject_asks_for():
    pinned = constraints()
    asked = [*PROJECT["dependencies"], *(line for lines in PROJECT["optional-dependencies"].values() for line in lines)]
    for name, requirement in requirements(asked).items():
        (pin,) = pinned[name].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), name


def test_constraints_serve_cpu_and_cuda_builds_alike():
    """An exact torch without a local label, and none of what only its CUDA build wants."""
    pinned = constraints()
    assert str(pinned["torch"].specifier) == "==2.13.0"
    assert not [name for name in pinned if name.startswith(("nvidia-", "cuda-", "triton", "torchvision"))]
    assert all(r.url is None for r in pinned.values())


def test_version_is_stated_once_for_all():
    import imagen_lite

    assert imagen_lite.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_unsafe_loading_in_the_package():
    """Weights are safetensors; nothing is unpickled and no code comes from the hub."""
    unsafe = re.compile(
        r"\bimport pickle|\btorch\.load\(|trust_remote_code=True|allow_pickle=True|\bnp\.load\(.*allow_pickle"
    )
    found = [p.name for p in (ROOT / "imagen_lite").rglob("*.py") if unsafe.search(p.read_text())]
    assert not found


TEXTS = sorted(  # the pages of the site are held by test_site.py
    text
    for path in [*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md")]
    if not (text := str(path.relative_to(ROOT))).startswith(("build/", "site/"))
)


@pytest.mark.parametrize("name", TEXTS)
def test_what_the_texts_link_to_is_there(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
