"""A network with its outputs in the order of the data's classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recuse.class_names import class_order
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
        # In the state, so that the digest of the weights tells one order from another.
        self.register_buffer("order", torch.tensor(order, dtype=torch.int64))
        self.train(network.training)

    def forward(self, x: Features) -> Features:
        """The network's logits in the new order."""
        logits: Features = self.network(x)[:, self.order]
        return logits


def in_order_of(
    network: nn.Module, own: Sequence[str], wanted: Sequence[str], *, model: str, data: str
) -> nn.Module:
    """The network with its outputs in the order of the data's labels; itself where they are.

    Args:
        network: Maps images to logits.
        own: As in :func:`recuse.class_names.class_order`, as are the others.
        wanted: Names of the data's classes, in order.
        model: How the message calls the network, for example ``"model 'era'"``.
        data: The data's name, for the message.

    Raises:
        DataError: The data have a class that the network does not know.
    """
    order = class_order(own, wanted, model=model, data=data)
    if order is None:
        return network
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    return Reordered(network, order).to(device)


__all__ = ["Reordered", "class_order", "in_order_of"]
