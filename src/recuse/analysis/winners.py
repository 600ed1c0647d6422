"""Who wins a column of a table: only who is better than all others beyond their intervals."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import polars as pl

from recuse.analysis.intervals import paired_difference
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Mask

_RESAMPLES = 2_000


@dataclass(frozen=True, eq=False)
class Outcome:
    """A property of each sample, for one system.

    Attributes:
        ids: Sample ids, aligned with ``holds``.
        holds: Whether it has the property.
    """

    ids: pl.Series
    holds: Mask


def winners(
    outcomes: Sequence[Outcome | None], groups: Sequence[Hashable], *, smallest: bool = False
) -> frozenset[int]:
    """Of each group the one entry, if any, that wins against every other.

    Args:
        outcomes: One entry a row; None for what was not judged, which takes no part.
        groups: What each row is compared within.
        smallest: The lowest rate wins, instead of the highest.

    Returns:
        Places in ``outcomes``. A group has a winner where at least two entries were judged on
        the same samples and the 95 % interval of every paired difference to it leaves out 0.
    """
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        if outcomes[row] is not None:
            rows.setdefault(group, []).append(row)
    found = (
        _winner([(row, o) for row in places if (o := outcomes[row]) is not None], smallest)
        for places in rows.values()
    )
    return frozenset(row for row in found if row is not None)


def _winner(entries: Sequence[tuple[int, Outcome]], smallest: bool) -> int | None:
    ranked = sorted(entries, key=lambda entry: rate(entry[1].holds), reverse=not smallest)
    if len(ranked) < 2:
        return None
    row, top = ranked[0]
    return row if all(beats(top, other, smallest) for _, other in ranked[1:]) else None


def beats(top: Outcome, other: Outcome, smallest: bool = False) -> bool:
    """Whether ``top`` is better beyond the interval; never so on different samples, or none."""
    if not top.ids.equals(other.ids) or not len(top.ids):
        return False
    over = paired_difference(top.holds, other.holds, resamples=_RESAMPLES)
    return over.high < 0 if smallest else over.low > 0
