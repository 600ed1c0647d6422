"""How far apart differently labelled images are: what radius the data permit.

A data set is r-separated if every two images of different classes are at least 2r apart; then a
classifier exists that is accurate and robust at radius r on all of it.

Source: Yang, Rashtchian, Zhang, Salakhutdinov, Chaudhuri, "A Closer Look at Accuracy vs.
Robustness", NeurIPS 2020, Section 3.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from recuse.errors import ConfigError, DataError
from recuse.geometry.nearest_l2 import L2Index
from recuse.geometry.nearest_linf import LinfIndex
from recuse.geometry.tally import Points, Tally
from recuse.progress import Progress, silent
from recuse.radius import Norm

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_CHUNK = 128
_BINS = 40


@runtime_checkable
class NearestIndex(Protocol):
    """Searches prepared references."""

    def search(self, queries: Points, rows: range, tally: Tally) -> None:
        """Find the nearest other-class references of ``rows``, into ``tally``."""
        ...


INDEXES: dict[Norm, Callable[[Points, Points], NearestIndex]] = {
    "linf": LinfIndex.build,
    "l2": L2Index.build,
}


@dataclass(frozen=True)
class NearPair:
    """Two differently labelled images and their distance.

    Attributes:
        distance: In pixel units of the norm.
        query: Row of the query images.
        reference: Row of the reference images.
    """

    distance: float
    query: int
    reference: int


@dataclass(frozen=True, eq=False)
class Separation:
    """Nearest other-class distances of one set of images to another.

    Attributes:
        norm: ``"linf"`` or ``"l2"``.
        distance: Per query, the exact distance to the nearest reference of another class.
        neighbour: Per query, the row of that reference (the lowest, on ties).
        pair_distance: ``[classes, classes]``: smallest distance between a query of the row's
            class and a reference of the column's; NaN on the diagonal and where there is none.
        pair_rows: ``[classes, classes, 2]``: that query and reference; -1 where there is none.
        within_one: Queries and references are the same images.
    """

    norm: Norm
    distance: npt.NDArray[np.float64]
    neighbour: npt.NDArray[np.int64]
    pair_distance: npt.NDArray[np.float64]
    pair_rows: npt.NDArray[np.int64]
    within_one: bool

    @property
    def minimum(self) -> float:
        """Smallest distance between differently labelled images."""
        return float(self.distance.min())

    @property
    def permitted_eps(self) -> float:
        """Largest radius r at which all the data are r-separated: half the minimum."""
        return self.minimum / 2

    def quantile(self, q: float) -> float:
        """Distance below which a share ``q`` of the queries has its nearest other class."""
        return float(np.quantile(self.distance, q))

    def within(self, eps: float) -> float:
        """Share of queries with another class within 2 eps: no classifier serves both there."""
        return float((self.distance < 2 * eps).mean())

    def histogram(
        self, edges: npt.NDArray[np.float64] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Counts of the distances between edges, by default those of :func:`bin_edges`."""
        chosen = bin_edges(self.norm, float(self.distance.max())) if edges is None else edges
        return np.histogram(self.distance, bins=chosen)[0].astype(np.int64), chosen

    def nearest_pairs(self, n: int) -> list[NearPair]:
        """The ``n`` closest (query, nearest reference) pairs.

        Within one set of images a pair counts once, whichever of the two is asked.
        """
        found: dict[tuple[int, int], NearPair] = {}
        for row in np.argsort(self.distance, kind="stable").tolist():
            if len(found) >= n:
                break
            other = int(self.neighbour[row])
            key = (min(row, other), max(row, other)) if self.within_one else (row, other)
            found.setdefault(key, NearPair(float(self.distance[row]), row, other))
        return list(found.values())

    def summary(
        self,
        label_names: tuple[str, ...] | None = None,
        edges: npt.NDArray[np.float64] | None = None,
    ) -> dict[str, Any]:
        """All figures as JSON values; ``edges`` of the histogram."""
        counts, edges = self.histogram(edges)
        names = label_names or tuple(str(k) for k in range(len(self.pair_distance)))
        return {
            "norm": self.norm,
            "queries": len(self.distance),
            "minimum": self.minimum,
            "permitted_eps": self.permitted_eps,
            "permitted_eps_for_95_percent": self.quantile(0.05) / 2,
            "quantiles": {f"{q:g}": self.quantile(q) for q in QUANTILES},
            "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
            "classes": list(names),
            "class_pair_minimum": [
                [None if np.isnan(d) else d for d in row] for row in self.pair_distance.tolist()
            ],
        }


def bin_edges(norm: Norm, top: float) -> npt.NDArray[np.float64]:
    """About forty equal bins from 0 to ``top``.

    For linf a bin holds a whole number of 8-bit levels, edges between the levels: otherwise
    neighbouring bins would hold different numbers of levels, and the histogram a comb.

    >>> (bin_edges("linf", 0.5)[:3] * 255).round(3).tolist()
    [-0.5, 3.5, 7.5]
    """
    if norm == "linf":
        step = max(math.ceil(top * 255 / _BINS), 1)
        return np.asarray((np.arange(0, 255 * top + step + 1, step) - 0.5) / 255)
    return np.linspace(0.0, max(top, 1e-12), _BINS + 1)


def separation(
    queries: tuple[Tensor, Tensor],
    references: tuple[Tensor, Tensor],
    *,
    norm: Norm,
    classes: int,
    workers: int | None = None,
    progress: Progress = silent,
) -> Separation:
    """Nearest other-class distance of every query, exactly.

    For train-train separation pass the training images twice; for test-train the test images
    as queries. Memory: one byte per pixel of both sets, and little more.

    Args:
        queries: Images in [0, 1] and labels.
        references: Images of the same shape and labels.
        norm: ``"linf"`` or ``"l2"``.
        classes: Number of classes.
        workers: Threads; default one per processor.
        progress: Called from the calling thread as queries are done.

    Returns:
        Distances, neighbours and the closest pair of every two classes. The same for any number
        of workers.

    Raises:
        DataError: Shapes differ, or some query has no reference of another class.
        ConfigError: ``workers`` below 1.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers cannot search; give 1 or more, or leave it out")
    if queries[0].shape[1:] != references[0].shape[1:]:
        raise DataError(
            f"images of shape {list(queries[0].shape[1:])} cannot be compared with images of "
            f"shape {list(references[0].shape[1:])}"
        )
    ours = Points.build(*queries)
    theirs = ours if queries[0] is references[0] else Points.build(*references)
    tally = Tally(ours, theirs, classes)
    index = INDEXES[norm](ours, theirs)
    _search_all(index, ours, tally, workers or os.cpu_count() or 1, progress)
    if not np.isfinite(tally.distance).all():
        raise DataError("all reference images have one class, so nothing separates them")
    distance = np.empty_like(tally.distance)
    neighbour = np.empty_like(tally.neighbour)
    distance[ours.order], neighbour[ours.order] = tally.distance, tally.neighbour
    pairs = np.where(np.isfinite(tally.pair), tally.pair, np.nan)
    return Separation(norm, distance, neighbour, pairs, tally.pair_rows, ours is theirs)


def _search_all(
    index: NearestIndex, queries: Points, tally: Tally, workers: int, progress: Progress
) -> None:
    total = len(queries)
    chunks = [range(a, min(a + _CHUNK, total)) for a in range(0, total, _CHUNK)]
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        jobs = {pool.submit(index.search, queries, rows, tally): len(rows) for rows in chunks}
        for job in as_completed(jobs):
            job.result()
            done += jobs[job]
            progress("separation", done, total)
