"""A multilayer perceptron for points in the plane and small images."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from recuse.errors import ConfigError
from recuse.models.dropout import check_dropout, optional_dropout


@dataclass(frozen=True)
class Mlp:
    """Three hidden layers of 64 ReLU units and an output layer; inputs are flattened.

    Attributes:
        shape: Shape of one input: ``(2,)`` for points, ``(1, 8, 8)`` for digits.
        classes: Number of classes.
        width: Units per hidden layer.
        hidden: Number of hidden layers.
        dropout: Rate after every hidden layer.
    """

    shape: tuple[int, ...] = (2,)
    classes: int = 3
    width: int = 64
    hidden: int = 3
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if min((self.classes, self.width, self.hidden, *self.shape), default=0) < 1:
            raise ConfigError(f"every size of {self} must be at least 1")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return self.shape

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        features = 1
        for size in self.shape:
            features *= size
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for i in range(1, self.hidden + 1):
            layers[f"linear{i}"] = nn.Linear(features, self.width)
            layers[f"relu{i}"] = nn.ReLU()
            layers.update(optional_dropout(self.dropout, f"dropout{i}"))
            features = self.width
        layers[f"linear{self.hidden + 1}"] = nn.Linear(features, self.classes)
        return nn.Sequential(layers)
