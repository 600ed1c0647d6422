"""Certified training by interval bounds: of the whole ball, or of what an attack finds in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from recuse.arrays import Images, Labels, Logits
from recuse.attacks.pgd import Pgd
from recuse.attacks.verify import evaluation_mode
from recuse.certify.ibp import Margins, require_linf
from recuse.errors import ConfigError
from recuse.losses import cross_entropy
from recuse.random import SampleNoise
from recuse.results import LossTerms
from recuse.threat import Threat
from recuse.training.forward import Trainee, attack_view
from recuse.training.robust import NO_NOISE
from recuse.training.schedule import Ramp


def worst_logits(network: nn.Module, x: Images, y: Labels, radius: float) -> Logits:
    """Logits that no point of the Linf ball around ``x`` makes worse for ``y``.

    Class c gets the upper bound of ``f_c - f_y``, the label 0: cross-entropy at these logits
    is at least the largest cross-entropy in the ball.
    """
    margins = Margins.of(network).lower_margins(x, y, radius)
    return (-margins).scatter(1, y[:, None], 0.0)


@contextmanager
def as_deployed(model: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode, with a graph to its weights: the function that bounds speak of."""
    network = model.network if isinstance(model, Trainee) else model
    with evaluation_mode(network):
        yield network


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
        with as_deployed(model) as network:
            logits = network(x)
            natural = cross_entropy(logits, y)
            worst = cross_entropy(worst_logits(network, x, y, moved * threat.eps), y)
        kappa = 1 - (1 - self.kappa) * moved
        parts = {"natural": natural.detach(), "worst": worst.detach()}
        total = kappa * natural + (1 - kappa) * worst
        return LossTerms(total, parts, logits.detach().argmax(1) == y)


@dataclass(frozen=True)
class MtlIbp:
    """A little of the worst case of interval bounds in adversarial training.

    ``alpha * CE(worst, y) + (1 - alpha) * CE(f(x_adv), y)``; the radius of both rises from 0 to
    the threat's along the ramp. The network is run in eval mode, as by :class:`IbpTraining`.

    Attributes:
        alpha: Weight of the worst logits that bounds allow, in [0, 1].
        attack: PGD away from the label.
        ramp: When the radius moves.

    Source: De Palma et al., "Expressive Losses for Verified Robustness via Convex Combinations",
    ICLR 2024.
    """

    alpha: float = 0.02
    attack: Pgd = Pgd(steps=3, step_size_relative=0.5)
    ramp: Ramp = Ramp(0.05, 0.6)

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha {self.alpha} is not in [0, 1], the weight of the bounds")

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
        """The two cross-entropies.

        Raises:
            CertificationError: As for :class:`IbpTraining`.
        """
        require_linf(threat)
        grown = threat.scaled(self.ramp(progress))
        x_adv = away_from_label(model, x, y, grown, self.attack, noise)
        with as_deployed(model) as network:
            adversarial = cross_entropy(network(x_adv), y)
            worst = cross_entropy(worst_logits(network, x, y, grown.eps), y)
        parts = {"adversarial": adversarial.detach(), "worst": worst.detach()}
        return LossTerms(self.alpha * worst + (1 - self.alpha) * adversarial, parts)


@dataclass(frozen=True)
class Sabr:
    """Interval bounds of a small box around an adversarial point, instead of the whole ball.

    The attack stays ``share`` of the radius away from the ball's surface, so that the box around
    what it finds, of that half width, lies within the ball. The radius rises along the ramp. The
    network is run in eval mode, as by :class:`IbpTraining`.

    Attributes:
        share: Half width of the box as a share of the radius, in (0, 1].
        attack: PGD away from the label.
        ramp: When the radius moves.

    Source: Müller et al., "Certified Training: Small Boxes are All You Need", ICLR 2023.
    """

    share: float = 0.1
    attack: Pgd = Pgd(steps=3, step_size_relative=0.5)
    ramp: Ramp = Ramp(0.05, 0.6)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"share {self.share} is not in (0, 1], the part of the radius")

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
        """``CE(worst, y)`` over the small box.

        Raises:
            CertificationError: As for :class:`IbpTraining`.
        """
        require_linf(threat)
        grown = threat.scaled(self.ramp(progress))
        centre = away_from_label(model, x, y, grown.scaled(1 - self.share), self.attack, noise)
        with as_deployed(model) as network:
            worst = cross_entropy(worst_logits(network, centre, y, self.share * grown.eps), y)
        return LossTerms(worst, {"worst": worst.detach()})


BY_BOUNDS = (IbpTraining, MtlIbp, Sabr)


def away_from_label(
    model: nn.Module, x: Images, y: Labels, threat: Threat, attack: Pgd, noise: SampleNoise
) -> Images:
    """The last point of PGD on the cross-entropy, found on the network as it is deployed."""
    start = attack.begin(x, threat, noise.substream("attack"))
    with attack_view(model) as attacked:
        return attack.perturb(
            attacked,
            x,
            threat,
            lambda logits: cross_entropy(logits, y),
            noise=NO_NOISE,
            start=start,
        )


__all__ = ["BY_BOUNDS", "IbpTraining", "MtlIbp", "Sabr", "worst_logits"]
