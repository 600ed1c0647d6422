"""``resnet4b`` of the verification competition: residual blocks without batch normalisation."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from recuse.errors import ConfigError
from recuse.models.dropout import check_dropout, optional_dropout
from recuse.models.features import Features
from recuse.models.resnet import conv3x3
from recuse.models.square_images import SquareImages


class PlainBlock(nn.Module):
    """Two 3×3 convolutions with bias; a 1×1 convolution beside a strided one.

    Args:
        inputs: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution.
        dropout: Rate between the convolutions.
    """

    def __init__(self, inputs: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride, bias=True)
        self.relu1 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(width, width, bias=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut.append(nn.Conv2d(inputs, width, 1, stride=stride))
        self.relu2 = nn.ReLU()

    def forward(self, x: Features) -> Features:
        """Features of the block."""
        out = self.conv2(self.dropout(self.relu1(self.conv1(x))))
        result: Features = self.relu2(out + self.shortcut(x))
        return result


@dataclass(frozen=True)
class ResNet4b(SquareImages):
    """A strided stem, four blocks of 32 channels and two linear layers.

    Attributes:
        channels: Input channels.
        size: Height and width of the input, at least 8.
        classes: Number of classes.
        dropout: Rate inside every block and before the last layer.

    Source: VNN-COMP 2021, ``cifar10_resnet``.
    """

    channels: int = 3
    size: int = 32
    classes: int = 10
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if self.size < 8 or self.channels < 1 or self.classes < 1:
            raise ConfigError(f"{self} needs a size of at least 8, a channel and a class")

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        side = self.size
        for _ in range(3):
            side = (side + 1) // 2
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = conv3x3(self.channels, 16, 2, bias=True)
        layers["relu1"] = nn.ReLU()
        layers["layer1"] = nn.Sequential(
            PlainBlock(16, 32, 2, self.dropout), PlainBlock(32, 32, 1, self.dropout)
        )
        layers["layer2"] = nn.Sequential(
            PlainBlock(32, 32, 2, self.dropout), PlainBlock(32, 32, 1, self.dropout)
        )
        layers["flatten"] = nn.Flatten()
        layers["linear1"] = nn.Linear(32 * side**2, 100)
        layers["relu2"] = nn.ReLU()
        layers.update(optional_dropout(self.dropout))
        layers["linear2"] = nn.Linear(100, self.classes)
        return nn.Sequential(layers)
