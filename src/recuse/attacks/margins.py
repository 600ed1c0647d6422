"""What an attack increases: one number per sample, higher = closer to adversarial.

Every strategy is a frozen dataclass and a callable ``(logits, y) -> PerSample``, so that it can
be printed, compared, hashed into a record's key and called.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from recuse.arrays import Labels, Logits, PerSample
from recuse.attacks.binding import too_large, too_small, usual_temperature
from recuse.errors import ConfigError
from recuse.protocols import AscentLoss

_TINY = 1e-12
_DLR_CLASSES = 3
_TARGETED_DLR_CLASSES = 4


def logit_of(logits: Logits, y: Labels) -> PerSample:
    """The logit of class ``y`` of each row."""
    return logits.gather(1, y.unsqueeze(1)).squeeze(1)


def without_class(logits: Logits, y: Labels) -> Logits:
    """The logits with class ``y`` at minus infinity, so that a maximum skips it."""
    return logits.scatter(1, y.unsqueeze(1), -torch.inf)


def margin(logits: Logits, y: Labels) -> PerSample:
    """How far the best other class is above class ``y``: positive exactly where it wins."""
    return without_class(logits, y).amax(dim=1) - logit_of(logits, y)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy to the reference label.

    Where logits are too large or too small for it, an attack ascends the log-odds against the
    label at a temperature: cross-entropy is ``log(1 + exp(log-odds))``, so that the direction and
    the order of points are the same, but log-odds never round to 0.
    """

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """Cross-entropy of each row."""
        return F.cross_entropy(logits, y, reduction="none")

    def temperature(self, clean_logits: Logits) -> PerSample:
        """What gives rows of another scale the spread of ordinary ones; 0 for ordinary rows."""
        other = too_large(clean_logits) | too_small(clean_logits)
        return torch.where(other, usual_temperature(clean_logits), 0.0)

    def tempered(self, logits: Logits, y: Labels, temperature: PerSample) -> PerSample:
        """Log-odds against the label of each row at its temperature."""
        z = logits / temperature.unsqueeze(1)
        return without_class(z, y).logsumexp(dim=1) - logit_of(z, y)


@dataclass(frozen=True)
class Margin:
    """Best other logit minus the reference logit (positive = misclassified)."""

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """Logit margin of each row."""
        return margin(logits, y)


@dataclass(frozen=True)
class Dlr:
    """Difference of logits ratio: the margin over the gap between first and third logit.

    Invariant to shift and scale of the logits, so that a network cannot flatten its gradient by
    large logits. Undefined below three classes, where the plain margin is used.

    Source: Croce & Hein, ICML 2020, Eq. 6.
    """

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """Difference of logits ratio of each row."""
        if logits.shape[1] < _DLR_CLASSES:
            return margin(logits, y)
        top = logits.topk(_DLR_CLASSES, dim=1).values
        return margin(logits, y) / (top[:, 0] - top[:, 2] + _TINY)


@dataclass(frozen=True)
class TargetedDlr:
    """Targeted difference of logits ratio: pushes one chosen other class above the reference.

    Undefined below four classes, where the plain margin to the target is used.

    Attributes:
        rank: Which other class is aimed at, 1 = the most likely one at the clean input; beyond
            the number of other classes the least likely one.

    Source: Croce & Hein, ICML 2020, Eq. 7.
    """

    rank: int = 1

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"targeted DLR: rank {self.rank} must be 1 or more")

    def targets(self, logits: Logits, y: Labels) -> Labels:
        """The class aimed at: the ``rank``-th most likely other one at these logits."""
        rank = min(self.rank, logits.shape[1] - 1)
        return without_class(logits, y).topk(rank, dim=1).indices[:, -1]

    def towards(self, logits: Logits, y: Labels, target: Labels) -> PerSample:
        """The loss of each row for given targets."""
        gap = logit_of(logits, target) - logit_of(logits, y)
        if logits.shape[1] < _TARGETED_DLR_CLASSES:
            return gap
        top = logits.topk(_TARGETED_DLR_CLASSES, dim=1).values
        return gap / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + _TINY)

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """The loss of each row towards the target these logits themselves suggest."""
        return self.towards(logits, y, self.targets(logits.detach(), y))


@dataclass(frozen=True)
class Confidence:
    """Largest softmax among the classes other than the reference (APGDconf).

    The right adversary for softmax response: the highest confidence in a wrong class. It is a
    probability, so it reads the logits as they are; where these are too large, an attack ascends
    its logarithm, which does not round to 0.

    Source: Stutz, Hein, Schiele, ICML 2020.
    """

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """Highest wrong-class probability of each row."""
        return self.tempered(logits, y, torch.ones_like(logits[:, 0])).exp()

    def temperature(self, clean_logits: Logits) -> PerSample:
        """1 where the probability rounds to 0, here or nearby; else 0."""
        return too_large(clean_logits).to(clean_logits.dtype)

    def tempered(self, logits: Logits, y: Labels, temperature: PerSample) -> PerSample:
        """Logarithm of the highest wrong-class probability of each row."""
        return without_class(logits.log_softmax(dim=1), y).amax(dim=1)


LOSSES: dict[str, type[AscentLoss]] = {
    "ce": CrossEntropy,
    "dlr": Dlr,
    "targeted-dlr": TargetedDlr,
    "confidence": Confidence,
    "margin": Margin,
}


__all__ = [
    "LOSSES",
    "Confidence",
    "CrossEntropy",
    "Dlr",
    "Margin",
    "TargetedDlr",
    "logit_of",
    "margin",
    "without_class",
]
