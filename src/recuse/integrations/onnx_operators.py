"""What each node of ONNX is in PyTorch, as one table."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 (its name everywhere)

from recuse.errors import ConfigError
from recuse.integrations.onnx_graph import OnnxGraph, Operator

_MATRIX = 2


def _conv(graph: OnnxGraph, node: Any) -> fx.Node:
    weight, how = graph.constant(node, 1), graph.settings(node, group=1)
    dims = weight.ndim - 2
    if dims != _MATRIX:
        raise ConfigError(f"{graph.path}: a convolution of {dims} dimensions is not known here")
    pads, x = how.get("pads", [0] * 4), graph.value(node, 0)
    even = pads[:dims] == pads[dims:]
    if not even:
        x = graph.layer(node, nn.ZeroPad2d((pads[1], pads[3], pads[0], pads[2])))
    conv = nn.Conv2d(
        weight.shape[1] * how["group"],
        weight.shape[0],
        weight.shape[2:],
        stride=tuple(how.get("strides", (1, 1))),
        padding=tuple(pads[:dims]) if even else 0,
        dilation=tuple(how.get("dilations", (1, 1))),
        groups=how["group"],
        bias=graph.has(node, 2),
    )
    return graph.layer(node, _filled(conv, weight, graph, node), x)


def _filled(layer: nn.Module, weight: Any, graph: OnnxGraph, node: Any) -> nn.Module:
    state = {"weight": torch.tensor(weight)}
    if graph.has(node, 2):
        state["bias"] = torch.tensor(graph.constant(node, 2)).flatten()
    layer.load_state_dict(state)
    return layer


def _gemm(graph: OnnxGraph, node: Any) -> fx.Node:
    how = graph.settings(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    if (how["alpha"], how["beta"], how["transA"]) != (1.0, 1.0, 0):
        raise ConfigError(f"{graph.path}: Gemm with factors is not known here")
    weight = graph.constant(node, 1)
    weight = weight if how["transB"] else weight.T.copy()
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=graph.has(node, 2))
    return graph.layer(node, _filled(linear, weight, graph, node))


def _matmul(graph: OnnxGraph, node: Any) -> fx.Node:
    weight = graph.constants.get(node.input[1])
    if weight is None or weight.ndim != _MATRIX:
        return graph.call(torch.matmul, graph.value(node, 0), graph.value(node, 1))
    linear = nn.Linear(weight.shape[0], weight.shape[1], bias=False)
    return graph.layer(node, _filled(linear, weight.T.copy(), graph, node))


def _batchnorm(graph: OnnxGraph, node: Any) -> fx.Node:
    how = graph.settings(node, epsilon=1e-5)
    parts = [torch.tensor(graph.constant(node, place)) for place in range(1, 5)]
    flat = graph.ranks.get(node.input[0]) == _MATRIX
    norm = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(len(parts[0]), eps=how["epsilon"])
    names = ("weight", "bias", "running_mean", "running_var")
    norm.load_state_dict(dict(zip(names, parts, strict=True)), strict=False)
    return graph.layer(node, norm)


def _pool(kind: type[nn.Module], **own: Any) -> Operator:
    def pool(graph: OnnxGraph, node: Any) -> fx.Node:
        how = graph.settings(node, ceil_mode=0, count_include_pad=0)
        size, pads = how["kernel_shape"], how.get("pads", [0] * 4)
        if len(size) != _MATRIX or pads[:2] != pads[2:]:
            raise ConfigError(f"{graph.path}: {node.op_type} of this padding is not known here")
        also = {own_name: how[name] for own_name, name in own.items() if name in how}
        layer = kind(
            tuple(size),
            stride=tuple(how.get("strides", (1, 1))),
            padding=tuple(pads[:2]),
            ceil_mode=bool(how["ceil_mode"]),
            **also,
        )
        return graph.layer(node, layer)

    return pool


def _reshape(graph: OnnxGraph, node: Any) -> fx.Node:
    x, shape = graph.value(node, 0), [int(n) for n in graph.constant(node, 1)]
    if len(shape) == _MATRIX:
        return graph.layer(node, nn.Flatten())
    rows = graph.call(getattr, x, "shape")
    first = graph.call(operator.getitem, rows, 0)
    return graph.call(torch.reshape, x, (first, *shape[1:]))


def _axes(graph: OnnxGraph, node: Any) -> list[int]:
    """Axes as an attribute, or in later versions as an input."""
    found = graph.settings(node).get("axes")
    return [int(a) for a in (graph.constant(node, 1) if found is None else found)]


def _mean(graph: OnnxGraph, node: Any) -> fx.Node:
    keep = bool(graph.settings(node, keepdims=1)["keepdims"])
    return graph.call(torch.mean, graph.value(node, 0), dim=_axes(graph, node), keepdim=keep)


def _pad(graph: OnnxGraph, node: Any) -> fx.Node:
    how = graph.settings(node, mode=b"constant")
    pads = [int(n) for n in (how["pads"] if "pads" in how else graph.constant(node, 1))]
    if how["mode"] != b"constant" or graph.has(node, 3):
        raise ConfigError(f"{graph.path}: Pad of this mode is not known here")
    filled = float(graph.constant(node, 2)) if graph.has(node, 2) else 0.0
    half = len(pads) // 2
    torch_order = [n for i in reversed(range(half)) for n in (pads[i], pads[half + i])]
    return graph.call(F.pad, graph.value(node, 0), torch_order, "constant", filled)


def _slice(graph: OnnxGraph, node: Any) -> fx.Node:
    starts, ends = (graph.constant(node, place) for place in (1, 2))
    axes = graph.constant(node, 3, np.arange(len(starts)))
    steps = graph.constant(node, 4, np.ones(len(starts), dtype=np.int64))
    rank = max(int(a) for a in axes) + 1
    cuts = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cuts[int(axis)] = slice(int(start), int(end), int(step))
    return graph.call(operator.getitem, graph.value(node, 0), tuple(cuts))


def _clip(graph: OnnxGraph, node: Any) -> fx.Node:
    how = graph.settings(node)
    low, high = (
        float(graph.constant(node, place)) if graph.has(node, place) else how.get(name)
        for place, name in ((1, "min"), (2, "max"))
    )
    return graph.call(torch.clamp, graph.value(node, 0), min=low, max=high)


def _simple(make: Callable[[Mapping[str, Any]], nn.Module], **missing: Any) -> Operator:
    return lambda graph, node: graph.layer(node, make(graph.settings(node, **missing)))


def _both(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda graph, node: graph.call(function, graph.value(node, 0), graph.value(node, 1))


OPERATORS: dict[str, Operator] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batchnorm,
    "Relu": _simple(lambda how: nn.ReLU()),
    "LeakyRelu": _simple(lambda how: nn.LeakyReLU(how["alpha"]), alpha=0.01),
    "Elu": _simple(lambda how: nn.ELU(how["alpha"]), alpha=1.0),
    "Sigmoid": _simple(lambda how: nn.Sigmoid()),
    "Tanh": _simple(lambda how: nn.Tanh()),
    "Softplus": _simple(lambda how: nn.Softplus()),
    "HardSwish": _simple(lambda how: nn.Hardswish()),
    "Gelu": _simple(lambda how: nn.GELU(how["approximate"].decode()), approximate=b"none"),
    "Softmax": _simple(lambda how: nn.Softmax(how["axis"]), axis=-1),
    "LogSoftmax": _simple(lambda how: nn.LogSoftmax(how["axis"]), axis=-1),
    "Flatten": _simple(lambda how: nn.Flatten(how["axis"]), axis=1),
    "GlobalAveragePool": _simple(lambda how: nn.AdaptiveAvgPool2d(1)),
    "MaxPool": _pool(nn.MaxPool2d, dilation="dilations"),
    "AveragePool": _pool(nn.AvgPool2d, count_include_pad="count_include_pad"),
    "ReduceMean": _mean,
    "Reshape": _reshape,
    "Transpose": lambda graph, node: graph.call(
        torch.permute, graph.value(node, 0), tuple(graph.settings(node)["perm"])
    ),
    "Concat": lambda graph, node: graph.call(
        torch.cat,
        [graph.value(node, i) for i in range(len(node.input))],
        dim=graph.settings(node)["axis"],
    ),
    "Pad": _pad,
    "Slice": _slice,
    "Clip": _clip,
    "Add": _both(operator.add),
    "Sub": _both(operator.sub),
    "Mul": _both(operator.mul),
    "Div": _both(operator.truediv),
    "Identity": lambda graph, node: graph.value(node, 0),
    "Dropout": lambda graph, node: graph.value(node, 0),
}

__all__ = ["OPERATORS"]
