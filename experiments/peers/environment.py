"""The peers' packages: a folder of their own in the cache, for the same Python and the same torch as ours.

What only imagen-pytorch's samplers and trainer use (torchvision, kornia, a T5 that it looks up on the hub while it is
being imported) is not installed: `imagen_unet` puts empty modules in their place, and takes the U-Net alone.
"""

import importlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from experiments.results import ROOT
from imagen_lite import data

PACKAGES = ("imagen-pytorch==2.1.0", "beartype==0.23.1", "diffusers", "importlib-metadata", "zipp")
UNUSED = ("torchvision", "torchvision.transforms", "kornia", "kornia.augmentation", "imagen_pytorch.t5")
NAMES = {"ours": "imagen_lite", "diffusers": "diffusers", "imagen-pytorch": "imagen-pytorch"}  # distributions


def folder() -> Path:
    """Where `setup` puts them."""
    return data.cache_folder() / "peers"


def setup() -> None:
    """Installs the peers without what they depend on: our own environment has all that their U-Nets need of it."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder())]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *PACKAGES], check=True)
    print(", ".join(f"{name} {version}" for name, version in versions().items()))


def use() -> None:
    """From here on this process finds the peers' packages, after its own."""
    if str(folder()) not in sys.path:
        sys.path.append(str(folder()))


def missing(library: str) -> str | None:
    """Why a library cannot be measured here, or None."""
    use()
    module = NAMES[library].replace("-", "_")
    there = importlib.util.find_spec(module) is not None
    return None if there else f"{library} is not installed; run `python -m experiments.peers setup`"


def versions() -> dict[str, str]:
    """The versions of torch and of the libraries that are there."""
    there = {name: dist for name, dist in NAMES.items() if missing(name) is None}
    return {name: importlib.metadata.version(dist) for name, dist in {"torch": "torch", **there}.items()}


def imagen_unet() -> type:
    """The class `imagen_pytorch.Unet`, without the package's samplers, trainer and downloads."""
    use()
    if (name := "imagen_pytorch.imagen_pytorch") not in sys.modules:
        spec = importlib.util.find_spec("imagen_pytorch")
        if spec is None:
            raise ImportError(missing("imagen-pytorch"))
        sys.modules["imagen_pytorch"] = importlib.util.module_from_spec(spec)  # not executed: that would import it all
        t5 = {"t5_encode_text": None, "get_encoded_dim": lambda _: 768, "DEFAULT_T5_NAME": ""}
        empty = {module: ModuleType(module) for module in UNUSED}
        vars(empty["imagen_pytorch.t5"]).update(t5)
        before = {module: sys.modules[module] for module in UNUSED if module in sys.modules}
        sys.modules.update(empty)
        try:
            importlib.import_module(name)
        finally:  # whoever looks for them later must not find these
            for module in UNUSED:
                del sys.modules[module]
            sys.modules.update(before)
    return sys.modules[name].Unet


def processor() -> str:
    """What the operating system calls the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
