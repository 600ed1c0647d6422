"""Networks of timm as an architecture: timm builds them (extra ``hub``), a card describes them."""

import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from recuse.errors import ConfigError
from recuse.models.dropout import check_dropout
from recuse.models.square_images import SquareImages
from recuse.torchvision_shim import load_torchvision


@dataclass(frozen=True)
class TimmNetwork(SquareImages):
    """A network of timm by its name there.

    Attributes:
        name: For example ``"resnet18"`` or ``"vit_tiny_patch16_224"``.
        channels: Input channels.
        size: Height and width of the input.
        classes: Number of classes.
        dropout: Rate before the last layer.
    """

    name: str
    channels: int = 3
    size: int = 224
    classes: int = 1000
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if not self.name or min(self.channels, self.size, self.classes) < 1:
            raise ConfigError(f"{self} needs a name, and every size must be at least 1")

    def build(self) -> nn.Module:
        """A network with fresh weights.

        Raises:
            ConfigError: timm or torchvision is not installed, or has no such network.
        """
        return self._create(pretrained=False)

    def pretrained(self) -> nn.Module:
        """The network with the weights that timm gives away for it; they may have to be fetched.

        Raises:
            ConfigError: As :meth:`build`, or the weights cannot be had.
        """
        return self._create(pretrained=True)

    def _create(self, *, pretrained: bool) -> nn.Module:
        timm, fixed = _timm(), timm_config(self.name).get("fixed_input_size")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # timm warns of its own deprecations
                network: nn.Module = timm.create_model(
                    self.name,
                    pretrained=pretrained,
                    num_classes=self.classes,
                    in_chans=self.channels,
                    drop_rate=self.dropout,
                    **({"img_size": self.size} if fixed else {}),
                )
        except Exception as error:  # the library raises network, format and file errors alike
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"timm cannot give the model {self.name!r}: {reason}") from error
        return network


def timm_config(name: str) -> dict[str, Any]:
    """What timm says of a network: ``input_size``, ``num_classes``, ``mean``, ``std``, ...

    Raises:
        ConfigError: timm or torchvision is not installed, or has no such network.
    """
    timm = _timm()
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.partition('_')[0].partition('.')[0]}*")[:3]
        near = f"; it has, for example, {', '.join(close)}" if close else ""
        raise ConfigError(f"timm has no model {name!r}{near}")
    config = timm.get_pretrained_cfg(name)
    return {} if config is None else dict(config.to_dict())


def _timm() -> ModuleType:
    load_torchvision(purpose="timm")
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"timm models need {error.name}; install it with pip install 'recuse[hub]'"
        ) from error
    module: ModuleType = timm
    return module


__all__ = ["TimmNetwork", "timm_config"]
