"""The graph of a network whose every value stays what it was computed as.

Bounds are kept per value, so they are right only where no value changes later. Networks may write
into memory, though: ``nn.ReLU(inplace=True)``, ``out += shortcut``. Such writes are recorded as
what they are, refused where something reads the overwritten memory again, and replaced by their
pure forms elsewhere.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
from torch import nn
from torch.nn import functional

from recuse.errors import CertificationError

Node = torch.fx.Node

# Writes into their first argument, and what computes the same value without writing.
PURE_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    torch.relu_: torch.relu,
}
PURE_METHODS = {"relu_": "relu"}
# What returns new memory; everything else may return (a view of) its first argument.
FRESH: frozenset[Any] = frozenset(
    {
        nn.Linear,
        nn.Conv2d,
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.ReLU,
        nn.SiLU,
        nn.MaxPool2d,
        nn.AvgPool2d,
        nn.AdaptiveMaxPool2d,
        nn.AdaptiveAvgPool2d,
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        torch.add,
        torch.sub,
        torch.mul,
        torch.div,
        torch.relu,
        torch.mean,
        functional.relu,
        functional.silu,
        functional.pad,
        functional.max_pool2d,
        functional.avg_pool2d,
        functional.adaptive_avg_pool2d,
        "mean",
        "relu",
    }
)
# Hooks defined here make the weights of a layer or count passes; what another does is unknown.
HARMLESS_HOOKS = ("torch.nn.utils.", "recuse.composition.cost")


def trace(model: nn.Module) -> torch.fx.GraphModule:
    """The graph of a network, sharing its layers; none of its steps overwrites a value.

    Layers of the graph may still be built with ``inplace=True``: their rules must not run them.

    Raises:
        CertificationError: The network is in training mode, its Python code cannot be traced, it
            takes more than one input, it reads memory that it has overwritten, or hooks may
            change what a layer computes.
    """
    if any(module.training for module in model.modules()):
        raise CertificationError(
            "the model is in training mode, where its answers depend on the batch; call "
            "model.eval() before certifying"
        )
    try:
        graph = torch.fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # tracing runs the network's own code, which may fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CertificationError(
            f"interval bounds need a network that torch.fx can trace, and this one cannot be: "
            f"{reason}"
        ) from error
    _refuse_second_input(graph)
    _refuse_altered_layers(graph, model)
    _refuse_overwritten(graph)
    _make_pure(graph)
    return graph


def output_node(graph: torch.fx.GraphModule) -> Node:
    """The node whose value the network returns.

    Raises:
        CertificationError: It returns something other than one tensor.
    """
    returned = next(node for node in reversed(graph.graph.nodes) if node.op == "output").args[0]
    if not isinstance(returned, Node):
        raise CertificationError("bounds need a network that returns one tensor of logits")
    return returned


class _Value(torch.fx.Proxy):
    """A traced value; ``a += b`` is recorded as a write, where torch.fx records a sum."""

    def __iadd__(self, other: Any) -> Any:
        return self._written(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._written(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._written(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._written(operator.itruediv, other)

    def _written(self, function: Callable[..., Any], other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _Tracer(torch.fx.Tracer):
    def proxy(self, node: Node) -> torch.fx.Proxy:
        return _Value(node, self)


def _refuse_second_input(graph: torch.fx.GraphModule) -> None:
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    read = [str(node.target) for node in inputs[1:] if node.users]
    if read:
        raise CertificationError(
            f"the network reads a second input, {read[0]!r}, and a graph does not know its value; "
            "wrap the network in a module whose forward takes the images only"
        )


def _refuse_altered_layers(graph: torch.fx.GraphModule, model: nn.Module) -> None:
    # The trace neither enters the layers of torch nor calls the network itself, only its forward.
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    for name, layer in [("", model), *((name, graph.get_submodule(name)) for name in called)]:
        hooks = (*layer._forward_pre_hooks.values(), *layer._forward_hooks.values())
        origins = [str(getattr(hook, "__module__", "")) for hook in hooks]
        foreign = [origin for origin in origins if not origin.startswith(HARMLESS_HOOKS)]
        if foreign or "forward" in vars(layer):
            what = f"layer {name!r}" if name else "the network"
            raise CertificationError(
                f"{what} has a forward hook or a replaced forward, which may change what it "
                "computes without the bounds knowing; remove it before certifying"
            )


def _refuse_overwritten(graph: torch.fx.GraphModule) -> None:
    owner: dict[Node, Node] = {}  # the value that first held the memory of each value
    overwritten: dict[Node, Node] = {}
    for node in graph.graph.nodes:
        sources = node.all_input_nodes
        for source in sources:
            if source in overwritten:
                raise CertificationError(
                    f"the network overwrites a value in place (at {overwritten[source].name!r}) "
                    f"and reads it again (at {node.name!r}), which bounds cannot follow; write "
                    "that step out of place (inplace=False)"
                )
        writes = _writes(graph, node)
        owner[node] = owner[sources[0]] if sources and (writes or not _fresh(graph, node)) else node
        if "out" in node.kwargs:
            raise CertificationError(
                f"the network writes into a tensor of its choice (out= at {node.name!r}), which "
                "bounds cannot follow; assign the result instead"
            )
        if not writes:
            continue
        if owner[node].op in ("placeholder", "get_attr"):
            raise CertificationError(
                f"the network writes into its input or its own tensors (at {node.name!r}), so that "
                "it does not answer twice alike; write that step out of place (inplace=False)"
            )
        overwritten |= {n: node for n in owner if owner[n] is owner[node] and n is not node}


def _writes(graph: torch.fx.GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(graph.get_submodule(str(node.target)), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = getattr(node.target, "__name__", str(node.target))
    named = name.endswith("_") and not name.endswith("__")
    return named or node.target in PURE_FUNCTIONS or bool(node.kwargs.get("inplace", False))


def _fresh(graph: torch.fx.GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))) in FRESH
    return node.target in FRESH


def _make_pure(graph: torch.fx.GraphModule) -> None:
    for node in graph.graph.nodes:
        if node.op == "call_function":
            node.target = PURE_FUNCTIONS.get(node.target, node.target)
        elif node.op == "call_method":
            node.target = PURE_METHODS.get(node.target, node.target)
        node.kwargs = {name: v for name, v in node.kwargs.items() if name != "inplace"}
    graph.recompile()


__all__ = ["output_node", "trace"]
