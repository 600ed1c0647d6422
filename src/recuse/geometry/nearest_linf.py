"""Exact nearest neighbours of another class under the maximum norm, without all the arithmetic.

The largest difference over a few well chosen pixels is a lower bound of the largest over all.
Per query: (1) bound all references on ``screen`` pixels in 8-bit arithmetic; (2) measure the
most promising ones exactly, which gives an upper bound; (3) measure all references whose lower
bound does not exceed it. Nothing that could be nearest is skipped, so the answer is exact.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recuse.geometry.tally import Points, Tally

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_LEVELS = 255
_SCREEN = 40
_REFINE = (192, 768)
_PROMISING = 48
_SAMPLE_ROWS = 64
_SAMPLE_REFERENCES = 4096
_SAMPLE_PAIRS = 256
_PART = 4096
_EXACT = 1e-3


@dataclass(frozen=True, eq=False)
class LinfIndex:
    """References prepared for nearest-neighbour search under the maximum norm.

    Attributes:
        points: The references, sorted by class.
        queries: 8-bit levels of the queries, pixels in order of how many pairs they tell apart.
        levels: The same of the references.
        screen: The first pixels of ``levels``, one row per pixel.
        slack: Levels by which rounding to 8 bits may overstate a difference: 0 for 8-bit
            images, else 1.
    """

    points: Points
    queries: Bytes
    levels: Bytes
    screen: Bytes
    slack: int

    @classmethod
    def build(cls, queries: Points, references: Points) -> "LinfIndex":
        """Choose the screening pixels on a fixed sample of pairs and lay out the references."""
        order = _telling_order(queries, references)
        theirs, exact = _levels(references, order)
        ours, also = (theirs, exact) if queries is references else _levels(queries, order)
        screen = np.ascontiguousarray(theirs[:, :_SCREEN].T)
        return cls(references, ours, theirs, screen, 0 if exact and also else 1)

    def search(self, queries: Points, rows: range, tally: Tally) -> None:
        """Find the nearest other-class references of some queries, into ``tally``."""
        scratch = [np.empty(len(self.points), np.uint8) for _ in range(2)]
        bound = np.empty(len(self.points), np.uint8)
        for row in rows:
            own = int(queries.labels[row])
            self._lower_bound(row, bound, scratch)
            promising = self._promising(bound, own)
            tally.add(row, own, promising, self._distances(queries, row, promising))
            left = self._left(row, own, bound, tally)
            tally.add(row, own, left, self._distances(queries, row, left))

    def _lower_bound(self, row: int, bound: Bytes, scratch: list[Bytes]) -> None:
        high, low = scratch
        bound.fill(0)
        for pixels, value in zip(self.screen, self.queries[row], strict=False):
            np.maximum(pixels, value, out=high)
            np.minimum(pixels, value, out=low)
            np.subtract(high, low, out=high)
            np.maximum(bound, high, out=bound)

    def _promising(self, bound: Bytes, own: int) -> Indices:
        """The best of every other class, and the best overall."""
        found = []
        for label, start, end in self.points.segments():
            if label != own:
                found.append(start + int(bound[start:end].argmin()))
        if not found:
            return np.empty(0, np.intp)
        counts = np.bincount(bound, minlength=_LEVELS + 1)
        mine = self.points.segment(own)
        counts -= np.bincount(bound[mine], minlength=_LEVELS + 1)
        level = int(np.searchsorted(counts.cumsum(), _PROMISING))
        best = np.flatnonzero(bound < level)
        best = best[self.points.labels[best] != own]
        return np.asarray(np.union1d(np.asarray(found, np.intp), best))

    def _left(self, row: int, own: int, bound: Bytes, tally: Tally) -> Indices:
        """References that could still be nearest, after a few more pixels."""
        limits = np.ceil(tally.limits(row, own).clip(max=1.0) * _LEVELS - 1e-6) + self.slack
        levels = limits.clip(max=_LEVELS).astype(np.uint8)
        thresholds = np.repeat(levels, self.points.counts)
        left: Indices = np.flatnonzero(bound <= thresholds)
        left = left[self.points.labels[left] != own]
        start = len(self.screen)
        for end in _REFINE:
            some = slice(start, end)
            apart = _levels_apart(self.levels[left, some], self.queries[row, some])
            left, start = left[apart <= thresholds[left]], end
        return left

    def _distances(self, queries: Points, row: int, at: Indices) -> Floats:
        if self.slack == 0:
            return np.asarray(_levels_apart(self.levels[at], self.queries[row]) / _LEVELS)
        gaps = self.points.values(at).astype(np.float64) - queries.values(row)
        return np.asarray(np.abs(gaps).max(axis=1, initial=0.0))


def _levels(points: Points, order: Indices) -> tuple[Bytes, bool]:
    """8-bit levels with the pixels in ``order``, and whether they lose nothing."""
    out = np.empty((len(points), points.width), np.uint8)
    exact = True
    # In parts: a float copy of all images would double the memory.
    for start in range(0, len(points), _PART):
        places = np.arange(start, min(start + _PART, len(points)))
        values = points.values(places) * np.float32(_LEVELS)
        rounded = np.rint(values)
        exact = exact and bool(np.abs(values - rounded).max() < _EXACT)
        out[places] = np.take(rounded.astype(np.uint8), order, axis=1)
    return out, exact


def _levels_apart(a: Bytes, b: Bytes) -> npt.NDArray[np.uint8]:
    return np.asarray((np.maximum(a, b) - np.minimum(a, b)).max(axis=-1, initial=0))


def _telling_order(queries: Points, references: Points) -> Indices:
    """Pixels, greedily: each next one separates most of the sampled pairs still together.

    A pair counts as separated by a pixel where it differs by more than the query's nearest
    distance (estimated on a sample). The order decides speed only, never the result.
    """
    draw = np.random.default_rng(0)
    rows = draw.integers(0, len(queries), _SAMPLE_ROWS)
    at = draw.choice(len(references), min(_SAMPLE_REFERENCES, len(references)), replace=False)
    some = references.values(at)
    pairs = [np.zeros((0, references.width), bool)]
    for row in rows.tolist():
        gaps = np.abs(some[references.labels[at] != queries.labels[row]] - queries.values(row))
        if len(gaps):
            kept = draw.integers(0, len(gaps), _SAMPLE_PAIRS)
            pairs.append(gaps[kept] > gaps.max(axis=1).min())
    separated = np.concatenate(pairs)
    chosen: list[int] = []
    while len(separated) and len(chosen) < _REFINE[0]:
        counts = np.count_nonzero(separated, axis=0)
        best = int(counts.argmax())
        if counts[best] == 0:
            break
        chosen.append(best)
        separated = separated[~separated[:, best]]
    rest = np.setdiff1d(np.arange(references.width), chosen)
    return np.concatenate([np.asarray(chosen, np.intp), draw.permutation(rest)])
