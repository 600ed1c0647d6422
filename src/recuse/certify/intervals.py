"""Interval arithmetic through a network: a box of inputs in, a box of outputs out.

The network is traced once (:mod:`recuse.certify.tracing`) and its graph is run on pairs (lower,
upper). Every rule is sound for every input of the box, up to rounding of the arithmetic (use a
float64 model where that matters), and leaves the boxes that it is given as they are. What has no
rule is refused: a bound is never guessed.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from recuse.certify.tracing import output_node
from recuse.errors import CertificationError
from recuse.modes import full_products

# The smallest value of x * sigmoid(x), rounded down, and where it is taken.
SILU_MINIMUM, SILU_ARGMIN = -0.27846455, -1.27846454


class Box(NamedTuple):
    """Elementwise bounds of a tensor: ``lower <= value <= upper``."""

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        """Middle of the box."""
        return (self.upper + self.lower) / 2

    @property
    def spread(self) -> Tensor:
        """Half the width of the box."""
        return (self.upper - self.lower) / 2


def _around(centre: Tensor, spread: Tensor) -> Box:
    return Box(centre - spread, centre + spread)


def _each_end(function: Callable[..., Any]) -> Callable[..., Box]:
    """The rule of a function that never decreases when an input grows."""

    def rule(box: Box, *args: Any, **kwargs: Any) -> Box:
        if not isinstance(box, Box) or _any_box(args, kwargs):
            raise _unknown(f"these arguments of function {function.__name__!r}")
        return Box(function(box.lower, *args, **kwargs), function(box.upper, *args, **kwargs))

    return rule


def _linear(layer: nn.Linear, box: Box) -> Box:
    return _around(layer(box.centre), functional.linear(box.spread, layer.weight.abs()))


def _convolution(layer: nn.Conv2d, box: Box) -> Box:
    if layer.padding_mode != "zeros":
        raise CertificationError(
            f"interval bounds do not know convolutions with {layer.padding_mode!r} padding; use "
            "zero padding"
        )
    spread = functional.conv2d(
        box.spread,
        layer.weight.abs(),
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )
    return _around(layer(box.centre), spread)


def _batch_norm(layer: nn.Module, box: Box) -> Box:
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    if layer.running_var is None:
        raise CertificationError(
            "interval bounds need batch norm with running statistics; this one normalises by the "
            "batch, so that its answer for one image depends on the others"
        )
    scale = torch.rsqrt(layer.running_var + layer.eps)
    scale = (scale if layer.weight is None else scale * layer.weight).abs()
    shape = (1, -1, *([1] * (box.lower.dim() - 2)))
    return _around(layer(box.centre), box.spread * scale.view(shape))


def _silu(box: Box) -> Box:
    low, high = functional.silu(box.lower), functional.silu(box.upper)
    dips = (box.lower <= SILU_ARGMIN) & (box.upper >= SILU_ARGMIN)
    lowest = torch.minimum(low, high).masked_fill(dips, SILU_MINIMUM)
    return Box(lowest, torch.maximum(low, high))


def _add(a: Any, b: Any) -> Box:
    a, b = _box(a), _box(b)
    return Box(a.lower + b.lower, a.upper + b.upper)


def _subtract(a: Any, b: Any) -> Box:
    a, b = _box(a), _box(b)
    return Box(a.lower - b.upper, a.upper - b.lower)


def _multiply(a: Any, b: Any) -> Box:
    a, b = _box(a), _box(b)
    return _hull([x * y for x in a for y in b])


def _divide(a: Any, b: Any) -> Box:
    if isinstance(b, Box):
        raise CertificationError(
            "interval bounds do not know a division by something that depends on the input"
        )
    return _hull([end / b for end in a])


def _hull(corners: list[Tensor]) -> Box:
    low, high = corners[0], corners[0]
    for corner in corners[1:]:
        low, high = torch.minimum(low, corner), torch.maximum(high, corner)
    return Box(low, high)


def _box(value: Any) -> Box:
    # Python numbers stay what they are: as tensors they would be rounded to float32.
    return value if isinstance(value, Box) else Box(value, value)


def _any_box(args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any]) -> bool:
    return any(
        isinstance(a, Box) or (isinstance(a, tuple | list) and _any_box(a, {}))
        for a in (*args, *kwargs.values())
    )


def _module_each_end(layer: nn.Module, box: Box) -> Box:
    return Box(layer(box.lower), layer(box.upper))


MODULES: dict[type[nn.Module], Callable[[Any, Box], Box]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    # Not by calling the layer, which may be built to overwrite its input.
    nn.ReLU: lambda _, box: Box(box.lower.relu(), box.upper.relu()),
    nn.SiLU: lambda _, box: _silu(box),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout2d), lambda _, box: box),
    **dict.fromkeys(
        (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten),
        _module_each_end,
    ),
}
FUNCTIONS: dict[Callable[..., Any], Callable[..., Box]] = {
    operator.add: _add,
    torch.add: _add,
    operator.sub: _subtract,
    torch.sub: _subtract,
    operator.mul: _multiply,
    torch.mul: _multiply,
    operator.truediv: _divide,
    torch.div: _divide,
    functional.silu: _silu,
    **{
        function: _each_end(function)
        for function in (
            operator.getitem,
            torch.relu,
            torch.flatten,
            torch.mean,
            functional.relu,
            functional.pad,
            functional.max_pool2d,
            functional.avg_pool2d,
            functional.adaptive_avg_pool2d,
        )
    },
}
METHODS = frozenset({"flatten", "mean", "relu", "view", "reshape", "contiguous"})


def _call_module(graph: torch.fx.GraphModule, name: str, *args: Any, **kwargs: Any) -> Any:
    layer = graph.get_submodule(name)
    if not _any_box(args, kwargs):
        return layer(*args, **kwargs)
    rule = MODULES.get(type(layer))
    if rule is None or len(args) > 1 or kwargs:
        raise _unknown(f"layer {name!r} of type {type(layer).__name__}")
    return rule(layer, args[0])


def _call_function(
    _: torch.fx.GraphModule, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    name = getattr(function, "__name__", function)
    if not _any_box(args, kwargs):
        return function(*args, **kwargs)
    rule = FUNCTIONS.get(function)
    if rule is None:
        raise _unknown(f"function {name!r}")
    try:
        inspect.signature(rule).bind(*args, **kwargs)
    except TypeError as error:
        raise _unknown(f"these arguments of function {name!r}") from error
    return rule(*args, **kwargs)


def _call_method(_: torch.fx.GraphModule, name: str, first: Any, *args: Any, **kwargs: Any) -> Any:
    if not _any_box((first, *args), kwargs):
        return getattr(first, name)(*args, **kwargs)
    if name not in METHODS or _any_box(args, kwargs):
        raise _unknown(f"tensor method {name!r}")
    return Box(*(getattr(end, name)(*args, **kwargs) for end in first))


STEPS: dict[str, Callable[..., Any]] = {
    "call_module": _call_module,
    "call_function": _call_function,
    "call_method": _call_method,
    "get_attr": lambda graph, name: operator.attrgetter(name)(graph),
}


def _unknown(what: str) -> CertificationError:
    return CertificationError(
        f"interval bounds have no rule for {what}; they know convolutions, linear layers, ReLU, "
        "SiLU, pooling, batch norm in eval mode, residual additions and normalisation"
    )


def propagate(graph: torch.fx.GraphModule, box: Box) -> Box:
    """Bounds of the outputs of a traced network over a box of inputs; differentiable.

    Args:
        graph: From :func:`trace`.
        box: Bounds of a batch of inputs.

    Returns:
        Bounds of every output.

    Raises:
        CertificationError: The network contains something without a rule.
    """
    result: Box = propagate_all(graph, box)[output_node(graph)]
    return result


@full_products()
def propagate_all(graph: torch.fx.GraphModule, box: Box) -> dict[torch.fx.Node, Any]:
    """Bounds of every intermediate value; values that do not depend on the input stay plain."""
    values: dict[torch.fx.Node, Any] = {}
    for node in graph.graph.nodes:
        args = torch.fx.node.map_arg(node.args, values.__getitem__)
        kwargs = torch.fx.node.map_arg(node.kwargs, values.__getitem__)
        if node.op == "placeholder":
            values[node] = box
        elif node.op != "output":
            values[node] = STEPS[node.op](graph, node.target, *args, **kwargs)
            _check(node.name, values[node], len(box.lower))
    return values


def _check(name: str, value: Any, rows: int) -> None:
    for end in value if isinstance(value, Box) else ():
        if not isinstance(end, Tensor) or not end.is_floating_point():
            raise _unknown(f"step {name!r}, which returns something other than one real tensor")
        if end.dim() == 0 or len(end) != rows:
            raise CertificationError(
                f"step {name!r} of the network mixes the inputs of a batch, so that its answer for "
                "one depends on the others; bounds need an answer per input"
            )


__all__ = [
    "FUNCTIONS",
    "METHODS",
    "MODULES",
    "Box",
    "propagate",
    "propagate_all",
]
