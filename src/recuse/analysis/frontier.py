"""What each mechanism is worth, chosen on one half of the samples and reported on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from recuse.analysis.accounting import Difference
from recuse.analysis.cascade_differences import (
    cascade_over_alone,
    cascade_over_cascade,
    cascade_over_core,
)
from recuse.analysis.cascade_pool import Pool, pool_of
from recuse.analysis.cascade_splits import search_splits
from recuse.analysis.mechanism_pool import INDICATOR, MECHANISMS, MIXTURES, mechanism_of
from recuse.analysis.mechanisms import silent_stage
from recuse.analysis.split_results import AS_COUNTED, SearchResult
from recuse.analysis.verdicts import Verdicts
from recuse.errors import RecordError
from recuse.records.schema import Record

ALL = "all of them"
# Natural accuracy against the core that may be given up while choosing.
LOSSES = (0.0, 0.01, 0.025, 0.05, 0.1, 0.15)
# The loss that tables are of, and how sure a choosing half is of it.
ALLOWED, SURE = 0.025, (0.8, 0.95)
SPLITS, STAGES, BUDGET = 20, 2, 300


@dataclass(frozen=True, eq=False)
class Searched:
    """One mechanism at one allowed loss.

    Attributes:
        mechanism: Its name, or that of all together.
        loss: What may be given up on the choosing half.
        result: Every split.
    """

    mechanism: str
    loss: float
    result: SearchResult


@dataclass(frozen=True, eq=False)
class Frontier:
    """Every mechanism on the networks of one data set, against one attacker.

    Attributes:
        pool: All systems.
        searches: Each mechanism at each allowed loss.
        surer: All together at ``ALLOWED``, by halves that are surer of it.
    """

    pool: Pool
    searches: tuple[Searched, ...]
    surer: tuple[SearchResult, ...] = ()

    @property
    def mechanisms(self) -> list[str]:
        """Every mechanism that was searched alone."""
        return [search.mechanism for search in self.at(self.searches[0].loss)][:-1]

    def at(self, loss: float) -> list[Searched]:
        """The mechanisms at one allowed loss."""
        return [search for search in self.searches if search.loss == loss]

    def over(self, loss: float, mechanism: str, *, by: str = ALL) -> Difference:
        """What the search over all mechanisms, or one of them, has over another, paired."""
        found = {search.mechanism: search.result for search in self.at(loss)}
        # The pool of all holds the systems of each.
        return cascade_over_cascade(replace(found[by], pool=self.pool), found[mechanism])

    def alone(self, loss: float) -> dict[str, Difference]:
        """What the search over all mechanisms has over each member by itself, paired."""
        found = self.at(loss)[-1].result
        return {
            "core alone": cascade_over_core(found),
            "robust network alone": cascade_over_alone(found),
        }

    def ahead(self, loss: float) -> str | None:
        """The mechanism that by itself dominates all of them together: :func:`ahead`."""
        *alone, every = self.at(loss)
        return ahead(every.result, {search.mechanism: search.result for search in alone})

    def best_alone(self, loss: float) -> str:
        """The mechanism that by itself leaves most robust accuracy."""
        alone = [search for search in self.at(loss) if search.mechanism != ALL]
        return max(alone, key=lambda search: search.result.mean.sound).mechanism


def frontier(
    networks: Sequence[Verdicts],
    eps: str,
    *,
    attacks: Sequence[Record] = (),
    losses: Sequence[float] = LOSSES,
    sure: Sequence[float] = SURE,
) -> Frontier:
    """Search the systems of each mechanism alone and of all together.

    Args:
        networks: A core and robust networks, judged with their worst probabilities; mechanisms
            that ask for more than their records hold are left out.
        eps: The attacker's radius.
        attacks: On whole systems of them; what these broke of a mixture is not counted.
        losses: Natural accuracy that may be given up, one search each.
        sure: How sure halves are of ``ALLOWED`` in searches of all together, one each.

    Raises:
        RecordError: See :func:`recuse.analysis.cascade_pool.pool_of`.
    """
    mechanisms = supported(networks, eps)
    pool = pool_of(networks, eps=eps, attacks=attacks, mechanisms=mechanisms)
    searches = [
        Searched(name, loss, _search(only(pool, name), loss))
        for loss in losses
        for name in (*mechanisms, ALL)
    ]
    return Frontier(pool, tuple(searches), tuple(_search(pool, ALLOWED, one) for one in sure))


def supported(networks: Sequence[Verdicts], eps: str) -> tuple[str, ...]:
    """The mechanisms for which the records of every network hold what they need."""

    def counted(name: str) -> bool:
        try:
            pool = pool_of(networks, eps=eps, mechanisms=(INDICATOR, name))
        except RecordError:
            return False
        return name == INDICATOR or len(pool.names) > len(set(pool.networks)) or bool(pool.mixtures)

    return tuple(name for name in MECHANISMS if counted(name))


def _search(pool: Pool, loss: float, sure: float = AS_COUNTED) -> SearchResult:
    return search_splits(
        pool, max_natural_loss=loss, sure=sure, max_stages=STAGES, splits=SPLITS, budget=BUDGET
    )


def only(pool: Pool, mechanism: str) -> Pool:
    """The systems of one mechanism; a mixture is one network and the core, no cascade."""
    if mechanism == ALL:
        return pool
    if mechanism in MIXTURES:
        chosen = tuple(m for m in pool.mixtures if mechanism_of(m[0]) == mechanism)
        silent = tuple(silent_stage(stage.accurate, stage.robust) for stage in pool.stages)
        return replace(pool, stages=silent, mixtures=chosen)
    kept = [
        place
        for place, (name, network) in enumerate(zip(pool.names, pool.networks, strict=True))
        if mechanism_of(name, network) == mechanism
    ]
    return replace(
        pool,
        names=tuple(pool.names[i] for i in kept),
        networks=tuple(pool.networks[i] for i in kept),
        stages=tuple(pool.stages[i] for i in kept),
        mixtures=(),
    )


def dominated(over: Difference) -> bool:
    """Whether a rival is no worse in either count, and better beyond the interval in one.

    Args:
        over: What the one in question has over the rival, paired.
    """
    ends = (over.natural, over.robust)
    return all(end.estimate <= 0 for end in ends) and any(end.high < 0 for end in ends)


def ahead(every: SearchResult, alone: Mapping[str, SearchResult]) -> str | None:
    """The mechanism that dominates the search over all of them, and so is the one to take.

    Its systems were chosen on choosing halves; it is picked by the reporting halves, on which its
    own rates are that much too good.

    Args:
        every: The search over all mechanisms.
        alone: That over each, of the same samples in the same splits.

    Returns:
        Of several the one that leaves most; None where none dominates.
    """
    found = [m for m, one in alone.items() if dominated(cascade_over_cascade(every, one))]
    return max(found, key=lambda m: alone[m].mean.sound, default=None)


__all__ = [
    "ALL",
    "ALLOWED",
    "LOSSES",
    "SPLITS",
    "Frontier",
    "Searched",
    "ahead",
    "dominated",
    "frontier",
    "only",
    "supported",
]
