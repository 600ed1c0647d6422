"""What a result was computed with, kept beside it."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from recuse import __version__

PACKAGES = ("torch", "numpy", "polars", "accelerate", "scipy", "scikit-learn", "torchvision")


def environment() -> dict[str, object]:
    """Versions, processor and thread settings of this process, as JSON values."""
    return {
        "recuse": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": {
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "amx_bf16": torch.cpu._is_amx_tile_supported(),
        },
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
