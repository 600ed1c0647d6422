"""Everything that can be named as a MODEL, decided in one place.

A checkpoint, a name in the models folder, ``recuse:NAME``, ``robustbench:NAME/threat``,
``timm:NAME``, ``hub:owner/name``, ``onnx:FILE``; and ``module:function``, which is run and
therefore only where a person typed it.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn

from recuse.errors import ConfigError, RecuseError
from recuse.integrations.hub_models import load_hub
from recuse.integrations.onnx_network import load_onnx
from recuse.integrations.robustbench import find_robustbench
from recuse.integrations.timm import load_timm
from recuse.models import zoo
from recuse.models.cards import Card
from recuse.models.checkpoint import SUFFIX

Source = Callable[[str, Path | None], tuple[nn.Module, Card | None]]
SOURCES: dict[str, Source] = {
    "robustbench": lambda name, root: find_robustbench(name, zoo.models_folder(root)),
    "timm": lambda name, _: load_timm(name),
    "hub": lambda name, _: load_hub(name),
    "onnx": lambda text, _: load_onnx(text),
    "recuse": lambda name, root: zoo.load_model(f"{zoo.OWN}{name}", data_root=root),
}


def load_model(
    ref: str, *, data_root: Path | None = None, code: bool = False
) -> tuple[nn.Module, Card | None]:
    """Load a network, however it is named.

    Args:
        ref: A ``.safetensors`` checkpoint, a name in the models folder, or one of the forms above.
        data_root: The data folder, see :func:`recuse.models.zoo.models_folder`.
        code: Whether ``module:function`` may be run: a person typed it, no file said so.

    Returns:
        The network (images in [0, 1] to logits) in eval mode on the CPU, and its card, if it has
        one.

    Raises:
        ConfigError: No such model or scheme, code that may not be run, or an extra that is not
            installed.
        DataError: A damaged file.
    """
    scheme, colon, rest = ref.partition(":")
    if scheme in SOURCES and colon:
        return SOURCES[scheme](rest, data_root)
    if not colon or ref.endswith(SUFFIX):
        return zoo.load_model(ref, data_root=data_root)
    if not is_code(ref):
        raise ConfigError(
            f"model {ref!r} is of no known form: write {':…, '.join(SOURCES)}:…, module:function, "
            "a .safetensors checkpoint, or a name that recuse models list shows"
        )
    if not code:
        raise ConfigError(
            f"model {ref!r} is a function of Python, which is run only where it is typed to be "
            "judged; import its weights (recuse models import) to train it or name it in a file"
        )
    return _called(ref, scheme, rest), None


def is_code(ref: str) -> bool:
    """Whether a reference is ``module:function``."""
    scheme, _, function = ref.partition(":")
    return scheme not in SOURCES and function.isidentifier()


def _called(ref: str, module: str, function: str) -> nn.Module:
    sys.path.insert(0, str(Path.cwd()))
    try:
        network = getattr(importlib.import_module(module), function)()
    except RecuseError:
        raise
    except Exception as error:  # whatever the person's own code raises
        raise ConfigError(
            f"model {ref!r} cannot be built: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.pop(0)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"model {ref!r} is a {type(network).__name__}, not an nn.Module")
    return network.eval()


__all__ = ["SOURCES", "is_code", "load_model"]
