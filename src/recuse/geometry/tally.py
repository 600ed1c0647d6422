"""What a nearest-neighbour search reads and writes: points sorted by class, and the best so far."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np
import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Points:
    """Images as rows, sorted by class so that a class is one range.

    Attributes:
        images: float32 ``[n, pixels]`` in [0, 1], in the caller's order.
        order: Row of ``images`` at each sorted place.
        labels: Class at each sorted place, ascending.
    """

    images: Tensor
    order: npt.NDArray[np.intp]
    labels: npt.NDArray[np.int64]

    @classmethod
    def build(cls, images: Tensor, labels: Tensor) -> "Points":
        """Sort by class, stable."""
        y = labels.cpu().numpy()
        order = np.argsort(y, kind="stable")
        return cls(images.detach().cpu().flatten(1), order, y[order])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def width(self) -> int:
        """Pixels per image, all channels."""
        return self.images.shape[1]

    @cached_property
    def _ranges(self) -> dict[int, range]:
        found, starts = np.unique(self.labels, return_index=True)
        ends = [*starts[1:], len(self.labels)]
        return {int(k): range(int(a), int(b)) for k, a, b in zip(found, starts, ends, strict=True)}

    def segments(self) -> Iterator[tuple[int, int, int]]:
        """(class, start, end) of every class that occurs, ascending."""
        for label, places in self._ranges.items():
            yield label, places.start, places.stop

    def segment(self, label: int) -> slice:
        """Places of one class; empty where it does not occur."""
        places = self._ranges.get(label, range(0))
        return slice(places.start, places.stop)

    @cached_property
    def counts(self) -> npt.NDArray[np.intp]:
        """Number of images of every class that occurs, ascending by class."""
        return np.array([len(places) for places in self._ranges.values()], np.intp)

    @cached_property
    def present(self) -> npt.NDArray[np.int64]:
        """The classes that occur, ascending."""
        return np.array(list(self._ranges), np.int64)

    def values(self, places: npt.NDArray[np.intp] | int) -> npt.NDArray[np.float32]:
        """Images at sorted places, as float32 rows."""
        return np.asarray(self.images[self.order[places]].numpy())


@dataclass(eq=False)
class Tally:
    """The best found so far, per query and per pair of classes. Safe to fill from threads.

    Ties go to the lowest index in the caller's order, so the result does not depend on the
    order of work.

    Attributes:
        queries: The queries.
        references: The references.
        classes: Number of classes.
        distance: Nearest other-class distance per sorted query place.
        neighbour: Its reference, in the caller's order; -1 where there is none.
        pair: Nearest distance per (query class, reference class).
        pair_rows: Query and reference of that pair, in the caller's order.
    """

    queries: Points
    references: Points
    classes: int
    distance: npt.NDArray[np.float64] = field(init=False)
    neighbour: npt.NDArray[np.int64] = field(init=False)
    pair: npt.NDArray[np.float64] = field(init=False)
    pair_rows: npt.NDArray[np.int64] = field(init=False)
    _lock: Lock = field(init=False, default_factory=Lock)

    def __post_init__(self) -> None:
        self.distance = np.full(len(self.queries), np.inf)
        self.neighbour = np.full(len(self.queries), -1, np.int64)
        self.pair = np.full((self.classes, self.classes), np.inf)
        self.pair_rows = np.full((self.classes, self.classes, 2), -1, np.int64)

    def limits(self, row: int, own: int) -> npt.NDArray[np.float64]:
        """Per class that occurs among the references: beyond it nothing can change for ``row``."""
        pairs = self.pair[own, self.references.present]
        return np.asarray(np.maximum(pairs, self.distance[row]))

    def add(
        self,
        row: int,
        own: int,
        places: npt.NDArray[np.intp],
        distances: npt.NDArray[np.float64],
    ) -> None:
        """Note exact distances from query ``row`` of class ``own`` to other-class references."""
        if not len(places):
            return
        originals = self.references.order[places]
        best = np.lexsort((originals, distances))[0]
        self._note_query(row, float(distances[best]), int(originals[best]))
        labels = self.references.labels[places]
        with self._lock:
            near = distances <= self.pair[own, labels]
            for place in np.flatnonzero(near):
                key = (float(distances[place]), int(self.queries.order[row]), int(originals[place]))
                self._note_pair(own, int(labels[place]), key)

    def _note_query(self, row: int, distance: float, original: int) -> None:
        # A query belongs to one thread, so its own entry needs no lock.
        if (distance, original) < (self.distance[row], self.neighbour[row]) or (
            self.neighbour[row] < 0
        ):
            self.distance[row], self.neighbour[row] = distance, original

    def _note_pair(self, own: int, other: int, key: tuple[float, int, int]) -> None:
        if key < (self.pair[own, other], *self.pair_rows[own, other].tolist()):
            self.pair[own, other] = key[0]
            self.pair_rows[own, other] = key[1:]
