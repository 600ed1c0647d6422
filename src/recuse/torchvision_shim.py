"""Import torchvision also where its compiled operators do not load.

The wheel of the package index is built against CUDA; beside a CPU-only torch its library fails
to load, and the import then stops at the missing schema of ``torchvision::nms``. The image
transforms need none of those operators, so declaring the schemas is enough.
"""

import importlib
import sys
from functools import cache
from types import ModuleType
from typing import Any, cast

import torch

from recuse.errors import ConfigError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A library's operators vanish with it, so it lives as long as the process.
_declared: list[Any] = []


@cache
def load_torchvision(module: str = "torchvision", *, purpose: str) -> ModuleType:
    """Import ``torchvision`` or a module below it; a plain import where the wheel loads.

    Args:
        module: Full name, for example ``"torchvision.transforms.v2.functional"``.
        purpose: What needs it, for the error.

    Returns:
        The module.

    Raises:
        ConfigError: torchvision is not installed; names the extra.
    """
    try:
        try:
            return importlib.import_module(module)
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            _declare_schemas()
            return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} needs torchvision, which is not installed ({error}); "
            "pip install 'recuse[vision]'"
        ) from error


def _declare_schemas() -> None:
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    if _declared:
        return
    library: Any = cast(Any, torch.library.Library)("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)
