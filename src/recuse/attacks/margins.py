"""What an attack increases: one number per sample, higher = closer to adversarial.

Every strategy is a frozen dataclass and a callable ``(logits, y) -> PerSample``, so that it can
be printed, compared, hashed into a record's key and called.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from recuse.arrays import Labels, Logits, PerSample
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
    """Cross-entropy to the reference label."""

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """Cross-entropy of each row."""
        return F.cross_entropy(logits, y, reduction="none")


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

    The right adversary for softmax response: the highest confidence in a wrong class.

    Source: Stutz, Hein, Schiele, ICML 2020.
    """

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """Highest wrong-class probability of each row."""
        return without_class(logits.log_softmax(dim=1), y).amax(dim=1).exp()


@runtime_checkable
class TargetedLoss(Protocol):
    """A loss that aims at one class per input, chosen once, at the clean input."""

    def targets(self, logits: Logits, y: Labels) -> Labels:
        """The class aimed at, from the clean logits."""
        ...

    def towards(self, logits: Logits, y: Labels, target: Labels) -> PerSample:
        """The value to ascend for given targets."""
        ...


LOSSES: dict[str, type[AscentLoss]] = {
    "ce": CrossEntropy,
    "dlr": Dlr,
    "targeted-dlr": TargetedDlr,
    "confidence": Confidence,
    "margin": Margin,
}


@runtime_checkable
class RowLoss(Protocol):
    """A loss of the rows of a batch that are still under attack."""

    def __call__(self, logits: Logits, rows: Labels) -> PerSample:
        """The value of each of ``rows``, whose logits these are."""
        ...


def bind(loss: AscentLoss, clean_logits: Logits, y: Labels) -> RowLoss:
    """The loss as a function of logits and of the rows of the batch that these belong to.

    An attack that drops rows keeps calling it with the rows that are left. A targeted loss
    chooses its targets here, once.

    Args:
        loss: What to ascend.
        clean_logits: Logits at the unperturbed batch.
        y: Reference labels of the batch.

    Returns:
        ``value(logits, rows)``.
    """
    if isinstance(loss, TargetedLoss):
        target = loss.targets(clean_logits, y)
        return lambda logits, rows: loss.towards(logits, y[rows], target[rows])
    return lambda logits, rows: loss(logits, y[rows])


__all__ = [
    "LOSSES",
    "Confidence",
    "CrossEntropy",
    "Dlr",
    "Margin",
    "RowLoss",
    "TargetedDlr",
    "TargetedLoss",
    "bind",
    "logit_of",
    "margin",
    "without_class",
]
