"""Certified training by interval bounds: the worst logits any point of the ball could have."""

from dataclasses import dataclass

from torch import nn

from recuse.arrays import Images, Labels, Logits
from recuse.attacks.verify import evaluation_mode
from recuse.certify.ibp import Margins, require_linf
from recuse.errors import ConfigError
from recuse.losses import cross_entropy
from recuse.random import SampleNoise
from recuse.results import LossTerms
from recuse.threat import Threat
from recuse.training.forward import Trainee
from recuse.training.schedule import Ramp


def worst_logits(network: nn.Module, x: Images, y: Labels, radius: float) -> Logits:
    """Logits that no point of the Linf ball around ``x`` makes worse for ``y``.

    Class c gets the upper bound of ``f_c - f_y``, the label 0: cross-entropy at these logits
    is at least the largest cross-entropy in the ball.
    """
    margins = Margins.of(network).lower_margins(x, y, radius)
    return (-margins).scatter(1, y[:, None], 0.0)


@dataclass(frozen=True)
class IbpTraining:
    """Cross-entropy at the clean input and at the worst logits that interval bounds allow.

    ``kappa * CE(f(x), y) + (1 - kappa) * CE(worst, y)``: the radius rises from 0 to the
    threat's and kappa falls from 1 to ``kappa`` along the ramp; bounds of an untrained network
    are so loose that training at the full radius at once learns nothing.

    The network is run in eval mode (batch norm by its running statistics, no dropout): the
    bounds must be those of the function that is deployed.

    Attributes:
        kappa: Final weight of the clean loss, in [0, 1].
        ramp: When the radius and kappa move.

    Source: Gowal et al., "On the Effectiveness of Interval Bound Propagation", 2018.
    """

    kappa: float = 0.5
    ramp: Ramp = Ramp(0.05, 0.6)

    def __post_init__(self) -> None:
        if not 0 <= self.kappa <= 1:
            raise ConfigError(f"kappa {self.kappa} is not in [0, 1], the weight of the clean loss")

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        progress: float = 1.0,
    ) -> LossTerms:
        """The two cross-entropies; ``noise`` is not used.

        Raises:
            CertificationError: A norm other than Linf, or a network with a layer without bounds.
        """
        require_linf(threat)
        moved = self.ramp(progress)
        network = model.network if isinstance(model, Trainee) else model
        with evaluation_mode(network):
            logits = network(x)
            natural = cross_entropy(logits, y)
            worst = cross_entropy(worst_logits(network, x, y, moved * threat.eps), y)
        kappa = 1 - (1 - self.kappa) * moved
        parts = {"natural": natural.detach(), "worst": worst.detach()}
        total = kappa * natural + (1 - kappa) * worst
        return LossTerms(total, parts, logits.detach().argmax(1) == y)


__all__ = ["IbpTraining", "worst_logits"]
