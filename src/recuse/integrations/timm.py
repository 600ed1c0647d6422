"""Networks of timm behind our contract: images in [0, 1] in, logits out (extra ``hub``)."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from recuse.data.torchvision_shim import load_torchvision
from recuse.errors import ConfigError
from recuse.models.checkpoint import load_state, read_state_dict
from recuse.models.normalize import normalized


def timm_model(
    name: str, *, classes: int, weights: Path | None = None, pretrained: bool = False
) -> nn.Module:
    """A timm network with the normalisation it was made for as its first layer.

    Args:
        name: A timm model name, for example ``"resnet18"`` or ``"vit_tiny_patch16_224"``.
        classes: Number of classes.
        weights: A local state dict of the bare timm network; nothing is fetched then.
        pretrained: Fetch timm's own weights (needs a connection).

    Returns:
        The network in eval mode on the CPU. It is an ordinary module for attacks and evaluation;
        it has no card, since timm builds it.

    Raises:
        ConfigError: timm or torchvision is not installed, or has no such model or weights.
        DataError: ``weights`` is damaged or of another network.
    """
    load_torchvision(purpose="timm")
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"timm models need {error.name}; install it with pip install 'recuse[hub]'"
        ) from error
    try:
        with torch.random.fork_rng(devices=[]):
            network: Any = timm.create_model(name, pretrained=pretrained, num_classes=classes)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"timm cannot give the model {name!r}: {reason}") from error
    if weights is not None:
        load_state(network, read_state_dict(weights), weights)
    config = network.pretrained_cfg
    return normalized(network, tuple(config["mean"]), tuple(config["std"])).eval()
