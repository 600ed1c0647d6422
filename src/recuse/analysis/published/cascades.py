"""Cascades of the published models, chosen on one half of the samples, reported on the other."""

from collections.abc import Iterator

from recuse.analysis.cascade_pool import Pool, build_pool
from recuse.analysis.held_out import HeldOut, search_pool
from recuse.analysis.published.logs import PublishedLogs
from recuse.errors import RecordError

_LOSSES = (0.0, 0.01)
_STAGES = (1, 2, 3)


def searched(book: PublishedLogs) -> Iterator[HeldOut]:
    """One search for every data set, radius and allowed loss, of one stage and of more."""
    for pool in _pools(book):
        for loss in _LOSSES:
            yield search_pool(pool, losses=(loss,), stages=_STAGES[: len(pool.names)])


def _pools(book: PublishedLogs) -> Iterator[Pool]:
    for dataset in book.datasets:
        core = book.core(dataset)
        records = [e.item.record for e in book.attacked(dataset) if e.raw.labelled]
        for eps in core.raw.radii() if core else []:
            try:
                yield build_pool(records, dataset=records[0].meta.dataset, eps=eps)
            except RecordError:
                continue  # no model was judged at twice this radius


__all__ = ["searched"]
