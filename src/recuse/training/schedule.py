"""Schedules over training: learning rates, and the weight of a penalty that is ramped in."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from recuse.errors import ConfigError


@runtime_checkable
class Schedule(Protocol):
    """A factor of the learning rate as a function of progress."""

    def __call__(self, progress: float) -> float:
        """The factor when ``progress`` (0 at the start, 1 at the end) of training is done."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout."""

    def __call__(self, progress: float) -> float:
        """Always 1."""
        return 1.0


@dataclass(frozen=True)
class OneDrop:
    """Fine-tuning: a tenth of the learning rate after three quarters of the epochs.

    Attributes:
        at: Progress of the drop.
        factor: What the rate is multiplied by then.
    """

    at: float = 0.75
    factor: float = 0.1

    def __call__(self, progress: float) -> float:
        """1 before the drop, ``factor`` after it."""
        return self.factor if progress >= self.at else 1.0


@dataclass(frozen=True)
class Step:
    """From scratch: a tenth at each milestone (75 % and 90 % of the epochs).

    Attributes:
        milestones: Progress at each drop, ascending.
        factor: What the rate is multiplied by at each.
        warmup: Share of training over which the rate rises linearly from 0.
    """

    milestones: tuple[float, ...] = (0.75, 0.9)
    factor: float = 0.1
    warmup: float = 0.0

    def __call__(self, progress: float) -> float:
        """``factor`` to the number of milestones passed."""
        passed = sum(progress >= milestone for milestone in self.milestones)
        return self.factor**passed * _warm(progress, self.warmup)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to ``floor``.

    Attributes:
        floor: Factor at the end.
        warmup: Share of training over which the rate rises linearly from 0.
    """

    floor: float = 0.0
    warmup: float = 0.0

    def __call__(self, progress: float) -> float:
        """The cosine at ``progress``."""
        share = min(max((progress - self.warmup) / max(1 - self.warmup, 1e-12), 0.0), 1.0)
        falling = self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2
        return falling * _warm(progress, self.warmup)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "one-drop": OneDrop,
    "step": Step,
    "cosine": Cosine,
}


@dataclass(frozen=True)
class Ramp:
    """How far a penalty is faded in: 0 until ``start``, 1 from ``end`` on, linear between.

    A network trained from scratch is wrong about everything at first; a penalty on wrong
    answers would then keep it from becoming robust at all.

    Attributes:
        start: Progress at which the penalty appears.
        end: Progress from which it has its full weight.
    """

    start: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise ConfigError(
                f"ramp from {self.start} to {self.end} must ascend within 0 and 1, the shares of "
                "training done"
            )

    def __call__(self, progress: float) -> float:
        """The weight in [0, 1]."""
        if progress >= self.end:
            return 1.0
        if progress <= self.start:
            return 0.0
        return (progress - self.start) / (self.end - self.start)


def _warm(progress: float, warmup: float) -> float:
    return min(progress / warmup, 1.0) if warmup > 0 else 1.0


__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "OneDrop",
    "Ramp",
    "Schedule",
    "Step",
]
