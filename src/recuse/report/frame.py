"""The coordinate system of one panel of a scatter plot."""

from collections.abc import Sequence
from dataclasses import dataclass

_SMALLEST_AIR = 0.4


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
