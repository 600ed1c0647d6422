"""Networks made ready for attack and inference: same function, fewer and faster passes.

A prepared network is frozen: gradients flow to the input only. In bf16 the first layer and the
logits stay in fp32, because bf16 cannot tell neighbouring pixel values near 1 apart; its verdicts
are a screen that the caller confirms in fp32.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.fx
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recuse.errors import ConfigError
from recuse.models.folding import FoldedCopy, fold_batchnorm
from recuse.models.fused import fuse_activations, input_gradient, is_plain
from recuse.models.small_maps import with_matrix_products

Precision = Literal["fp32", "bf16"]
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
IMAGE_DIMS = 4
# Below, layers are so narrow that fp32 and bf16 take about as long.
FEWEST_WEIGHTS_FOR_BF16 = 1_000_000


class Fp32Layer(nn.Module):
    """Runs one layer in fp32 and hands its output on in autocast's type.

    The input's precision is what matters here. An fp32 output would drag every addition along
    the shortcuts of the first stage into fp32, the largest feature maps of the network. A
    convolution hands its gradient on in bf16, the precision in which it arrives.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, computed in fp32."""
        if is_plain(self.layer):
            out: Tensor = _Fp32Forward.apply(x, self.layer)  # type: ignore[no-untyped-call]
            return out
        return _in_fp32(self.layer, x)


def _in_fp32(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = layer(x.float())
    return out.to(torch.bfloat16)


class _Fp32Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: nn.Conv2d) -> Tensor:
        ctx.conv, ctx.shape = conv, x.shape
        return _in_fp32(conv, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, weight = grad.new_empty(ctx.shape), ctx.conv.weight.to(grad.dtype)
        return input_gradient(ctx.conv, x, grad, weight).float(), None


class Bf16Network(nn.Module):
    """Runs a network in bf16 autocast; its first layer with weights and its logits are fp32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits in fp32."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            out: Tensor = self.network(x)
        return out.float()


@dataclass(frozen=True)
class PreparedCopy:
    """A prepared network that can follow the weights of the network it was made from.

    Attributes:
        module: Frozen, in eval mode; logits in fp32.
        folded: The copy inside.
    """

    module: nn.Module
    folded: FoldedCopy

    def refresh(self) -> None:
        """Bring the copy to the source's current weights, after a training step."""
        self.folded.refresh()


def prepared_copy(
    model: nn.Module, *, precision: str = "fp32", channels_last: bool = True
) -> PreparedCopy:
    """Prepare a network that is still being trained; ``refresh()`` after each step.

    Args:
        model: Any network; it is left as it was.
        precision: ``"fp32"``, equal to the original up to rounding, or ``"bf16"``, a screen.
        channels_last: Store four-dimensional weights with channels last.

    Raises:
        ConfigError: An unknown precision.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r} is unknown; take 'fp32' or 'bf16'")
    folded = fold_batchnorm(model)
    if channels_last:
        store_channels_last(folded.module)
    module = folded.module if precision == "fp32" else _in_bf16(folded.module)
    if isinstance(folded.module, torch.fx.GraphModule):
        fuse_activations(folded.module)
    return PreparedCopy(module, folded)


def prepare(model: nn.Module, *, precision: str = "fp32", channels_last: bool = True) -> nn.Module:
    """A frozen eval-mode copy of ``model``, faster for attacks and inference.

    Batch norm is folded into convolutions, four-dimensional weights are stored with channels
    last, and no parameter needs a gradient. On a CPU, sums and ReLUs become part of the
    convolutions before them and wide convolutions become matrix products on the smallest maps.
    The input can be differentiated once, not twice. See :func:`prepared_copy` for the arguments.

    Raises:
        ConfigError: An unknown precision.
    """
    copy = prepared_copy(model, precision=precision, channels_last=channels_last)
    return with_matrix_products(copy.module)


def suited_precision(model: nn.Module) -> Precision:
    """The precision of a first, short search that suits the device which holds ``model``.

    A screen saves the fp32 steps of inputs that break, and those are few once broken inputs leave
    the batch. On a processor with AMX, attacks with it took 1.14 and 1.03 times as long on a
    ResNet-18 of which 12 and 38 % of the inputs broke, and 0.83 times as long on a ResNet-56 of
    which all broke: there it has to be asked for.

    Returns:
        ``"bf16"`` for a large network on a GPU that multiplies in bf16, else ``"fp32"``, which
        means no search on a copy at all.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    large = sum(p.numel() for p in model.parameters()) >= FEWEST_WEIGHTS_FOR_BF16
    return "bf16" if large and device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def imitates_bf16(device: torch.device) -> bool:
    """Whether a device has no bf16 of its own, so that it takes many times as long."""
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def store_channels_last(module: nn.Module) -> None:
    """Lay the weights of convolutions out as a CPU multiplies them fastest, in place."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == IMAGE_DIMS:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def _in_bf16(network: nn.Module) -> nn.Module:
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, LAYERS)]
    for _, layer in layers[1:]:
        # Autocast casts frozen fp32 weights anew in every forward; stored in bf16 they are free.
        layer.to(torch.bfloat16)
    if layers and layers[0][0]:
        network.set_submodule(layers[0][0], Fp32Layer(layers[0][1]))
    return Bf16Network(network)
