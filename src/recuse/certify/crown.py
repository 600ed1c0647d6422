"""Linear bounds propagated backwards: tighter Linf certificates for networks of ReLU layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Mask, PerSample
from recuse.certify.decision import check_batch_size, check_radii
from recuse.certify.ibp import Margins, ball, require_pixels
from recuse.certify.intervals import Box
from recuse.certify.linear import LinearBounds
from recuse.certify.tracing import output_node
from recuse.random import SampleNoise
from recuse.results import Certificate


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


__all__ = ["Crown"]
