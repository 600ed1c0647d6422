"""Pre-activation ResNets: batch norm and ReLU come before each convolution."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from recuse.errors import ConfigError
from recuse.models.dropout import check_dropout
from recuse.models.features import Features
from recuse.models.initialize import initialize_he
from recuse.models.resnet import conv3x3
from recuse.models.square_images import SquareImages

STAGES: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class PreActBlock(nn.Module):
    """Two pre-activated 3×3 convolutions.

    Args:
        inputs: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution.
        dropout: Rate between the convolutions.
        activated_shortcut: The 1×1 shortcut reads the activated input, as in the paper's code;
            otherwise the raw one, as most adversarial-training code has it.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, dropout: float, activated_shortcut: bool
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(width, width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut.append(nn.Conv2d(inputs, width, 1, stride=stride, bias=False))
        self.activated_shortcut = activated_shortcut and len(self.shortcut) > 0

    def forward(self, x: Features) -> Features:
        """Features of the block."""
        activated = self.relu1(self.bn1(x))
        beside = self.shortcut(activated if self.activated_shortcut else x)
        out = self.dropout(self.relu2(self.bn2(self.conv1(activated))))
        result: Features = self.conv2(out) + beside
        return result


@dataclass(frozen=True)
class PreActResNet(SquareImages):
    """PreAct ResNet-18 or -34 with a 3×3 stem, for 32×32 images.

    Attributes:
        depth: 18 or 34.
        channels: Input channels.
        size: Height and width of the input.
        classes: Number of classes.
        dropout: Rate between the convolutions of every block.
        final_norm: Batch norm and ReLU before pooling.
        activated_shortcut: See :class:`PreActBlock`.
        width: Channels of the first stage; each further stage has twice as many.

    Source: He et al., ECCV 2016.
    """

    depth: int = 18
    channels: int = 3
    size: int = 32
    classes: int = 10
    dropout: float = 0.0
    final_norm: bool = False
    activated_shortcut: bool = False
    width: int = 64

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if self.depth not in STAGES:
            raise ConfigError(f"depth {self.depth} is unknown; take {sorted(STAGES)}")
        if self.width < 1:
            raise ConfigError(f"width is {self.width}; give 1 channel or more")

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv1"] = conv3x3(self.channels, self.width)
        inputs = self.width
        for i, count in enumerate(STAGES[self.depth]):
            width, blocks = self.width * 2**i, []
            for j in range(count):
                stride = 2 if i and not j else 1
                blocks.append(
                    PreActBlock(inputs, width, stride, self.dropout, self.activated_shortcut)
                )
                inputs = width
            layers[f"layer{i + 1}"] = nn.Sequential(*blocks)
        if self.final_norm:
            layers["bn"] = nn.BatchNorm2d(inputs)
            layers["relu"] = nn.ReLU()
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["linear"] = nn.Linear(inputs, self.classes)
        return initialize_he(nn.Sequential(layers))
