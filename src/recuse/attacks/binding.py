"""A loss bound to a batch: which classes it aims at, and how large it reads each row's logits.

Multiplying all logits by k > 0 changes no answer, so it may change no verdict. Cross entropy and
softmax do change: in float32 they and their gradients round to 0 at a margin of some 17 to 100,
and at a small scale cross entropy follows the mean of all classes instead of the nearest ones.
Rows whose logits are of an ordinary size are ascended as published, bit for bit; for the others
a loss names a stand-in with the same maximum that reads the logits at a temperature of their own.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from recuse.arrays import Labels, Logits, Mask, PerSample
from recuse.protocols import AscentLoss

# Cross entropy at this margin is 1e-7, one step of float32 below 1.
LARGEST_MARGIN = 16.0
LARGEST_SPREAD = 20.0
SMALLEST_DEVIATION = 0.75
# Networks as trained have a spread of 1 to 5; rows of another size are read at this one.
SPREAD = 2.0
_LEAST = 1e-3


@runtime_checkable
class RowLoss(Protocol):
    """A loss of the rows of a batch that are still under attack."""

    def __call__(self, logits: Logits, rows: Labels) -> PerSample:
        """The value of each of ``rows``, whose logits these are."""
        ...


@runtime_checkable
class TargetedLoss(Protocol):
    """A loss that aims at one class per input, chosen once, at the clean input."""

    def targets(self, logits: Logits, y: Labels) -> Labels:
        """The class aimed at, from the clean logits."""
        ...

    def towards(self, logits: Logits, y: Labels, target: Labels) -> PerSample:
        """The value to ascend for given targets."""
        ...


@runtime_checkable
class ScaledLoss(Protocol):
    """A loss that cannot be ascended at every scale of the logits, and what to ascend instead."""

    def temperature(self, clean_logits: Logits) -> PerSample:
        """What to divide each row's logits by; 0 where the loss is ascended as it is."""
        ...

    def tempered(self, logits: Logits, y: Labels, temperature: PerSample) -> PerSample:
        """The stand-in: highest where the loss is, at every scale."""
        ...


def spread(logits: Logits) -> PerSample:
    """Median distance of a row's logits from their median; a few dead classes do not move it."""
    return _median((logits - _median(logits).unsqueeze(1)).abs())


def _median(values: Tensor) -> PerSample:
    """The middle value of each row, or the mean of the two middle ones."""
    ordered, count = values.sort(1).values, values.shape[1]
    middle: PerSample = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    return middle


def _deviation(logits: Logits) -> PerSample:
    """Mean distance of a row's logits from their mean: it cannot overflow as squares do."""
    return (logits - logits.mean(1, keepdim=True)).abs().mean(1)


def too_large(logits: Logits) -> Mask:
    """Rows at which a softmax rounds to 0 and 1, here or nearby."""
    top = logits.topk(2, dim=1).values
    large: Mask = (top[:, 0] - top[:, 1] > LARGEST_MARGIN) | (spread(logits) > LARGEST_SPREAD)
    return large


def too_small(logits: Logits) -> Mask:
    """Rows at which a softmax is nearly flat, so that cross entropy is their mean and no more."""
    small: Mask = _deviation(logits) < SMALLEST_DEVIATION
    return small


def usual_temperature(logits: Logits) -> PerSample:
    """What to divide each row's logits by to give them the spread of a network as trained."""
    return torch.maximum(spread(logits) / SPREAD, _LEAST * _deviation(logits))


def temperature(loss: AscentLoss, clean_logits: Logits) -> PerSample:
    """The temperature at which each row is ascended, fixed at the clean input; 0 = as it is."""
    if isinstance(loss, ScaledLoss):
        return loss.temperature(clean_logits)
    return torch.zeros_like(clean_logits[:, 0])


def rounded(loss: AscentLoss, clean_logits: Logits) -> PerSample:
    """Temperature 1 where a loss rounds to its bounds: its stand-in there orders points like it."""
    if isinstance(loss, ScaledLoss):
        return too_large(clean_logits).to(clean_logits.dtype)
    return torch.zeros_like(clean_logits[:, 0])


def at_temperature(
    loss: AscentLoss, logits: Logits, y: Labels, temperatures: PerSample
) -> PerSample:
    """The loss of rows at temperature 0, its stand-in of the others."""
    plain = loss(logits, y)
    if not isinstance(loss, ScaledLoss):
        return plain
    scaled = temperatures > 0
    stand_in = loss.tempered(logits, y, torch.where(scaled, temperatures, 1.0))
    value: Tensor = torch.where(scaled, stand_in, plain)
    return value


def as_defined(loss: AscentLoss, clean_logits: Logits, y: Labels) -> RowLoss:
    """The loss of rows of a batch, by its own formula at any scale.

    A targeted loss chooses its targets here, once.
    """
    if isinstance(loss, TargetedLoss):
        target = loss.targets(clean_logits, y)
        return lambda logits, rows: loss.towards(logits, y[rows], target[rows])
    return lambda logits, rows: loss(logits, y[rows])


def bind(
    loss: AscentLoss, clean_logits: Logits, y: Labels, temperatures: PerSample | None = None
) -> RowLoss:
    """What an attack ascends, as a function of logits and of the rows that these belong to.

    An attack that drops rows keeps calling it with the rows that are left.

    Args:
        loss: What to ascend.
        clean_logits: Logits at the unperturbed batch, which decide on targets and temperatures.
        y: Reference labels of the batch.
        temperatures: By default those of :func:`temperature`.

    Returns:
        ``value(logits, rows)``, comparable within a row.
    """
    scales = temperature(loss, clean_logits) if temperatures is None else temperatures
    if not bool((scales > 0).any()):
        return as_defined(loss, clean_logits, y)
    return lambda logits, rows: at_temperature(loss, logits, y[rows], scales[rows])


__all__ = [
    "RowLoss",
    "ScaledLoss",
    "TargetedLoss",
    "as_defined",
    "at_temperature",
    "bind",
    "rounded",
    "spread",
    "temperature",
    "too_large",
    "too_small",
    "usual_temperature",
]
