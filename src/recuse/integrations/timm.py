"""Networks of timm with its own weights: images in [0, 1] in, logits out (extra ``hub``)."""

import torch
from torch import nn

from recuse.errors import ConfigError
from recuse.models.architectures import TIMM, parse_architecture
from recuse.models.cards import Card, card_for
from recuse.models.checkpoint import weights_sha256
from recuse.models.normalize import normalized
from recuse.models.timm_network import TimmNetwork, timm_config


def load_timm(name: str) -> tuple[nn.Module, Card]:
    """A network of timm with the weights that timm gives away for it.

    Args:
        name: For example ``"resnet18"``; weights that are not on this machine are fetched.

    Returns:
        The network in eval mode on the CPU, behind the normalisation it was made for, and its
        card.

    Raises:
        ConfigError: timm or torchvision is not installed, or has no such model or weights.
    """
    config, made = parse_architecture(f"{TIMM}{name}"), timm_config(name)
    if not isinstance(config, TimmNetwork):
        raise ConfigError(f"{name!r} is no network of timm")
    card = card_for(
        f"{TIMM}{name}",
        config,
        mean=tuple(made["mean"]),
        std=tuple(made["std"]),
        origin=f"timm {name}",
        licence=str(made.get("license") or ""),
    )
    with torch.random.fork_rng(devices=[]):
        network = normalized(config.pretrained(), card.preprocessing.mean, card.preprocessing.std)
    return network.eval(), card.with_sha256(weights_sha256(network))


__all__ = ["load_timm"]
