"""The law of a vote count: what sequential tables propagate from look to look."""

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray


@dataclass(frozen=True)
class CountDistribution:
    """Sub-probability law of a vote count: ``mass[i]`` is that of ``first + i`` votes."""

    mass: NDArray[np.float64]
    first: int

    def after(self, draws: int, p: float, floor: float) -> "CountDistribution":
        """The law after ``draws`` more draws; tail entries up to ``floor`` are dropped."""
        if not len(self.mass):
            return self
        steps = _binomial(draws, p, floor)
        return CountDistribution(
            np.convolve(self.mass, steps.mass), self.first + steps.first
        ).trimmed(floor)

    def trimmed(self, floor: float) -> "CountDistribution":
        """Without the leading and trailing entries up to ``floor``."""
        kept = np.flatnonzero(self.mass > floor)
        if not len(kept):
            return CountDistribution(self.mass[:0], self.first)
        return CountDistribution(self.mass[kept[0] : kept[-1] + 1], self.first + int(kept[0]))

    def tail(self, count: int) -> float:
        """Probability of at least ``count``."""
        return float(self.mass[max(count - self.first, 0) :].sum())

    def head(self, count: int) -> float:
        """Probability of at most ``count``."""
        return float(self.mass[: max(count + 1 - self.first, 0)].sum())

    def lowest_tail(self, budget: float) -> int:
        """The smallest count whose tail is at most ``budget``."""
        tails = np.cumsum(self.mass[::-1])
        return self.first + len(self.mass) - int(np.searchsorted(tails, budget, side="right"))

    def highest_head(self, budget: float) -> int:
        """The largest count whose head is at most ``budget``."""
        heads = np.cumsum(self.mass)
        return self.first + int(np.searchsorted(heads, budget, side="right")) - 1

    def between(self, low: int, high: int) -> "CountDistribution":
        """The part strictly between ``low`` and ``high``."""
        start = min(max(low + 1 - self.first, 0), len(self.mass))
        return CountDistribution(
            self.mass[start : max(high - self.first, start)], self.first + start
        )


START = CountDistribution(np.ones(1), 0)


def _binomial(n: int, p: float, floor: float) -> CountDistribution:
    # Hoeffding: what lies further than this from the mean has less mass than the floor.
    spread = math.sqrt(-math.log(floor) * n / 2) + 1
    low = max(math.floor(n * p - spread), 0)
    high = min(math.ceil(n * p + spread), n)
    return CountDistribution(scipy.stats.binom.pmf(np.arange(low, high + 1), n, p), low).trimmed(
        floor
    )


__all__ = ["START", "CountDistribution"]
