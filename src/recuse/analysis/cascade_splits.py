"""Cascades chosen on one half of the samples and reported on the other, many times over."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from recuse.analysis.accounting import Account, sound_account
from recuse.analysis.bits import Numbers
from recuse.analysis.cascade_pool import Pool
from recuse.analysis.cascade_search import DEFAULT_BUDGET, Found, best_cascade
from recuse.analysis.fronts import ROUNDING, most_robust
from recuse.analysis.intervals import spare
from recuse.analysis.metrics import share
from recuse.analysis.searchable import Stacked
from recuse.analysis.split_results import AS_COUNTED, HalfRates, SearchResult, SplitResult
from recuse.analysis.verdicts import Mask
from recuse.errors import ConfigError


def search_splits(
    pool: Pool,
    *,
    max_natural_loss: float,
    max_stages: int,
    splits: int,
    sure: float = AS_COUNTED,
    seed: int = 0,
    budget: int = DEFAULT_BUDGET,
    report: Callable[[int], None] = lambda done: None,
) -> SearchResult:
    """Choose the best cascade on one half of the samples, report it on the other, repeatedly.

    Args:
        pool: Models and core.
        max_natural_loss: Share of natural accuracy that the cascade may lose against the core
            on the choosing half.
        max_stages: At most this many stages in front of the core.
        splits: Number of random halves.
        sure: How sure the choosing half must be that no more is lost on other samples, one-sided:
            the higher, the less is given up; 0.5 takes the loss as it is counted there.
        seed: Of the first split; split i uses ``seed + i``.
        budget: Prefixes a search may expand.
        report: Told the number of splits done after each.

    Raises:
        ConfigError: Settings that leave nothing to search or to report.
    """
    if splits < 1 or max_stages < 1:
        raise ConfigError(f"splits ({splits}) and stages ({max_stages}) must be at least 1")
    if not 0 <= max_natural_loss < 1:
        raise ConfigError(f"the natural loss {max_natural_loss} must be a share from 0 to below 1")
    if not AS_COUNTED <= sure < 1:
        raise ConfigError(f"how sure a search is ({sure}) must be a share from 0.5 to below 1")
    if pool.samples < 2:
        raise ConfigError(f"{pool.samples} samples cannot be split into two halves")
    results = []
    stacked = Stacked.of(pool.stages, pool.core, [mixed for _, mixed in pool.mixtures])
    asked = _Asked(max_natural_loss, NormalDist().inv_cdf(sure), max_stages, budget)
    for number in range(seed, seed + splits):
        results.append(_one_split(pool, stacked, number, asked))
        report(len(results))
    return SearchResult(pool, max_stages, max_natural_loss, tuple(results), sure)


@dataclass(frozen=True)
class _Asked:
    """What is asked of every split."""

    loss: float
    deviations: float
    max_stages: int
    budget: int


@lru_cache(maxsize=32)  # every setting of a search is asked about the same splits
def halves(samples: int, seed: int) -> tuple[Mask, Mask]:
    """Two random halves as masks: the one that chooses (the smaller), the one that reports.

    numpy promises that this old generator's stream never changes, so that a published split
    can be drawn again.
    """
    order = np.random.RandomState(seed).permutation(samples)
    choosing = np.zeros(samples, dtype=np.bool_)
    choosing[order[: samples // 2]] = True
    reporting = ~choosing
    choosing.flags.writeable = reporting.flags.writeable = False
    return choosing, reporting


def _one_split(pool: Pool, stacked: Stacked, seed: int, asked: _Asked) -> SplitResult:
    choosing, reporting = halves(pool.samples, seed)
    size = int(np.count_nonzero(choosing))
    right = int(np.count_nonzero(pool.core.accurate & choosing))
    floor = int(np.ceil(right - asked.loss * size - ROUNDING))
    found: Found = best_cascade(
        stacked.on(choosing),
        floor=floor,
        max_stages=asked.max_stages,
        budget=asked.budget,
        deviations=asked.deviations,
    )
    alone, within = _stand_alone(pool, choosing, asked)
    natural, robust, apart = stacked.mixed(choosing)
    near = natural - spare(apart, asked.deviations) >= floor
    mixture = _best_mixture(natural, robust, near, (found.sound, found.natural))
    chosen = _rates(pool, found.stages, alone, choosing, mixture)
    return SplitResult(
        seed=seed,
        stages=() if mixture is not None else tuple(pool.names[i] for i in found.stages),
        mixture="" if mixture is None else pool.mixtures[mixture][0],
        alone=pool.networks[alone],
        better_alone=within and chosen.alone_robust > chosen.sound,
        choosing=chosen,
        reporting=_rates(pool, found.stages, alone, reporting, mixture),
        bound=max(found.bound / size, chosen.sound),
        optimal=found.optimal,
    )


def _stand_alone(pool: Pool, half: Mask, asked: _Asked) -> tuple[int, bool]:
    """The model to stand alone: the most robust within the loss, or of all where none is.

    Every stage of a network has its verdicts, of which the first is asked.

    Returns:
        Its place, and whether it is within the loss.
    """
    places = [pool.networks.index(name) for name in dict.fromkeys(pool.networks)]
    stages = [pool.stages[i] for i in places]
    accurate, size = pool.core.accurate, int(np.count_nonzero(half))
    apart = [np.count_nonzero((stage.accurate ^ accurate) & half) for stage in stages]
    least = spare(np.array(apart), asked.deviations) / size
    natural = np.array([share(stage.accurate, half) for stage in stages]) - least
    robust = [share(stage.accurate & stage.robust, half) for stage in stages]
    best = most_robust(natural, robust, core=share(accurate, half), loss=asked.loss)
    anyone = most_robust(natural, robust, core=0.0, loss=1.0)
    assert anyone is not None  # a pool has a stage
    return places[anyone if best is None else best], best is not None


def _best_mixture(
    natural: Numbers, robust: Numbers, near: Mask, cascade: tuple[int, int]
) -> int | None:
    """The mixture with most sound robust samples of those near enough, if it beats a cascade."""
    places = np.flatnonzero(near)
    if not places.size:
        return None
    first = places[np.lexsort((-natural[places], -robust[places]))[0]]
    return int(first) if (robust[first], natural[first]) > cascade else None


def _rates(
    pool: Pool, chosen: tuple[int, ...], alone: int, half: Mask, mixture: int | None
) -> HalfRates:
    core, single = pool.core, pool.stages[alone]
    account = sound_account([pool.stages[i] for i in chosen], core)
    if mixture is not None:
        mixed = pool.mixtures[mixture][1]
        account = Account(mixed.accurate, mixed.robust)
    return HalfRates(
        natural=share(account.natural, half),
        sound=share(account.robust, half),
        core_natural=share(core.accurate, half),
        core_robust=share(core.accurate & core.robust, half),
        alone_natural=share(single.accurate, half),
        alone_robust=share(single.accurate & single.robust, half),
    )
