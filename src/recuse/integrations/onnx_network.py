"""ONNX files as networks that can be attacked: each node a layer of PyTorch (extra ``onnx``).

ONNX Runtime gives no gradients, so that the graph is built anew; that both answer the same is
checked each time a file is read.
"""

import importlib
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 (its name everywhere)

from recuse.errors import ConfigError, DataError
from recuse.integrations.onnx import onnx_runtime
from recuse.models.normalize import normalized
from recuse.random import generator
from recuse.values import Call, Number, parse_value

TOLERANCE = 1e-4
ASSUMED_SIDE = 32  # of images, to compare on, where a file leaves their size open
_MATRIX = 2


def load_onnx(text: str) -> tuple[nn.Module, None]:
    """A network from an ONNX file; it has no card.

    Args:
        text: ``net.onnx`` for a file that subtracts a mean and divides by a standard deviation
            itself; ``net.onnx(mean=[0.5], std=[0.2])`` for another, with empty lists for one that
            takes images in [0, 1] as they are.

    Returns:
        The network in eval mode on the CPU: images in [0, 1] to its output, or to a dict of all
        where there are several.

    Raises:
        ConfigError: The extra is not installed, the normalisation is not known, or a node that is
            not known here.
        DataError: No such file, a damaged one, or one that ONNX Runtime answers otherwise.
    """
    file, bracket, _ = text.partition("(")
    given = _given(text[len(file) :], text) if bracket else None
    network, normalises = _read(Path(file))
    if given is None and not normalises:
        raise ConfigError(
            f"onnx:{file} does not say how its inputs are normalised: write "
            f'"onnx:{file}(mean=[...], std=[...])" in units of [0, 1], with empty lists where it '
            "takes images in [0, 1] as they are"
        )
    if given is not None and given[0] and normalises:
        raise ConfigError(f"onnx:{file} normalises its inputs itself; leave out mean and std")
    return normalized(network, *(given or ((), ()))).eval(), None


def _given(settings: str, text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    written = parse_value(f"onnx{settings}")
    found = dict(written.settings) if isinstance(written, Call) else {}
    lists = [found.pop(name, None) for name in ("mean", "std")]
    numbers = [
        tuple(float(n.value) for n in entry if isinstance(n, Number))
        for entry in lists
        if isinstance(entry, tuple)
    ]
    if found or len(numbers) < len(lists):
        raise ConfigError(f"onnx:{text} takes mean=[...] and std=[...], both, and nothing else")
    return numbers[0], numbers[1]


def _read(path: Path) -> tuple[nn.Module, bool]:
    """The network of a file as it is, and whether it normalises images in [0, 1]."""
    session_of = onnx_runtime()
    onnx: Any = importlib.import_module("onnx")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path))
        onnx.checker.check_model(model)
        session = session_of(str(path))
    except Exception as error:  # the libraries' errors share no class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is truncated or not an ONNX file ({reason}); get it again"
        ) from error
    graph = _Graph(onnx, model.graph, path)
    network = graph.module()
    _compare(network, session, graph.input_shape, path)
    return network, graph.normalises()


def _compare(network: nn.Module, session: Any, shape: list[int], path: Path) -> None:
    """Both must answer the same on random images."""
    images = torch.rand(shape, generator=generator("onnx-network"))
    (given,) = session.get_inputs()
    expected = session.run(None, {given.name: images.numpy()})
    with torch.no_grad():
        outputs = network(images)
    found = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    for ours, theirs in zip(found, map(torch.from_numpy, expected), strict=True):
        error = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
        if not error <= TOLERANCE * max(1.0, float(theirs.abs().max())):
            raise DataError(
                f"{path} is read as a network that answers otherwise than ONNX Runtime (by "
                f"{error:.3g}); give the network as module:function"
            )


class _Graph:
    """A graph of ONNX on its way to a module."""

    def __init__(self, onnx: Any, graph: Any, path: Path) -> None:
        self.onnx, self.path, self.nodes = onnx, path, list(graph.node)
        self.constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
        inputs = [i for i in graph.input if i.name not in self.constants]
        if len(inputs) != 1:
            raise ConfigError(f"{path} takes {len(inputs)} inputs, but a classifier takes images")
        self.input, self.outputs = inputs[0].name, [o.name for o in graph.output]
        sizes = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
        self.fixed = sizes[0] if sizes else 0
        self.input_shape = [self.fixed or 2, *(s or ASSUMED_SIDE for s in sizes[1:])]
        self.ranks = {
            info.name: len(info.type.tensor_type.shape.dim)
            for info in (*graph.value_info, *graph.input, *graph.output)
        }
        self.root, self.fx = nn.Module(), fx.Graph()
        self.values: dict[str, fx.Node] = {}

    def module(self) -> nn.Module:
        """The module whose passes are the graph's."""
        self.values[self.input] = self.fx.placeholder("images")
        for node in self.nodes:
            if node.op_type == "Constant":
                (value,) = node.attribute
                self.constants[node.output[0]] = self.onnx.numpy_helper.to_array(value.t)
            elif node.op_type in OPERATORS:
                self.values[node.output[0]] = OPERATORS[node.op_type](self, node)
            else:
                raise ConfigError(
                    f"{self.path} has a node {node.op_type}, which is not known here; give the "
                    f"network as module:function (known: {', '.join(OPERATORS)})"
                )
        found = {name: self.values[name] for name in self.outputs}
        self.fx.output(found if len(found) > 1 else found[self.outputs[0]])
        return fx.GraphModule(self.root, self.fx).eval().requires_grad_(False)

    def normalises(self) -> bool:
        """Whether the input is first shifted by a mean in [0, 1] and then scaled, by constants."""
        wanted, name = ("Sub", ("Div", "Mul")), self.input
        for kinds in wanted:
            readers = [node for node in self.nodes if name in node.input]
            if len(readers) != 1 or readers[0].op_type not in kinds:
                return False
            name = readers[0].output[0]
            other = self.constants.get(readers[0].input[1])
            if other is None or (kinds == "Sub" and not (other >= 0).all() & (other <= 1).all()):
                return False
        return True

    def value(self, node: Any, place: int) -> fx.Node:
        """An input as a node; a constant becomes a buffer."""
        name = node.input[place]
        if name not in self.values:
            buffer = f"constant{len(self.values)}"
            self.root.register_buffer(buffer, torch.tensor(self.constant(node, place)))
            self.values[name] = self.fx.get_attr(buffer)
        return self.values[name]

    def constant(self, node: Any, place: int, missing: Any = None) -> Any:
        """An input that must not depend on the images, as an array."""
        name = node.input[place] if place < len(node.input) else ""
        if not name and missing is not None:
            return missing
        if name not in self.constants:
            raise ConfigError(
                f"{self.path}: input {place} of {node.op_type} is not constant, which is not known "
                "here; give the network as module:function"
            )
        return self.constants[name]

    def has(self, node: Any, place: int) -> bool:
        """Whether an optional input is given."""
        return place < len(node.input) and bool(node.input[place])

    def layer(self, node: Any, layer: nn.Module, x: fx.Node | None = None) -> fx.Node:
        """A call of a layer on the first input, or on ``x``."""
        name = f"layer{len(list(self.root.children()))}"
        self.root.add_module(name, layer)
        return self.fx.call_module(name, (self.value(node, 0) if x is None else x,))

    def call(self, function: Callable[..., Any], *arguments: Any, **settings: Any) -> fx.Node:
        """A call of a function."""
        return self.fx.call_function(function, arguments, settings)

    def settings(self, node: Any, **missing: Any) -> dict[str, Any]:
        """The attributes of a node over what they are where they are left out."""
        read = self.onnx.helper.get_attribute_value
        found = {**missing, **{a.name: read(a) for a in node.attribute}}
        padding = found.get("auto_pad", b"NOTSET")
        if padding not in (b"NOTSET", b"VALID"):
            raise ConfigError(f"{self.path}: {node.op_type} with auto_pad is not known here")
        return found


def _conv(graph: _Graph, node: Any) -> fx.Node:
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


def _filled(layer: nn.Module, weight: Any, graph: _Graph, node: Any) -> nn.Module:
    state = {"weight": torch.tensor(weight)}
    if graph.has(node, 2):
        state["bias"] = torch.tensor(graph.constant(node, 2)).flatten()
    layer.load_state_dict(state)
    return layer


def _gemm(graph: _Graph, node: Any) -> fx.Node:
    how = graph.settings(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    if (how["alpha"], how["beta"], how["transA"]) != (1.0, 1.0, 0):
        raise ConfigError(f"{graph.path}: Gemm with factors is not known here")
    weight = graph.constant(node, 1)
    weight = weight if how["transB"] else weight.T.copy()
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=graph.has(node, 2))
    return graph.layer(node, _filled(linear, weight, graph, node))


def _matmul(graph: _Graph, node: Any) -> fx.Node:
    weight = graph.constants.get(node.input[1])
    if weight is None or weight.ndim != _MATRIX:
        return graph.call(torch.matmul, graph.value(node, 0), graph.value(node, 1))
    linear = nn.Linear(weight.shape[0], weight.shape[1], bias=False)
    return graph.layer(node, _filled(linear, weight.T.copy(), graph, node))


def _batchnorm(graph: _Graph, node: Any) -> fx.Node:
    how = graph.settings(node, epsilon=1e-5)
    parts = [torch.tensor(graph.constant(node, place)) for place in range(1, 5)]
    flat = graph.ranks.get(node.input[0]) == _MATRIX
    norm = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(len(parts[0]), eps=how["epsilon"])
    names = ("weight", "bias", "running_mean", "running_var")
    norm.load_state_dict(dict(zip(names, parts, strict=True)), strict=False)
    return graph.layer(node, norm)


def _pool(kind: type[nn.Module], **own: Any) -> "Operator":
    def pool(graph: _Graph, node: Any) -> fx.Node:
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


def _reshape(graph: _Graph, node: Any) -> fx.Node:
    x, shape = graph.value(node, 0), [int(n) for n in graph.constant(node, 1)]
    if len(shape) == _MATRIX:
        return graph.layer(node, nn.Flatten())
    rows = graph.call(getattr, x, "shape")
    first = graph.call(operator.getitem, rows, 0)
    return graph.call(torch.reshape, x, (first, *shape[1:]))


def _axes(graph: _Graph, node: Any) -> list[int]:
    """Axes as an attribute, or in later versions as an input."""
    found = graph.settings(node).get("axes")
    return [int(a) for a in (graph.constant(node, 1) if found is None else found)]


def _mean(graph: _Graph, node: Any) -> fx.Node:
    keep = bool(graph.settings(node, keepdims=1)["keepdims"])
    return graph.call(torch.mean, graph.value(node, 0), dim=_axes(graph, node), keepdim=keep)


def _pad(graph: _Graph, node: Any) -> fx.Node:
    how = graph.settings(node, mode=b"constant")
    pads = [int(n) for n in (how["pads"] if "pads" in how else graph.constant(node, 1))]
    if how["mode"] != b"constant" or graph.has(node, 3):
        raise ConfigError(f"{graph.path}: Pad of this mode is not known here")
    filled = float(graph.constant(node, 2)) if graph.has(node, 2) else 0.0
    half = len(pads) // 2
    torch_order = [n for i in reversed(range(half)) for n in (pads[i], pads[half + i])]
    return graph.call(F.pad, graph.value(node, 0), torch_order, "constant", filled)


def _slice(graph: _Graph, node: Any) -> fx.Node:
    starts, ends = (graph.constant(node, place) for place in (1, 2))
    axes = graph.constant(node, 3, np.arange(len(starts)))
    steps = graph.constant(node, 4, np.ones(len(starts), dtype=np.int64))
    rank = max(int(a) for a in axes) + 1
    cuts = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cuts[int(axis)] = slice(int(start), int(end), int(step))
    return graph.call(operator.getitem, graph.value(node, 0), tuple(cuts))


def _clip(graph: _Graph, node: Any) -> fx.Node:
    how = graph.settings(node)
    low, high = (
        float(graph.constant(node, place)) if graph.has(node, place) else how.get(name)
        for place, name in ((1, "min"), (2, "max"))
    )
    return graph.call(torch.clamp, graph.value(node, 0), min=low, max=high)


Operator = Callable[[_Graph, Any], fx.Node]


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

__all__ = ["OPERATORS", "load_onnx"]
