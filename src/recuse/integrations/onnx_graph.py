"""A graph of ONNX on its way to a module of PyTorch: its constants, values and layers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from recuse.errors import ConfigError

ASSUMED_SIDE = 32  # of images, to compare on, where a file leaves their size open


class OnnxGraph:
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

    def module(self, operators: "Mapping[str, Operator]") -> nn.Module:
        """The module whose passes are the graph's.

        Raises:
            ConfigError: A node that is none of these operators.
        """
        self.values[self.input] = self.fx.placeholder("images")
        for node in self.nodes:
            if node.op_type == "Constant":
                (value,) = node.attribute
                self.constants[node.output[0]] = self.onnx.numpy_helper.to_array(value.t)
            elif node.op_type in operators:
                self.values[node.output[0]] = operators[node.op_type](self, node)
            else:
                raise ConfigError(
                    f"{self.path} has a node {node.op_type}, which is not known here; give the "
                    f"network as module:function (known: {', '.join(operators)})"
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


Operator = Callable[[OnnxGraph, Any], fx.Node]
"""Adds what a node of ONNX computes to the graph."""

__all__ = ["OnnxGraph", "Operator"]
