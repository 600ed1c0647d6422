"""A network with its outputs in the order of the data's classes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from recuse.models.cards import Card
from recuse.models.features import Features


class Reordered(nn.Module):
    """A network whose outputs are put into another order of classes, the same in every pass.

    Interval bounds treat a linear last layer together with the difference of two outputs; behind
    an order they do not, so that they prove a little less.

    Attributes:
        network: The network.
        order: For each class that is returned, the output of the network that stands for it.
    """

    order: Tensor

    def __init__(self, network: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        # In the state, so that the digest of the weights tells one order from another.
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64, device=device))
        self.train(network.training)

    def forward(self, x: Features) -> Features:
        """The network's logits in the new order."""
        logits: Features = self.network(x)[:, self.order]
        return logits


def in_own_order(network: nn.Module, card: Card) -> tuple[nn.Module, Card]:
    """The network that a card builds, with that card: an order put on since is taken off."""
    while isinstance(network, Reordered):
        order = network.order.tolist()
        own = [""] * len(order)
        for label, output in zip(card.label_names, order, strict=True):
            own[output] = label
        network, card = network.network, replace(card, label_names=tuple(own))
    return network, card


__all__ = ["Reordered", "in_own_order"]
