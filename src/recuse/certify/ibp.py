"""Interval bound propagation: deterministic Linf certificates for the networks shipped here."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Mask, PerSample
from recuse.certify.decision import check_batch_size, check_radii
from recuse.certify.intervals import Box, propagate
from recuse.certify.tracing import output_node, trace
from recuse.errors import CertificationError
from recuse.modes import full_products
from recuse.random import SampleNoise
from recuse.results import Certificate
from recuse.threat import Threat, expand_as


@dataclass(frozen=True)
class Ibp:
    """Proves by interval arithmetic that a network keeps its class on a Linf ball.

    The proof holds for every image of the ball, without a failure probability. It says nothing
    about networks that were not trained for it: their bounds are too loose to prove anything.

    Attributes:
        batch_size: Images bounded together.

    Source: Gowal et al., ICCV 2019; Mirman et al., ICML 2018.
    """

    batch_size: int = 256

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)

    @property
    def norm(self) -> str:
        """Norm of the balls it certifies."""
        return "linf"

    @property
    def method(self) -> str:
        """Name of the kind of proof in records."""
        return "ibp"

    @torch.no_grad()
    def decide(
        self, model: nn.Module, x: Images, radii: Sequence[float], *, noise: SampleNoise
    ) -> Certificate:
        """Certify a batch at several radii, for example eps and 2 eps.

        Args:
            model: Classifier in eval mode.
            x: Inputs in [0, 1].
            radii: Ascending radii in pixel units.
            noise: Unused: the answer does not depend on chance.

        Returns:
            One decision per input and radius.

        Raises:
            CertificationError: Radii that do not ascend, a model in training mode, one that
                returns NaN, or one with a layer that has no rule.
        """
        radii = check_radii(radii)
        network = Margins.of(model)
        certified, predictions = [], []
        for part in torch.split(x, self.batch_size):
            prediction = network.predict(part)
            proven = [network.prove(part, prediction, r) for r in radii]
            certified.append(torch.stack(proven, dim=1).cummin(dim=1).values)
            predictions.append(prediction)
        return Certificate(
            radii=radii,
            certified=torch.cat(certified) if certified else x.new_zeros((0, len(radii))).bool(),
            attainable=(True,) * len(radii),
            prediction=torch.cat(predictions) if predictions else x.new_zeros(0).long(),
            samples=torch.zeros(len(x), dtype=torch.int64, device=x.device),
        )

    def lower_margin(self, model: nn.Module, x: Images, labels: Labels, radius: float) -> PerSample:
        """Smallest bound of ``f_label - f_c`` over the ball; differentiable, proves above 0."""
        lowest: PerSample = Margins.of(model).lower_margins(x, labels, radius).amin(dim=1)
        return lowest


@dataclass(frozen=True, eq=False)
class Margins:
    """A network traced for bounds of logit differences.

    A linear last layer is bounded together with the difference, which is tighter than bounding
    each logit.

    Attributes:
        model: The network.
        graph: Its graph.
        features: The graph without a linear last layer.
        last: That layer, if there is one.
    """

    model: nn.Module
    graph: torch.fx.GraphModule
    features: torch.fx.GraphModule
    last: nn.Linear | None

    @classmethod
    def of(cls, model: nn.Module) -> "Margins":
        """Trace a network.

        Raises:
            CertificationError: It is in training mode or cannot be traced.
        """
        graph = trace(model)
        return cls(model, graph, *_without_last_linear(graph))

    @torch.no_grad()
    @full_products()
    def predict(self, x: Images) -> Labels:
        """The network's class per input.

        Raises:
            CertificationError: The network returns NaN, or something other than its graph does.
        """
        logits = self.model(x)
        if bool(logits.isnan().any()):
            raise CertificationError(
                "the model returned NaN; bounds of such a model prove nothing, so check its weights"
            )
        self._compare(x, logits)
        label: Labels = logits.argmax(dim=1)
        return label

    def _compare(self, x: Images, logits: Tensor) -> None:
        # A trace misses what it cannot see: random numbers, state, a replaced forward. The bounds
        # of a box that is one point are the graph's logits; one input, bounded alone, tells.
        if not len(x):
            return
        own, traced = logits[0], propagate(self.graph, Box(x[:1], x[:1])).centre[0]
        tolerance = float(own.abs().amax()) * torch.finfo(own.dtype).eps ** 0.5
        if own.shape != traced.shape or bool((own - traced).abs().amax() > tolerance):
            raise CertificationError(
                "the traced graph of the network does not return the network's own logits, so "
                "bounds of it prove nothing; the network draws random numbers, keeps state, mixes "
                "the inputs of a batch, or has hooks"
            )

    @torch.no_grad()
    def bound(self, x: Images, labels: Labels, radius: float | Tensor) -> Tensor:
        """:meth:`lower_margins` without a graph, and with its conditions checked.

        Raises:
            CertificationError: Inputs outside [0, 1], or as for :meth:`predict`.
        """
        require_pixels(x)
        self.predict(x[:1])
        return self.lower_margins(x, labels, radius)

    @full_products()
    def lower_margins(self, x: Images, labels: Labels, radius: float | Tensor) -> Tensor:
        """Lower bounds of ``f_label - f_c`` over Linf balls, cut to [0, 1]; differentiable.

        Args:
            x: Inputs in [0, 1].
            labels: Class per input.
            radius: One radius, or one per input.

        Returns:
            Shape ``batch classes``; the label's own column is infinite. All positive proves the
            label on the ball.
        """
        box = propagate(self.features, ball(x, radius))
        if self.last is None:
            margins = box.lower.gather(1, labels[:, None]) - box.upper
        else:
            difference = self.last.weight[labels][:, None, :] - self.last.weight[None]
            margins = torch.einsum("bcf,bf->bc", difference, box.centre)
            margins = margins - torch.einsum("bcf,bf->bc", difference.abs(), box.spread)
            if self.last.bias is not None:
                margins = margins + self.last.bias[labels][:, None] - self.last.bias[None]
        return margins.scatter(1, labels[:, None], float("inf"))

    @torch.no_grad()
    def prove(self, x: Images, labels: Labels, radius: float | Tensor) -> Mask:
        """Whether the label, which :meth:`predict` has given, is proven on each ball.

        Raises:
            CertificationError: Inputs outside [0, 1].
        """
        require_pixels(x)
        return (self.lower_margins(x, labels, radius) > 0).all(dim=1)


@torch.no_grad()
def output_bounds(model: nn.Module, x: Images, threat: Threat) -> Box:
    """Bounds of every logit over the ball around each input, cut to [0, 1].

    Raises:
        CertificationError: See :class:`Ibp`.
    """
    require_linf(threat)
    require_pixels(x)
    network = Margins.of(model)
    network.predict(x)
    return propagate(network.graph, ball(x, threat.eps))


def largest_radius(model: nn.Module, x: Images, *, most: float, steps: int = 12) -> PerSample:
    """The largest Linf radius that interval bounds prove, from below.

    Bisection per input; sound because every radius it returns has itself been proven.

    Args:
        model: Classifier in eval mode.
        x: Inputs in [0, 1].
        most: Largest radius to look at.
        steps: Halvings; what bounds can prove is at most ``most / 2**steps`` more.

    Returns:
        Radius per input; 0 where nothing is proven.

    Raises:
        CertificationError: See :class:`Ibp`.
    """
    network = Margins.of(model)
    labels = network.predict(x)
    proven, refused = x.new_zeros(len(x)), x.new_full((len(x),), 2 * most)
    for _ in range(steps + 1):
        middle = (proven + refused) / 2
        ok = network.prove(x, labels, middle)
        proven, refused = torch.where(ok, middle, proven), torch.where(ok, refused, middle)
    return proven.clamp_max(most)


def ball(x: Images, radius: float | Tensor) -> Box:
    """The Linf ball around each input, cut to [0, 1]."""
    if isinstance(radius, Tensor):
        radius = expand_as(radius, x)
    return Box((x - radius).clamp_min(0), (x + radius).clamp_max(1))


def require_linf(threat: Threat) -> None:
    """Refuse a ball that is not a box.

    Raises:
        CertificationError: A norm other than Linf.
    """
    if threat.norm != "linf":
        raise CertificationError(
            f"interval bounds certify Linf balls, not {threat}; write for example linf:2/255, or "
            "use smoothing for l2"
        )


def require_pixels(x: Images) -> None:
    """Refuse inputs around which no ball of images lies.

    Raises:
        CertificationError: A value outside [0, 1].
    """
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise CertificationError(
            f"inputs lie in [{float(x.min()):g}, {float(x.max()):g}], but certificates hold for "
            "images in [0, 1]; put the normalisation inside the model and certify the plain images"
        )


def _without_last_linear(
    graph: torch.fx.GraphModule,
) -> tuple[torch.fx.GraphModule, nn.Linear | None]:
    last = output_node(graph)
    if last.op != "call_module":
        return graph, None
    layer, before = graph.get_submodule(str(last.target)), last.args[0]
    if type(layer) is not nn.Linear or not isinstance(before, torch.fx.Node):
        return graph, None
    shorter = torch.fx.Graph()
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in graph.graph.nodes:
        if node is not last and node.op != "output":
            copies[node] = shorter.node_copy(node, copies.__getitem__)
    shorter.output(copies[before])
    return torch.fx.GraphModule(graph, shorter), layer


__all__ = [
    "Ibp",
    "Margins",
    "ball",
    "largest_radius",
    "output_bounds",
    "require_linf",
    "require_pixels",
]
