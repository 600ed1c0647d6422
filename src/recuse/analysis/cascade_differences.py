"""How much one chosen system has over another on the reporting halves, paired, with intervals."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from recuse.analysis.accounting import Account, Difference, sound_account
from recuse.analysis.cascade_pool import Pool
from recuse.analysis.cascade_splits import halves
from recuse.analysis.intervals import Interval
from recuse.analysis.split_results import SearchResult, SplitResult
from recuse.analysis.verdicts import Mask, Values

_Z = NormalDist().inv_cdf(0.975)
Chosen = Callable[[Pool, SplitResult], Account]


def cascade_over_core(result: SearchResult) -> Difference:
    """What the chosen cascades have over the core alone."""
    return _difference((result, _cascade), (result, _core))


def cascade_over_alone(result: SearchResult) -> Difference:
    """What the chosen cascades have over the robust model chosen to stand alone."""
    return _difference((result, _cascade), (result, _alone))


def cascade_over_cascade(result: SearchResult, other: SearchResult) -> Difference:
    """What the cascades of one search have over those of another, split by split.

    Args:
        result: Of the same samples, in the same splits, as ``other``.
        other: For example a search with fewer stages, or with another network.
    """
    return _difference((result, _cascade), (other, _cascade))


def _cascade(pool: Pool, split: SplitResult) -> Account:
    if split.mixture:
        mixed = dict(pool.mixtures)[split.mixture]
        return Account(mixed.accurate, mixed.robust)
    return sound_account([pool.stages[pool.names.index(n)] for n in split.stages], pool.core)


def _core(pool: Pool, split: SplitResult) -> Account:
    return Account(pool.core.accurate, pool.core.accurate & pool.core.robust)


def _alone(pool: Pool, split: SplitResult) -> Account:
    stage = pool.stages[pool.networks.index(split.alone)]
    return Account(stage.accurate, stage.accurate & stage.robust)


def _difference(
    first: tuple[SearchResult, Chosen], second: tuple[SearchResult, Chosen]
) -> Difference:
    """Sums over the splits, sample by sample, of what is reported of both."""
    (result, choose), (other, choose_other) = first, second
    pool = result.pool
    natural, robust, asked = np.zeros((3, pool.samples))
    for one, two in zip(result.splits, other.splits, strict=True):
        half = halves(pool.samples, one.seed)[1]
        mine, theirs = choose(pool, one), choose_other(other.pool, two)
        natural += half * _minus(mine.natural, theirs.natural)
        robust += half * _minus(mine.robust, theirs.robust)
        asked += half
    return Difference(_interval(natural, asked), _interval(robust, asked))


def _minus(first: Mask, second: Mask) -> Values:
    return first.astype(np.float64) - second


def _interval(sums: Values, asked: Values) -> Interval:
    """Mean over all reported answers; 95 % by the spread between samples (ratio estimate)."""
    total = float(asked.sum())
    mean = float(sums.sum()) / total
    reported = asked > 0
    count = int(np.count_nonzero(reported))
    spread = float(np.sum((sums[reported] - mean * asked[reported]) ** 2))
    error = _Z * float(np.sqrt(spread * count / max(count - 1, 1))) / total
    return Interval(mean, mean - error, mean + error)
