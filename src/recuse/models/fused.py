"""Convolution, addition and ReLU in one pass over memory, where a CPU's library offers it.

Between the convolutions of a residual network a CPU waits for memory: the sum with the shortcut
and the ReLU each read and write whole feature maps. oneDNN does both while a convolution's output
is still in registers. Same function, up to rounding in bf16, where it rounds once instead of
three times.
"""

import operator
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 (its name everywhere)

from recuse.models.features import Features
from recuse.models.folding import calls
from recuse.models.small_maps import SmallMapConvolution

SUMS = (operator.add, operator.iadd, torch.add)
RELUS = (F.relu, torch.relu)


class FusedConvolution(nn.Module):
    """A frozen convolution, then a sum with a shortcut if one is given, then ReLU.

    Args:
        layer: The convolution.
    """

    def __init__(self, layer: nn.Conv2d | SmallMapConvolution) -> None:
        super().__init__()
        self.train(layer.training)
        self.layer = layer

    def forward(self, x: Features, shortcut: Features | None = None) -> Features:
        """Features after the ReLU."""
        conv = convolution_of(self.layer)
        if not self._pays(conv, x, shortcut):
            out: Tensor = self.layer(x)
            return F.relu(out if shortcut is None else out + shortcut)
        dtype = conv.weight.dtype
        shortcut = shortcut if shortcut is None else shortcut.to(dtype)
        fused: Tensor = _Fused.apply(x.to(dtype), shortcut, conv)  # type: ignore[no-untyped-call]
        return fused

    def _pays(self, conv: nn.Conv2d, x: Tensor, shortcut: Tensor | None) -> bool:
        if x.numel() == 0 or not offered(conv):
            return False
        if isinstance(self.layer, SmallMapConvolution) and self.layer.multiplies(x):
            return False
        # A shortcut of another shape would be broadcast.
        return shortcut is None or shortcut.shape == (len(x), conv.out_channels, *x.shape[2:])


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shortcut: Tensor | None, conv: nn.Conv2d) -> Tensor:
        last = (conv.padding, conv.stride, conv.dilation, conv.groups)
        step = torch.ops.mkldnn._convolution_pointwise
        if shortcut is None:
            out: Tensor = step(x, conv.weight, conv.bias, *last, "relu", [], "")
        else:
            sums: tuple[Any, ...] = ("add", 1.0, "relu", [], "")
            out = step.binary(x, shortcut, conv.weight, conv.bias, *last, *sums)
        ctx.conv = conv
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, out = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        to_x, to_shortcut = ctx.needs_input_grad[:2]
        return (
            input_gradient(ctx.conv, x, grad) if to_x else None,
            grad if to_shortcut else None,
            None,
        )


def input_gradient(
    conv: nn.Conv2d, x: Tensor, grad: Tensor, weight: Tensor | None = None
) -> Tensor:
    """The gradient of a convolution with respect to its input ``x``.

    Args:
        conv: The convolution.
        x: Its input; only shape, type and layout matter.
        grad: Gradient with respect to its output.
        weight: Used in place of the convolution's own, for example in another precision.
    """
    weight = conv.weight if weight is None else weight
    shape = (conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups)
    wanted = [True, False, False]
    found: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, *shape, wanted)[0]
    return found


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of images, not a subclass, that pads with zeros."""
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def offered(conv: nn.Conv2d) -> bool:
    """Whether this build and this processor have the fused pass for a convolution.

    They have it for weights stored with channels last, one group, on a CPU with oneDNN.
    """
    weight = conv.weight
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if conv.groups > 1 or suggest_memory_format(weight) != torch.channels_last:
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def convolution_of(layer: nn.Module) -> nn.Conv2d:
    """The convolution itself, where matrix products may stand in for it."""
    conv = layer.conv if isinstance(layer, SmallMapConvolution) else layer
    assert isinstance(conv, nn.Conv2d)
    return conv


def fuse_activations(graph: torch.fx.GraphModule) -> None:
    """Make one layer of every convolution and the sum and ReLU behind it, in place.

    Whatever is read twice stays, and so does a convolution of another kind or with hooks.

    Args:
        graph: A traced network whose weights are frozen.
    """
    modules = dict(graph.named_modules())
    for relu in list(graph.graph.nodes):
        if not _is_relu(relu, modules):
            continue
        source = relu.args[0]
        if _fits(graph, source, modules):
            _fuse(graph, source, (), relu)
        elif source.op == "call_function" and source.target in SUMS and len(source.users) == 1:
            parts = source.all_input_nodes
            ends = [n for n in parts if _fits(graph, n, modules) and _keeps_size(n, modules)]
            if ends and len(parts) == 2 and not source.kwargs:
                shortcut = parts[1] if ends[0] is parts[0] else parts[0]
                _fuse(graph, ends[0], (shortcut,), relu, source)
    graph.recompile()


def _is_relu(node: torch.fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_function":
        return node.target in RELUS
    return calls(node, (nn.ReLU,), modules)


def _fits(graph: torch.fx.GraphModule, node: torch.fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node is the only call of a plain convolution, and read once."""
    if not calls(node, (nn.Conv2d, SmallMapConvolution), modules):
        return False
    plain = is_plain(convolution_of(modules[str(node.target)]))
    once = [n.target for n in graph.graph.nodes].count(node.target) == 1
    return plain and once and len(node.users) == 1 and len(node.args) == 1


def _keeps_size(node: torch.fx.Node, modules: dict[str, nn.Module]) -> bool:
    conv = convolution_of(modules[str(node.target)])
    reach = tuple(d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True))
    return conv.stride == (1, 1) and tuple(2 * int(p) for p in conv.padding) == reach


def _fuse(
    graph: torch.fx.GraphModule,
    convolution: torch.fx.Node,
    shortcut: tuple[torch.fx.Node, ...],
    *replaced: torch.fx.Node,
) -> None:
    """One layer in place of the replaced nodes, the last to run first, and of the convolution."""
    name = str(convolution.target)
    graph.set_submodule(name, FusedConvolution(graph.get_submodule(name)))  # type: ignore[arg-type]
    with graph.graph.inserting_before(replaced[0]):
        fused = graph.graph.call_module(name, (*convolution.args, *shortcut))
    replaced[0].replace_all_uses_with(fused)
    for node in (*replaced, convolution):
        graph.graph.erase_node(node)


__all__ = ["FusedConvolution", "fuse_activations", "input_gradient", "is_plain", "offered"]
