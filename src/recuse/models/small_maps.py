"""Convolutions on very small feature maps as matrix products, where a CPU is faster so.

On 4x4 maps the direct convolutions of a CPU leave most of its arithmetic idle; gathering the
neighbourhoods and multiplying once is up to three times as fast, forward and for the gradient
with respect to the input. Same function, up to rounding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 (its name everywhere)

from recuse.models.features import Features

LARGEST_MAP = 16
FEWEST_CHANNELS = 256
_SIDE = 3


class SmallMapConvolution(nn.Module):
    """A frozen 3x3 convolution that multiplies matrices where it puts out at most 16 pixels.

    Args:
        conv: The convolution, of stride 1 or 2; its weights must not change afterwards.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.train(conv.training)
        self.conv = conv
        self.stride = conv.stride[0]
        self._matrices: tuple[Tensor, Tensor] | None = None

    def multiplies(self, x: Features) -> bool:
        """Whether maps of this size, on this device, are taken as matrices."""
        height, width = _strided(x.shape[2:], self.stride)
        return x.device.type == "cpu" and height * width <= LARGEST_MAP

    def forward(self, x: Features) -> Features:
        """What the convolution would return."""
        if not self.multiplies(x):
            out: Tensor = self.conv(x)
            return out
        to_output, to_input = self._weights()
        product: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            x.to(to_output.dtype), to_output, to_input, self.conv.bias, self.stride
        )
        return product

    def _weights(self) -> tuple[Tensor, Tensor]:
        """The matrices forward and back, made when first needed: most layers never do."""
        weight = self.conv.weight.detach()
        if self._matrices is None or self._matrices[0].dtype != weight.dtype:
            # (row, column, in) x out; at stride 1 the gradient is a convolution, weights turned
            output = weight.permute(2, 3, 1, 0).reshape(-1, len(weight)).contiguous()
            turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, weight.shape[1])
            back = turned if self.stride == 1 else output.t()
            self._matrices = output, back.contiguous()
        return self._matrices


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, to_output: Tensor, to_input: Tensor, bias: Any, stride: int
    ) -> Tensor:
        ctx.to_input, ctx.stride, ctx.size = to_input, stride, x.shape[2:]
        return neighbourhood_product(x, to_output, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        if ctx.stride == 1:
            back = neighbourhood_product(grad, ctx.to_input, None)
        else:
            back = scattered_product(grad, ctx.to_input, ctx.stride, ctx.size)
        return back, None, None, None, None


def _strided(size: Sequence[int], stride: int) -> tuple[int, int]:
    """Height and width of what a 3x3 convolution with zeros around puts out."""
    height, width = size
    return (height - 1) // stride + 1, (width - 1) // stride + 1


def _neighbours(padded: Tensor, height: int, width: int, stride: int) -> list[Tensor]:
    """For each of the nine neighbours, row by row, the view of where it lies for every output.

    ``padded`` is ``(batch, rows, columns, channels)`` with one pixel around.
    """
    ends = (stride * (height - 1) + 1, stride * (width - 1) + 1)
    shifts = [(i, j) for i in range(_SIDE) for j in range(_SIDE)]
    return [padded[:, i : i + ends[0] : stride, j : j + ends[1] : stride] for i, j in shifts]


def scattered_product(grad: Tensor, matrix: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """The adjoint of :func:`neighbourhood_product` without a bias.

    Args:
        grad: ``(batch, outputs, height, width)``.
        matrix: ``(outputs, 9 * channels)``.
        stride: Pixels from one output to the next.
        size: Height and width of the input.

    Returns:
        ``(batch, channels, *size)``, channels last in memory.
    """
    batch, outputs, height, width = grad.shape
    flat = grad.permute(0, 2, 3, 1).reshape(-1, outputs)
    channels = matrix.shape[1] // _SIDE**2
    columns = torch.mm(flat, matrix).view(batch, height, width, _SIDE**2, channels)
    padded = grad.new_zeros(batch, size[0] + 2, size[1] + 2, channels)
    for neighbour, part in enumerate(_neighbours(padded, height, width, stride)):
        part += columns[:, :, :, neighbour]
    return padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


def neighbourhood_product(
    x: Tensor, matrix: Tensor, bias: Tensor | None, stride: int = 1
) -> Tensor:
    """The 3x3 neighbourhood of every pixel, or of every second, zero outside, times ``matrix``.

    Args:
        x: ``(batch, channels, height, width)``.
        matrix: ``(9 * channels, outputs)``, neighbours row by row, channels fastest.
        bias: ``(outputs,)`` to add.
        stride: Pixels from one neighbourhood to the next.

    Returns:
        ``(batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)``, channels last in memory.
    """
    batch, channels = x.shape[:2]
    height, width = _strided(x.shape[2:], stride)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    parts = _neighbours(padded, height, width, stride)
    gathered = torch.cat(parts, dim=3).view(batch * height * width, len(parts) * channels)
    out = torch.empty(
        (batch, matrix.shape[1], height, width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    flat = out.permute(0, 2, 3, 1).view(batch * height * width, matrix.shape[1])
    if bias is None:
        torch.mm(gathered, matrix, out=flat)
    else:
        torch.addmm(bias, gathered, matrix, out=flat)
    return out


def suits(module: nn.Module) -> bool:
    """Whether a layer is a 3x3 convolution wide enough to gain from matrix products.

    A subclass and a layer with hooks are not: they may compute something else with their weight.
    """
    return (
        type(module) is nn.Conv2d
        and not (module._forward_pre_hooks or module._forward_hooks)
        and module.kernel_size == (_SIDE, _SIDE)
        and module.stride in ((1, 1), (2, 2))
        and module.dilation == module.padding == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and min(module.in_channels, module.out_channels) >= FEWEST_CHANNELS
    )


def with_matrix_products(network: nn.Module) -> nn.Module:
    """The network with every suitable convolution replaced, in place; weights must be frozen."""
    for name, module in list(network.named_modules()):
        if name and isinstance(module, nn.Conv2d) and suits(module):
            network.set_submodule(name, SmallMapConvolution(module))
    return network
