"""Wide residual networks, with the layer names of the two published families of weight files."""

from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import nn

from recuse.errors import ConfigError
from recuse.models.dropout import check_dropout
from recuse.models.features import Features
from recuse.models.initialize import initialize_he
from recuse.models.resnet import conv3x3
from recuse.models.square_images import SquareImages

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "swish": nn.SiLU}


def check_depth(depth: int, width: int) -> None:
    """Refuse a depth that is not 6n + 4, or a widening factor below 1.

    Raises:
        ConfigError: The depth or width cannot be built.
    """
    if depth < 10 or (depth - 4) % 6 or width < 1:
        raise ConfigError(
            f"depth {depth} is not 6n + 4 (28, 34, 40, 70) or width {width} is not 1+"
        )


class WideBlock(nn.Module):
    """Two pre-activated 3×3 convolutions with dropout between them.

    Where the number of channels changes, the shortcut is a 1×1 convolution of the activated
    input; elsewhere it is the raw input.

    Args:
        inputs: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution.
        dropout: Rate between the convolutions.
    """

    def __init__(self, inputs: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(width, width)
        self.convShortcut: nn.Module | None = None  # the published name
        if inputs != width:
            self.convShortcut = nn.Conv2d(inputs, width, 1, stride=stride, bias=False)

    def forward(self, x: Features) -> Features:
        """Features of the block."""
        activated = self.relu1(self.bn1(x))
        beside = x if self.convShortcut is None else self.convShortcut(activated)
        out = self.dropout(self.relu2(self.bn2(self.conv1(activated))))
        result: Features = self.conv2(out) + beside
        return result


@dataclass(frozen=True)
class WideResNet(SquareImages):
    """WRN-depth-width, for example WRN-28-10, as most adversarial training uses it.

    Attributes:
        depth: 6n + 4: 28, 34, 40, 70, ...
        width: Widening factor.
        channels: Input channels.
        size: Height and width of the input.
        classes: Number of classes.
        dropout: Rate between the convolutions of every block.

    Source: Zagoruyko and Komodakis, BMVC 2016.
    """

    depth: int = 28
    width: int = 10
    channels: int = 3
    size: int = 32
    classes: int = 10
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        check_depth(self.depth, self.width)

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=conv3x3(self.channels, 16))
        inputs = 16
        for i in range(3):
            width, blocks = 16 * self.width * 2**i, []
            for j in range((self.depth - 4) // 6):
                blocks.append(WideBlock(inputs, width, 2 if i and not j else 1, self.dropout))
                inputs = width
            group: OrderedDict[str, nn.Module] = OrderedDict(layer=nn.Sequential(*blocks))
            layers[f"block{i + 1}"] = nn.Sequential(group)
        layers["bn1"] = nn.BatchNorm2d(inputs)
        layers["relu"] = nn.ReLU()
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["fc"] = nn.Linear(inputs, self.classes)
        return initialize_he(nn.Sequential(layers))


class SamePaddedBlock(nn.Module):
    """:class:`WideBlock` with TensorFlow's padding: a strided convolution pads right and below.

    Args:
        inputs: Channels of the input.
        width: Channels of the output.
        stride: 1 or 2, of the first convolution.
        activation: Makes the activation layers.
        dropout: Rate between the convolutions.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, activation: type[nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.relu_0 = activation()
        self.conv_0 = nn.Conv2d(inputs, width, 3, stride=stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(width)
        self.relu_1 = activation()
        self.dropout = nn.Dropout(dropout)
        self.conv_1 = conv3x3(width, width)
        self.shortcut: nn.Module | None = None
        if inputs != width:
            self.shortcut = nn.Conv2d(inputs, width, 1, stride=stride, bias=False)
        self.padding = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)

    def forward(self, x: Features) -> Features:
        """Features of the block."""
        activated = self.relu_0(self.batchnorm_0(x))
        beside = x if self.shortcut is None else self.shortcut(activated)
        out = self.relu_1(self.batchnorm_1(self.conv_0(F.pad(activated, self.padding))))
        result: Features = self.conv_1(self.dropout(out)) + beside
        return result


@dataclass(frozen=True)
class SwishWideResNet(SquareImages):
    """The WideResNet of the strongest published CIFAR entries, Swish activations by default.

    Attributes:
        depth: 6n + 4: 28, 34, 70, ...
        width: Widening factor.
        channels: Input channels.
        size: Height and width of the input.
        classes: Number of classes.
        dropout: Rate between the convolutions of every block.
        activation: ``"swish"`` or ``"relu"``.

    Source: Gowal et al., 2020, "Uncovering the limits of adversarial training".
    """

    depth: int = 28
    width: int = 10
    channels: int = 3
    size: int = 32
    classes: int = 10
    dropout: float = 0.0
    activation: str = "swish"

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        check_depth(self.depth, self.width)
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation {self.activation!r} is unknown; take 'swish' or 'relu'")

    def build(self) -> nn.Module:
        """A network with fresh weights."""
        activation = ACTIVATIONS[self.activation]
        groups, inputs = [], 16
        for i in range(3):
            width, blocks = 16 * self.width * 2**i, []
            for j in range((self.depth - 4) // 6):
                stride = 2 if i and not j else 1
                blocks.append(SamePaddedBlock(inputs, width, stride, activation, self.dropout))
                inputs = width
            groups.append(nn.Sequential(OrderedDict(block=nn.Sequential(*blocks))))
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["init_conv"] = conv3x3(self.channels, 16)
        layers["layer"] = nn.Sequential(*groups)
        layers["batchnorm"] = nn.BatchNorm2d(inputs)
        layers["relu"] = activation()
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["logits"] = nn.Linear(inputs, self.classes)
        return initialize_he(nn.Sequential(layers))
