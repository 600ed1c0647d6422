"""What a neuron sees of the layers before it, so that bounds of it look at no more.

A neuron of a convolution depends on a small square of every earlier layer. Cut out of an image's
bounds, these squares are the bounds of a smaller network with the same weights, and what is pulled
back through it is what would be pulled back through the whole.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from recuse.certify.intervals import Box

Node = torch.fx.Node
Span = tuple[int, int]

RELU_MODULES = (nn.ReLU,)
RELU_FUNCTIONS: tuple[Callable[..., Any], ...] = (torch.relu, functional.relu)
SUMS: tuple[Callable[..., Any], ...] = (operator.add, torch.add)
# Affine, and each value from the one in its own place.
POINTWISE_MODULES = (nn.BatchNorm2d, nn.Identity, nn.Dropout, nn.Dropout2d)
POINTWISE_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *SUMS,
    operator.sub,
    torch.sub,
    operator.mul,
    torch.mul,
    operator.truediv,
    torch.div,
)
# Dimensions of a batch of images; parts that each side of a layer is cut into.
IMAGE, TILES = 4, 8
# Fewer neurons are bounded at once faster than in parts.
MANY = 2048


@dataclass(frozen=True)
class Window:
    """Some neurons of a layer, and what they see.

    Attributes:
        tile: Rows and columns of the neurons; empty for all neurons of a layer.
        seen: Rows and columns of each node, the layer's own included, that bounds of these neurons
            need; empty where they need all.
    """

    tile: tuple[Span, ...] = ()
    seen: Mapping[Node, tuple[Span, ...]] = field(default_factory=dict)


def windows(
    node: Node, boxes: Mapping[Node, Any], modules: Mapping[str, nn.Module]
) -> list[Window]:
    """The neurons of a node in tiles, each with what it sees; one of all where that is not known.

    Args:
        node: Whose neurons.
        boxes: Bounds of every node, and values of constants.
        modules: Of the traced network, by name.
    """
    value: Tensor = boxes[node].lower
    if value.ndim != IMAGE or value[0].numel() < MANY:
        return [Window()]
    cuts = []
    for size in value.shape[2:]:
        side = max(1, size // TILES)
        cuts.append([(low, min(low + side, size)) for low in range(0, size, side)])
    found = []
    for tile in product(*cuts):
        seen = _seen(node, tile, boxes, modules)
        if seen is None:
            return [Window()]
        found.append(Window(tile, seen))
    return found


def _seen(
    node: Node, tile: tuple[Span, ...], boxes: Mapping[Node, Any], modules: Mapping[str, nn.Module]
) -> dict[Node, tuple[Span, ...]] | None:
    """Squares around all that the tile depends on, each where the next one's stride leads it."""
    needed = _needed(node, tile, boxes, modules)
    if needed is None:
        return None
    own = boxes[node].lower.shape[2:]
    for margin in range(max(own) + 1):
        seen = {}
        for each in needed:
            sizes = boxes[each].lower.shape[2:]
            seen[each] = tuple(
                _clipped((low - margin) * (size // whole), (high + margin) * (size // whole), size)
                for (low, high), size, whole in zip(tile, sizes, own, strict=True)
            )
        inside = (
            low >= first and high <= last
            for each, spans in needed.items()
            for (low, high), (first, last) in zip(spans, seen[each], strict=True)
        )
        if all(inside):
            return seen
    return None


def _needed(
    node: Node, tile: tuple[Span, ...], boxes: Mapping[Node, Any], modules: Mapping[str, nn.Module]
) -> dict[Node, tuple[Span, ...]] | None:
    """All that the tile depends on; None where a node on the way has no rule here."""
    needed = {node: tile}
    for current in reversed(list(node.graph.nodes)):
        if current not in needed or current.op == "placeholder":
            continue
        for source in current.args:
            if not isinstance(source, Node):
                continue
            if not isinstance(boxes[source], Box):
                if not _one_for_all(boxes[source]):
                    return None
                continue
            spans = _through(current, needed[current], boxes, source, modules)
            if spans is None:
                return None
            before = needed.get(source, spans)
            needed[source] = tuple(
                (min(a, c), max(b, d)) for (a, b), (c, d) in zip(spans, before, strict=True)
            )
    return needed


def _through(
    node: Node,
    spans: tuple[Span, ...],
    boxes: Mapping[Node, Any],
    source: Node,
    modules: Mapping[str, nn.Module],
) -> tuple[Span, ...] | None:
    """What a part of a node's value needs of its source's; None where that is not known."""
    inputs, outputs = boxes[source].lower.shape[2:], boxes[node].lower.shape[2:]
    layer = modules.get(str(node.target)) if node.op == "call_module" else None
    if type(layer) is not nn.Conv2d:
        return spans if _is_pointwise(node, layer) and inputs == outputs else None
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        return None
    found = []
    for axis, (low, high) in enumerate(spans):
        kernel, stride, padding = layer.kernel_size[axis], layer.stride[axis], layer.padding[axis]
        # Then a part of the input that begins and ends at multiples of the stride gives that part
        # of the output, with the same padding.
        fits = 0 < kernel - 2 * padding <= stride and inputs[axis] == stride * outputs[axis]
        if not fits or layer.dilation[axis] != 1:
            return None
        found.append(
            _clipped(low * stride - padding, (high - 1) * stride - padding + kernel, inputs[axis])
        )
    return tuple(found)


def _is_pointwise(node: Node, layer: nn.Module | None) -> bool:
    if node.op == "call_module":
        return isinstance(layer, (*RELU_MODULES, *POINTWISE_MODULES))
    if node.op == "call_method":
        return node.target in ("relu", "contiguous")
    return node.target in (*RELU_FUNCTIONS, *POINTWISE_FUNCTIONS)


def _one_for_all(value: Any) -> bool:
    """Whether a constant is the same at every place of an image."""
    return not isinstance(value, Tensor) or all(size == 1 for size in value.shape[-2:])


def _clipped(low: int, high: int, size: int) -> Span:
    return max(low, 0), min(high, size)


__all__ = ["Window", "windows"]
