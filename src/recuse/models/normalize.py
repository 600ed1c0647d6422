"""Normalisation as a layer, so that a network's input is always an image in [0, 1]."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recuse.errors import ConfigError
from recuse.models.features import Features


class Normalize(nn.Module):
    """Computes ``(x - mean) / std`` per channel of NCHW images.

    Args:
        mean: One number per channel, in pixel units.
        std: One positive number per channel, in pixel units.

    Raises:
        ConfigError: Different lengths, or a standard deviation that is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise ConfigError(
                f"normalisation mean {tuple(mean)} and std {tuple(std)} must have one number per "
                "channel each, and every std must be positive"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Features) -> Features:
        """Normalised images, same shape."""
        return (x - self.mean) / self.std


def normalized(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """``network`` behind a normalisation layer (state keys ``normalize.*`` and ``network.*``).

    An empty ``mean`` means that the network takes its inputs as they are (points in the plane).
    """
    if not mean and not std:
        return nn.Sequential(OrderedDict(network=network))
    return nn.Sequential(OrderedDict(normalize=Normalize(mean, std), network=network))
