"""Residual networks for small images: the CIFAR family of He et al. and the 18/50 of ImageNet.

All blocks end in a ReLU after the addition; ``preact_resnet`` and ``wide_resnet`` hold those
that do not. Layer names are those of the published weight files.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import nn

from recuse.errors import ConfigError
from recuse.models.dropout import check_dropout
from recuse.models.features import Features
from recuse.models.initialize import initialize_he
from recuse.models.square_images import SquareImages


class SubsampleShortcut(nn.Module):
    """Option A: every second pixel, new channels zero, no weights.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output; the zeros are shared between both ends.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Features) -> Features:
        """``(batch, inputs, h, w)`` to ``(batch, outputs, ceil(h / 2), ceil(w / 2))``."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


def conv3x3(inputs: int, outputs: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    """A padded 3×3 convolution."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Option B: a strided 1×1 convolution with batch norm, nothing where the shapes agree."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm; dropout between them.

    Args:
        inputs: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution.
        dropout: Rate between the convolutions.
        shortcut: The path beside; by default a projection where shapes differ.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        dropout: float,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = projection(inputs, width, stride) if shortcut is None else shortcut
        self.relu2 = nn.ReLU()

    def forward(self, x: Features) -> Features:
        """Features of the block."""
        out = self.dropout(self.relu1(self.bn1(self.conv1(x))))
        out = self.bn2(self.conv2(out))
        result: Features = self.relu2(out + self.shortcut(x))
        return result


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with batch norm; dropout before the last.

    Args:
        inputs: Channels of the input.
        width: Channels inside; the output has four times as many.
        stride: Stride of the 3×3 convolution.
        dropout: Rate before the last convolution.
    """

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = projection(inputs, outputs, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: Features) -> Features:
        """Features of the block."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.dropout(self.relu2(self.bn2(self.conv2(out))))
        out = self.bn3(self.conv3(out))
        result: Features = self.relu3(out + self.shortcut(x))
        return result


@dataclass(frozen=True)
class CifarResNet(SquareImages):
    """The CIFAR ResNet of depth 6n + 2, widths 16-32-64, option-A shortcuts.

    Attributes:
        depth: 20, 32, 44, 56, 110, ...
        channels: Input channels.
        size: Height and width of the input.
        classes: Number of classes.
        dropout: Rate between the convolutions of every block.

    Source: He et al., CVPR 2016, section 4.2.
    """

    depth: int = 20
    channels: int = 3
    size: int = 32
    classes: int = 10
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ConfigError(f"depth {self.depth} is not 6n + 2; take 20, 32, 44, 56 or 110")

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = conv3x3(self.channels, 16)
        layers["bn1"] = nn.BatchNorm2d(16)
        layers["relu"] = nn.ReLU()
        inputs = 16
        for i, width in enumerate((16, 32, 64)):
            layers[f"layer{i + 1}"] = self._stage(inputs, width)
            inputs = width
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["linear"] = nn.Linear(64, self.classes)
        return initialize_he(nn.Sequential(layers))

    def _stage(self, inputs: int, width: int) -> nn.Sequential:
        blocks = [BasicBlock(width, width, 1, self.dropout) for _ in range((self.depth - 2) // 6)]
        if inputs != width:
            shortcut = SubsampleShortcut(inputs, width)
            blocks[0] = BasicBlock(inputs, width, 2, self.dropout, shortcut)
        return nn.Sequential(*blocks)


STAGES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


@dataclass(frozen=True)
class ResNet(SquareImages):
    """ResNet-18, -34 or -50 with a 3×3 stride-1 stem and no pooling, for 32×32 images.

    Attributes:
        depth: 18, 34 or 50.
        channels: Input channels.
        size: Height and width of the input.
        classes: Number of classes.
        dropout: Rate before the last convolution of every block.
        width: Channels of the first stage; each further stage has twice as many.
    """

    depth: int = 18
    channels: int = 3
    size: int = 32
    classes: int = 10
    dropout: float = 0.0
    width: int = 64

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if self.depth not in STAGES:
            raise ConfigError(f"depth {self.depth} is unknown; take {sorted(STAGES)}")
        if self.width < 1:
            raise ConfigError(f"width is {self.width}; give 1 channel or more")

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        block, counts = STAGES[self.depth]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = conv3x3(self.channels, self.width)
        layers["bn1"] = nn.BatchNorm2d(self.width)
        layers["relu"] = nn.ReLU()
        inputs = self.width
        for i, count in enumerate(counts):
            width, blocks = self.width * 2**i, []
            for j in range(count):
                blocks.append(block(inputs, width, 2 if i and not j else 1, self.dropout))
                inputs = width * block.expansion
            layers[f"layer{i + 1}"] = nn.Sequential(*blocks)
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["linear"] = nn.Linear(inputs, self.classes)
        return initialize_he(nn.Sequential(layers))
