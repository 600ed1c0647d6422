"""A network for other classes: all layers but the last as they are, the last drawn anew."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from recuse.errors import ConfigError
from recuse.models.architectures import Architecture, build_seeded
from recuse.models.cards import Card

NETWORK = "network."  # before the names of the bare network, behind its normalisation


def with_new_head(
    network: nn.Module, card: Card, classes: int, seed: int
) -> tuple[nn.Module, Card]:
    """The network with a fresh last layer, and a card that says so.

    The last layer is what depends on the number of classes.

    Args:
        network: Of ``card.build()``'s structure; left as it is.
        card: Its card.
        classes: Number of logits.
        seed: Of the new layer's weights.

    Raises:
        ConfigError: No class at all.
    """
    if classes < 1:
        raise ConfigError(f"a head of {classes} classes cannot be; give 1 or more")
    config = _for(card.architecture, classes)
    renewed = replace(
        card,
        architecture=config,
        label_names=(),
        accuracy={},
        origin=f"{card.origin or card.name}, a new last layer of {classes} classes",
    )
    head = dict(set(_shapes(config)) - set(_shapes(_for(config, classes + 1))))
    with torch.random.fork_rng(devices=[]):
        built = renewed.build()
    drawn = build_seeded(config, seed).state_dict()
    kept = {k: v for k, v in network.state_dict().items() if k.removeprefix(NETWORK) not in head}
    built.load_state_dict({**kept, **{f"{NETWORK}{name}": drawn[name] for name in head}})
    return built.eval(), renewed


def _for(config: Architecture, classes: int) -> Architecture:
    changed: Architecture = replace(cast(Any, config), classes=classes)
    return changed


def _shapes(config: Architecture) -> list[tuple[str, torch.Size]]:
    with torch.device("meta"):
        return [(name, tensor.shape) for name, tensor in config.build().state_dict().items()]


__all__ = ["with_new_head"]
