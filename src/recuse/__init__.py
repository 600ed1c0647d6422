"""recuse: image classifiers that answer where they are robust and step aside where they are not.

What most programs need is here by name, and loaded when it is first asked for.
"""

import importlib
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# Where each name lives. certify is a room as well: called, it certifies a model on a data set.
_HOMES = {
    "Cascade": "recuse.composition",
    "Core": "recuse.composition",
    "Stage": "recuse.composition",
    "System": "recuse.systems",
    "Threat": "recuse.threat",
    "evaluate": "recuse.evaluation",
    "fit": "recuse.training",
    "load": "recuse.systems",
    "load_model": "recuse.integrations.sources",
}


class CallableRoom(ModuleType):
    """The room ``recuse.certify``, which is the function of that name, too."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """Certify a model on a data set: :func:`recuse.evaluation.certify_dataset`."""
        home = importlib.import_module("recuse.evaluation.certify_dataset")
        return home.certify_dataset(*args, **settings)


def __getattr__(name: str) -> Any:
    if name == "certify":
        return importlib.import_module("recuse.certify")
    if name not in _HOMES:
        raise AttributeError(f"module 'recuse' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Cascade",
    "Core",
    "Stage",
    "System",
    "Threat",
    "certify",
    "evaluate",
    "fit",
    "load",
    "load_model",
]
