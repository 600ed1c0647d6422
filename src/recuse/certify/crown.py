"""Linear bounds propagated backwards: tighter Linf certificates for networks of ReLU layers.

Interval bounds forget how neurons move together. Here a linear function of the outputs is pulled
back through the network: affine layers exactly, each ReLU by a line below or above it, until it
is a linear function of the input, whose minimum over a box is known. The lines need bounds of
every ReLU's input, which are found the same way, first layer first.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from recuse.arrays import Images, Labels, Mask, PerSample
from recuse.certify.decision import check_batch_size, check_radii
from recuse.certify.ibp import Margins, ball, require_pixels
from recuse.certify.intervals import Box, propagate_all
from recuse.certify.tracing import output_node
from recuse.errors import CertificationError
from recuse.modes import full_products
from recuse.random import SampleNoise
from recuse.results import Certificate

Node = torch.fx.Node

RELU_MODULES = (nn.ReLU,)
RELU_FUNCTIONS: tuple[Callable[..., Any], ...] = (torch.relu, functional.relu)
AFFINE_MODULES = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
)
SUMS: tuple[Callable[..., Any], ...] = (operator.add, torch.add)
AFFINE_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *SUMS,
    operator.sub,
    torch.sub,
    operator.mul,
    torch.mul,
    operator.truediv,
    torch.div,
    operator.getitem,
    torch.flatten,
    functional.pad,
    functional.avg_pool2d,
    functional.adaptive_avg_pool2d,
)


@dataclass(frozen=True)
class Crown:
    """Proves by linear bounds that a network of ReLU layers keeps its class on a Linf ball.

    Deterministic, never looser than interval bounds on the ReLU inputs, and much slower: memory
    and time grow with the number of neurons squared. For small networks.

    Attributes:
        batch_size: Images bounded together.
        rows: Most linear functions, over all images, that are pulled back at a time.

    Source: Zhang et al., NeurIPS 2018 (CROWN); Wong and Kolter, ICML 2018.
    """

    batch_size: int = 16
    rows: int = 4096

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    @property
    def norm(self) -> str:
        """Norm of the balls it certifies."""
        return "linf"

    @property
    def method(self) -> str:
        """Name of the kind of proof in records."""
        return "crown"

    @torch.no_grad()
    def decide(
        self, model: nn.Module, x: Images, radii: Sequence[float], *, noise: SampleNoise
    ) -> Certificate:
        """Certify a batch at several radii; what fails at one is not tried at a larger one.

        Raises:
            CertificationError: Radii that do not ascend, a model in training mode, one that
                returns NaN, or one with a layer that has no rule.
        """
        radii, network = check_radii(radii), Margins.of(model)
        require_pixels(x)
        labels = network.predict(x) if len(x) else x.new_zeros(0).long()
        certified = torch.zeros((len(x), len(radii)), dtype=torch.bool, device=x.device)
        open_ = torch.arange(len(x), device=x.device)
        for column, radius in enumerate(radii):
            proven = [
                self._prove(network.graph, x[rows], labels[rows], radius)
                for rows in torch.split(open_, self.batch_size)
                if len(rows)
            ]
            open_ = open_[torch.cat(proven)] if proven else open_
            certified[open_, column] = True
        return Certificate(
            radii=radii,
            certified=certified,
            attainable=(True,) * len(radii),
            prediction=labels,
            samples=torch.zeros(len(x), dtype=torch.int64, device=x.device),
        )

    def lower_margin(self, model: nn.Module, x: Images, labels: Labels, radius: float) -> PerSample:
        """Smallest bound of ``f_label - f_c`` over the ball; differentiable, proves above 0.

        The gradient is that of the linear functions that were found, held fixed.
        """
        graph = Margins.of(model).graph
        parts = zip(*(torch.split(v, self.batch_size) for v in (x, labels)), strict=True)
        return torch.cat([self._lowest(graph, part, label, radius) for part, label in parts])

    def _prove(self, graph: torch.fx.GraphModule, x: Images, labels: Tensor, radius: float) -> Mask:
        return self._lowest(graph, x, labels, radius) > 0

    def _lowest(
        self, graph: torch.fx.GraphModule, x: Images, labels: Tensor, radius: float
    ) -> PerSample:
        box = ball(x, radius)
        with torch.no_grad():
            bounds = LinearBounds.of(graph, Box(box.lower.detach(), box.upper.detach()), self.rows)
        bounds.boxes[next(iter(graph.graph.nodes))] = box
        out = output_node(graph)
        identity = torch.eye(bounds.boxes[out].lower.shape[1], dtype=x.dtype, device=x.device)
        lower = bounds.pull_back(out, identity[labels][:, None] - identity[None])
        lowest: PerSample = lower.scatter(1, labels[:, None], float("inf")).amin(dim=1)
        return lowest


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
        flat = Box(box.lower.flatten(1).clone(), box.upper.flatten(1).clone())
        for image, (low, high) in enumerate(zip(flat.lower, flat.upper, strict=True)):
            own = self.of_image(image)
            unsettled, most = ((low < 0) & (high > 0)).nonzero()[:, 0], max(self.rows // 2, 1)
            for start in range(0, len(unsettled), most):
                part = unsettled[start : start + most]
                rows = functional.one_hot(part, len(low)).to(low.dtype)
                both = torch.cat([rows, -rows]).view(1, -1, *box.lower.shape[1:])
                lowest, minus_highest = own.pull_back(node, both)[0].chunk(2)
                low[part] = torch.maximum(low[part], lowest)
                high[part] = torch.minimum(high[part], -minus_highest)
        self.boxes[node] = Box(flat.lower.view_as(box.lower), flat.upper.view_as(box.upper))

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


__all__ = ["Crown", "LinearBounds"]
