"""Fronts of models: who is not beaten in both coordinates, and how good the set is.

Both coordinates are "higher is better"; negate a coordinate to minimise it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Shares of the same samples that differ by rounding alone are equal.
ROUNDING = 1e-9

Points = Sequence[float] | npt.NDArray[np.float64]


def pareto(x: Points, y: Points) -> list[int]:
    """Indices of the points that no other point dominates, by rising ``x``.

    A point is dominated when another is at least as good in both coordinates and better in
    one. Of equal points the first is kept. Points with a NaN never belong to the front.

    >>> pareto([1.0, 2.0, 3.0, 2.0], [3.0, 2.0, 1.0, 1.0])
    [0, 1, 2]
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    order = sorted(np.flatnonzero(~(np.isnan(xs) | np.isnan(ys))), key=lambda i: (-xs[i], -ys[i]))
    front: list[int] = []
    best = -np.inf
    for index in order:
        if ys[index] > best:
            best = ys[index]
            front.append(int(index))
    return front[::-1]


def area_under_front(x: Points, y: Points, *, origin: tuple[float, float] = (0.0, 0.0)) -> float:
    """Area that the front dominates above ``origin``: larger is better, 1 is the unit square.

    Points outside the quadrant above ``origin`` add nothing. No point at all gives 0.

    >>> area_under_front([0.5, 1.0], [1.0, 0.5])
    0.75
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    area, left = 0.0, origin[0]
    for index in pareto(xs, ys):
        area += max(xs[index] - left, 0.0) * max(ys[index] - origin[1], 0.0)
        left = max(left, xs[index])
    return float(area)


def best_at_least(value: Points, constraint: Points, bound: float) -> int | None:
    """Index of the largest ``value`` among points with ``constraint >= bound``; None if none.

    "Best natural accuracy at a given robust accuracy" is
    ``best_at_least(natural, robust, bound)``. Ties go to the larger constraint.

    >>> best_at_least([0.9, 0.8, 0.7], [0.1, 0.5, 0.6], 0.4)
    1
    """
    values, constraints = np.asarray(value, dtype=np.float64), np.asarray(constraint, np.float64)
    fit = np.flatnonzero((constraints >= bound) & ~np.isnan(values))
    if not fit.size:
        return None
    return int(max(fit, key=lambda i: (values[i], constraints[i])))


def most_robust(natural: Points, robust: Points, *, core: float, loss: float) -> int | None:
    """The one rule of what is best: the most robust of those that cost little natural accuracy.

    Args:
        natural: Natural accuracies.
        robust: Robust accuracies, aligned.
        core: The core's natural accuracy.
        loss: How much of it may be given up.

    Returns:
        An index; None where nothing is within the loss.

    >>> most_robust([0.95, 0.94, 0.8], [0.2, 0.5, 0.9], core=0.95, loss=0.01)
    1
    """
    return best_at_least(robust, natural, core - loss - ROUNDING)
