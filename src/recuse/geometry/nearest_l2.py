"""Exact nearest neighbours of another class under the Euclidean norm.

Squared distances of a block come from one matrix product in float32, whose rounding error is
bounded; every reference that could be nearest within that error is measured in float64.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recuse.geometry.tally import Points, Tally

_BLOCK = 128
_COLUMNS = 8192


@dataclass(frozen=True, eq=False)
class L2Index:
    """References prepared for nearest-neighbour search under the Euclidean norm.

    Attributes:
        points: The references, sorted by class.
        squares: Squared length per sorted place.
    """

    points: Points
    squares: Tensor

    @classmethod
    def build(cls, queries: Points, references: Points) -> "L2Index":
        """Compute the squared lengths, in float64."""
        return cls(references, _squares(references))

    def search(self, queries: Points, rows: range, tally: Tally) -> None:
        """Find the nearest other-class references of some queries, into ``tally``."""
        for start in range(rows.start, rows.stop, _BLOCK):
            block = np.arange(start, min(start + _BLOCK, rows.stop))
            x = torch.from_numpy(queries.values(block))
            squares = x.double().square().sum(dim=1)
            approximate = self._approximate(x, squares)
            for i, row in enumerate(block):
                self._note(queries, int(row), approximate[i], float(squares[i]), tally)

    def _approximate(self, x: Tensor, squares: Tensor) -> npt.NDArray[np.float32]:
        out = torch.empty(len(x), len(self.points))
        for start in range(0, len(self.points), _COLUMNS):
            places = np.arange(start, min(start + _COLUMNS, len(self.points)))
            y = torch.from_numpy(self.points.values(places))
            lengths = squares[:, None] + self.squares[None, start : start + len(y)]
            torch.sub(lengths.float(), 2 * (x @ y.T), out=out[:, start : start + len(y)])
        return out.numpy()

    def _note(
        self,
        queries: Points,
        row: int,
        approximate: npt.NDArray[np.float32],
        square: float,
        tally: Tally,
    ) -> None:
        own = int(queries.labels[row])
        # Standard bound of a dot product's rounding error, for any order of summation.
        error = 2 * (self.points.width + 4) * float(np.finfo(np.float32).eps)
        error *= square + float(self.squares.max())
        approximate[self.points.segment(own)] = np.inf
        best = [
            start + int(approximate[start:end].argmin())
            for label, start, end in self.points.segments()
            if label != own
        ]
        if not best:
            return
        first = np.asarray(best, np.intp)
        tally.add(row, own, first, self._distances(queries, row, first))
        limits = np.repeat(tally.limits(row, own), self.points.counts)
        left = np.flatnonzero(approximate <= np.square(limits) * (1 + 1e-6) + error)
        left = left[self.points.labels[left] != own]
        tally.add(row, own, left, self._distances(queries, row, left))

    def _distances(
        self, queries: Points, row: int, at: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float64]:
        gaps = self.points.values(at).astype(np.float64) - queries.values(row)
        lengths: npt.NDArray[np.float64] = np.sqrt(np.square(gaps).sum(axis=1))
        return lengths


def _squares(points: Points) -> Tensor:
    parts = [
        torch.from_numpy(points.values(np.arange(start, min(start + _COLUMNS, len(points)))))
        for start in range(0, len(points), _COLUMNS)
    ]
    return torch.cat([part.double().square().sum(dim=1) for part in parts])
