"""The coordinate system of one panel of a scatter plot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SMALLEST_AIR = 0.8
_ROUNDING = 1e-9
_NICE_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Frame:
    """Coordinates of one panel, in percent and in pixels (y downwards).

    Attributes:
        x: Range of the horizontal axis, in percent.
        y: Range of the vertical axis, in percent.
        width: Of the panel in pixels.
        height: Of the panel in pixels.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    height: int

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Where a point given in percent lies, in pixels."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return across * self.width, (1 - up) * self.height

    def percent(self, x: float, y: float) -> tuple[float, float]:
        """Where a point given in pixels lies, in percent."""
        across = self.x[0] + x / self.width * (self.x[1] - self.x[0])
        return across, self.y[1] - y / self.height * (self.y[1] - self.y[0])


def span(shares: Sequence[float]) -> tuple[float, float]:
    """A range in percent around shares, with some air so that no mark sits on the frame."""
    if not shares:
        return 0.0, 100.0
    low, high = 100 * min(shares), 100 * max(shares)
    air = max(0.12 * (high - low), _SMALLEST_AIR)
    return low - air, high + air


def ticks(domain: tuple[float, float], count: int) -> list[float]:
    """At most ``count`` round numbers within a range of percent, none below 0 or above 100.

    >>> ticks((97.2, 101.0), 6)
    [98.0, 99.0, 100.0]
    """
    low, high = max(domain[0], 0.0), min(domain[1], 100.0)
    power = 10.0 ** math.floor(math.log10((domain[1] - domain[0]) / count))
    step = next(s * power for s in _NICE_STEPS if s * power * count >= domain[1] - domain[0])
    first, last = math.ceil(low / step - _ROUNDING), math.floor(high / step + _ROUNDING)
    return [round(n * step, 6) for n in range(first, last + 1)]
