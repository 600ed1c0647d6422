"""Every architecture by name: the configs, and the sizes that have a name of their own."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from recuse.errors import ConfigError
from recuse.models.convnet import GtsrbLeNet, SmallConvNet, TradesSmallCnn
from recuse.models.mlp import Mlp
from recuse.models.preact_resnet import PreActResNet
from recuse.models.resnet import CifarResNet, ResNet
from recuse.models.resnet4b import ResNet4b
from recuse.models.wide_resnet import SwishWideResNet, WideResNet
from recuse.values import Call, Number, parse_value


@runtime_checkable
class Architecture(Protocol):
    """A frozen config that builds a network taking raw images (no normalisation inside)."""

    @property
    def classes(self) -> int:
        """Number of logits."""
        ...

    @property
    def dropout(self) -> float:
        """Dropout rate, active in training mode only."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        ...

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        ...


ARCHITECTURES: dict[str, type[Architecture]] = {
    "mlp": Mlp,
    "small": SmallConvNet,
    "gtsrb_lenet": GtsrbLeNet,
    "trades_smallcnn": TradesSmallCnn,
    "resnet4b": ResNet4b,
    "cifar_resnet": CifarResNet,
    "resnet": ResNet,
    "preact_resnet": PreActResNet,
    "wide_resnet": WideResNet,
    "swish_wide_resnet": SwishWideResNet,
}
NAMED_SIZES: dict[str, tuple[str, dict[str, int]]] = {
    "resnet20": ("cifar_resnet", {"depth": 20}),
    "resnet56": ("cifar_resnet", {"depth": 56}),
    "resnet18": ("resnet", {"depth": 18}),
    "resnet50": ("resnet", {"depth": 50}),
    "preact_resnet18": ("preact_resnet", {"depth": 18}),
    "wrn_28_10": ("wide_resnet", {"depth": 28, "width": 10}),
    "wrn_40_10": ("wide_resnet", {"depth": 40, "width": 10}),
}


def architecture(name: str, **settings: Any) -> Architecture:
    """The config of a named architecture, with ``settings`` over its defaults.

    Args:
        name: A key of ``ARCHITECTURES`` or ``NAMED_SIZES``.
        **settings: Fields of the config, such as ``classes``, ``size`` or ``dropout``.

    Raises:
        ConfigError: An unknown name or setting, or a size that cannot be built.

    >>> architecture("resnet20", classes=43, dropout=0.1)
    CifarResNet(depth=20, channels=3, size=32, classes=43, dropout=0.1)
    """
    family, sizes = NAMED_SIZES.get(name, (name, {}))
    if family not in ARCHITECTURES:
        known = ", ".join([*ARCHITECTURES, *NAMED_SIZES])
        raise ConfigError(f"architecture {name!r} is unknown; known: {known}")
    kind = ARCHITECTURES[family]
    known_settings = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    if unknown := set(settings) - set(known_settings):
        raise ConfigError(
            f"architecture {name!r} has no setting {min(unknown)!r}; it has {known_settings}"
        )
    return kind(**{**sizes, **settings})


def parse_call(text: str) -> tuple[str, dict[str, int | float]]:
    """Read ``"name"`` or ``"name(key=number, ...)"``; nothing is evaluated.

    Raises:
        ConfigError: Anything else.

    >>> parse_call("small(pad=1,flat=2048)")
    ('small', {'pad': 1, 'flat': 2048})
    """
    written = parse_value(text.lower())
    if not isinstance(written, Call):
        raise ConfigError(f"architecture {text!r} is not of the form name(key=number, ...)")
    settings: dict[str, int | float] = {}
    for key, entry in written.settings:
        if not isinstance(entry, Number):
            raise ConfigError(f"architecture {text!r}: {key} takes a number")
        settings[key] = entry.value
    return written.name, settings


def parse_architecture(text: str) -> Architecture:
    """The config written as text, for example ``"wide_resnet(depth=28,width=4,dropout=0.1)"``.

    Raises:
        ConfigError: See :func:`parse_call` and :func:`architecture`.
    """
    name, settings = parse_call(text)
    return architecture(name, **settings)


def architecture_classes() -> Mapping[str, type]:
    """The configs by class name, as ``recuse.serialize.from_plain`` needs them."""
    return {kind.__name__: kind for kind in ARCHITECTURES.values()}


def build_seeded(config: Architecture, seed: int) -> nn.Module:
    """``config.build()`` with weights that depend on ``seed`` alone; global state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build()
