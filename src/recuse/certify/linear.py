"""Linear bounds of a traced network's values over a box of inputs.

Interval bounds forget how neurons move together. Here a linear function of the outputs is pulled
back through the network: affine layers exactly, each ReLU by a line below or above it, until it
is a linear function of the input, whose minimum over a box is known. The lines need bounds of
every ReLU's input, which are found the same way, first layer first.

Source: Zhang et al., NeurIPS 2018 (CROWN); Wong and Kolter, ICML 2018.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from recuse.certify.intervals import Box, propagate_all
from recuse.certify.windows import (
    POINTWISE_FUNCTIONS,
    POINTWISE_MODULES,
    RELU_FUNCTIONS,
    RELU_MODULES,
    SUMS,
    Node,
    Window,
    windows,
)
from recuse.errors import CertificationError
from recuse.modes import full_products

AFFINE_MODULES = (
    *POINTWISE_MODULES,
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
)
AFFINE_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *POINTWISE_FUNCTIONS,
    operator.getitem,
    torch.flatten,
    functional.pad,
    functional.avg_pool2d,
    functional.adaptive_avg_pool2d,
)


@dataclass(eq=False)
class LinearBounds:
    """Bounds of the values of a traced network over a box of inputs.

    Attributes:
        graph: The network.
        boxes: Bounds per node; those of ReLU inputs are tightened when made by :meth:`of`.
        rows: Most linear functions pulled back at a time.
    """

    graph: torch.fx.GraphModule
    boxes: dict[Node, Any]
    rows: int
    modules: dict[str, nn.Module] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: torch.fx.GraphModule, box: Box, rows: int) -> "LinearBounds":
        """Interval bounds everywhere, then linear bounds of every ReLU input, in order.

        Raises:
            CertificationError: The network contains something without a rule.
        """
        bounds = cls(graph, propagate_all(graph, box), rows, dict(graph.named_modules()))
        behind_relu = False
        for node in graph.graph.nodes:
            if bounds.is_relu(node):
                if behind_relu:
                    bounds.tighten(node.args[0])
                behind_relu = True
        return bounds

    def is_relu(self, node: Node) -> bool:
        """Whether a node is a ReLU of something that depends on the input."""
        if not node.args or not isinstance(self.boxes.get(node), Box):
            return False
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], RELU_MODULES)
        return node.target in (RELU_FUNCTIONS if node.op == "call_function" else ("relu",))

    def tighten(self, node: Node) -> None:
        """Replace the bounds of a node by linear ones where they are tighter and matter.

        That is for each image its own neurons: those of others that it has settled cost as much.
        """
        box: Box = self.boxes[node]
        tight = Box(box.lower.clone(), box.upper.clone())
        parts = windows(node, self.boxes, self.modules)
        for image, (low, high) in enumerate(zip(tight.lower, tight.upper, strict=True)):
            own = self.of_image(image)
            for window in parts:
                own.within(window).tighten_tile(node, window, low, high)
        self.boxes[node] = tight

    def tighten_tile(self, node: Node, window: Window, low: Tensor, high: Tensor) -> None:
        """Tighten the bounds of one image's neurons in a window, in place.

        Args:
            node: Whose value.
            window: With the bounds of which :meth:`within` made this.
            low: Lower bounds of the node's value, without the batch.
            high: Upper bounds.
        """
        open_ = (low < 0) & (high > 0)
        first = low.new_zeros(low.ndim, dtype=torch.int64)
        shift = first.clone()
        for axis, (start, stop) in enumerate(window.tile, low.ndim - len(window.tile)):
            open_ = open_.narrow(axis, start, stop - start)
            first[axis] = start
            shift[axis] = start - window.seen[node][axis - 1][0]
        places, most = open_.nonzero(), max(self.rows // 2, 1)
        shape = self.boxes[node].lower.shape[1:]
        for part in torch.split(places, most) if len(places) else ():
            rows = low.new_zeros(len(part), *shape)
            rows[(torch.arange(len(part), device=low.device), *(part + shift).T)] = 1
            lowest, minus_highest = self.pull_back(node, torch.cat([rows, -rows])[None])[0].chunk(2)
            where = tuple((part + first).T)
            low[where] = torch.maximum(low[where], lowest)
            high[where] = torch.minimum(high[where], -minus_highest)

    def within(self, window: Window) -> "LinearBounds":
        """The bounds of what a window sees."""
        boxes = dict(self.boxes)
        for node, ((top, bottom), (left, right)) in window.seen.items():
            boxes[node] = Box(*(v[..., top:bottom, left:right] for v in self.boxes[node]))
        return replace(self, boxes=boxes)

    def of_image(self, image: int) -> "LinearBounds":
        """The bounds of one image of the batch."""
        row = slice(image, image + 1)
        boxes = {
            node: Box(box.lower[row], box.upper[row]) if isinstance(box, Box) else box
            for node, box in self.boxes.items()
        }
        return replace(self, boxes=boxes)

    @full_products()
    def pull_back(self, node: Node, rows: Tensor) -> Tensor:
        """Lower bounds over the input box of linear functions of a node's value.

        Args:
            node: Whose value.
            rows: Coefficients, shape ``batch functions`` and then the shape of the value.

        Returns:
            Shape ``batch functions``.
        """
        pending, constant = {node: rows}, rows.new_zeros(rows.shape[:2])
        for current in reversed(list(self.graph.graph.nodes)):
            if (weights := pending.pop(current, None)) is None:
                continue
            if current.op == "placeholder":
                return constant + self._minimum(weights, self.boxes[current])
            for source, part, offset in self._step(current, weights):
                pending[source] = pending[source] + part if source in pending else part
                constant = constant + offset
        return constant

    @staticmethod
    def _minimum(weights: Tensor, box: Box) -> Tensor:
        centre = (weights * box.centre[:, None]).flatten(2).sum(dim=2)
        return centre - (weights.abs() * box.spread[:, None]).flatten(2).sum(dim=2)

    def _step(self, node: Node, weights: Tensor) -> list[tuple[Node, Tensor, Tensor]]:
        sources = [a for a in node.args if isinstance(a, Node) and isinstance(self.boxes[a], Box)]
        if self.is_relu(node):
            return [(sources[0], *_through_relu(weights, self.boxes[sources[0]]))]
        if not self._is_affine(node, len(sources)):
            raise CertificationError(
                f"linear bounds have no rule for {node.op.removeprefix('call_')} "
                f"{node.target!r}; use interval bounds for this network"
            )
        if len(sources) == 2:
            nothing = weights.new_zeros(())
            sign = 1 if node.target in SUMS else -1
            return [(sources[0], weights, nothing), (sources[1], sign * weights, nothing)]
        return [(sources[0], *self._through_affine(node, sources[0], weights))]

    def _is_affine(self, node: Node, sources: int) -> bool:
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], AFFINE_MODULES)
        if node.op == "call_method":
            return node.target in ("flatten", "view", "reshape", "contiguous")
        two = (*SUMS, operator.sub, torch.sub)
        return node.target in (two if sources == 2 else AFFINE_FUNCTIONS)

    def _through_affine(self, node: Node, source: Node, weights: Tensor) -> tuple[Tensor, Tensor]:
        # An affine step is its value at 0 plus its derivative, which autograd knows.
        shape = self.boxes[source].lower.shape[1:]
        with torch.enable_grad():
            zero = weights.new_zeros((weights.shape[0] * weights.shape[1], *shape))
            zero.requires_grad_()
            value = self._run(node, source, zero)
            (back,) = torch.autograd.grad(value, zero, weights.flatten(0, 1))
        offset = (value.detach() * weights.flatten(0, 1)).flatten(1).sum(dim=1)
        return back.view(*weights.shape[:2], *shape), offset.view(weights.shape[:2])

    def _run(self, node: Node, source: Node, value: Tensor) -> Tensor:
        def filled(arg: Node) -> Any:
            return value if arg is source else self.boxes[arg]

        args = torch.fx.node.map_arg(node.args, filled)
        kwargs = torch.fx.node.map_arg(node.kwargs, filled)
        if node.op == "call_module":
            result = self.modules[str(node.target)](*args, **kwargs)
        elif node.op == "call_method":
            result = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            assert callable(node.target)
            result = node.target(*args, **kwargs)
        assert isinstance(result, Tensor)
        return result


def _through_relu(weights: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Lines below and above each ReLU on its input's interval, chosen by the sign of its weight."""
    low, high = box.lower, box.upper
    unsettled = (low < 0) & (high > 0)
    steep = high / (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    active = (low >= 0).to(low.dtype)
    above = torch.where(unsettled, steep, active)
    below = torch.where(unsettled, (high > -low).to(low.dtype), active)
    lift = torch.where(unsettled, -low * steep, torch.zeros_like(low))
    positive, negative = weights.clamp_min(0), weights.clamp_max(0)
    offset = (negative * lift[:, None]).flatten(2).sum(dim=2)
    return positive * below[:, None] + negative * above[:, None], offset


__all__ = ["LinearBounds"]
