"""Convolutions on very small feature maps as matrix products, where a CPU is faster so.

On 4x4 maps the direct convolutions of a CPU leave most of its arithmetic idle; gathering the
neighbourhoods and multiplying once is up to three times as fast, forward and for the gradient
with respect to the input. Same function, up to rounding.
"""

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
    """A frozen 3x3 convolution that multiplies matrices on maps of at most 16 pixels.

    Args:
        conv: The convolution; its weights must not change afterwards.
    """

    to_output: Tensor
    to_input: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.train(conv.training)
        self.conv = conv
        weight = conv.weight.detach()
        # (row, column, in) x out; the gradient is the convolution with the turned weights
        output = weight.permute(2, 3, 1, 0).reshape(-1, conv.out_channels)
        turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, conv.in_channels)
        self.register_buffer("to_output", output.contiguous(), persistent=False)
        self.register_buffer("to_input", turned.contiguous(), persistent=False)

    def forward(self, x: Features) -> Features:
        """Features of the same size."""
        if x.device.type != "cpu" or x.shape[2] * x.shape[3] > LARGEST_MAP:
            out: Tensor = self.conv(x)
            return out
        x = x.to(self.to_output.dtype)
        product: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
            x, self.to_output, self.to_input, self.conv.bias
        )
        return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, to_output: Tensor, to_input: Tensor, bias: Any) -> Tensor:
        ctx.to_input = to_input
        return neighbourhood_product(x, to_output, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return neighbourhood_product(grad, ctx.to_input, None), None, None, None


def neighbourhood_product(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """The 3x3 neighbourhood of every pixel, zero outside, times ``matrix``.

    Args:
        x: ``(batch, channels, height, width)``.
        matrix: ``(9 * channels, outputs)``, neighbours row by row, channels fastest.
        bias: ``(outputs,)`` to add.

    Returns:
        ``(batch, outputs, height, width)``, channels last in memory.
    """
    batch, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    shifts = [(i, j) for i in range(_SIDE) for j in range(_SIDE)]
    parts = [padded[:, i : i + height, j : j + width] for i, j in shifts]
    gathered = torch.cat(parts, dim=3).view(batch * height * width, len(shifts) * channels)
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
        and module.stride == module.dilation == module.padding == (1, 1)
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
