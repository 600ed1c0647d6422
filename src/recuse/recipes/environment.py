"""What a result was computed with, kept beside it."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from recuse import __version__
from recuse.records.layout import ENVIRONMENT
from recuse.records.run_folder import read_mapping
from recuse.records.store import write_atomically
from recuse.threads import VARIABLES

PACKAGES = ("torch", "numpy", "polars", "scipy", "scikit-learn", "torchvision")


def environment() -> dict[str, Any]:
    """Versions, processor and thread settings of this process, as JSON values."""
    return {
        "recuse": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": {
            "name": processor("cpu"),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "threads_set_by": next((name for name in VARIABLES if name in os.environ), None),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "amx_bf16": torch.cpu._is_amx_tile_supported(),
        },
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor(device: str) -> str:
    """What a device is called by its maker."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def keep_threads(folder: Path, model: str, threads: Mapping[str, int]) -> None:
    """Note in a run's environment how many threads a model was trained and judged with.

    Raises:
        RecordError: The file is damaged.
    """
    path = folder / ENVIRONMENT
    known = dict(read_mapping(path)) or environment()
    counts = known.setdefault("threads", {})
    if model not in counts:
        counts[model] = dict(threads)
        write_atomically(path, json.dumps(known, indent=1).encode())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
