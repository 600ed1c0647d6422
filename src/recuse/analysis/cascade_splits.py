"""Cascades chosen on one half of the samples and reported on the other, many times over."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from recuse.analysis.accounting import Account, sound_account
from recuse.analysis.bits import Numbers
from recuse.analysis.cascade_pool import Pool
from recuse.analysis.cascade_search import DEFAULT_BUDGET, Found, best_cascade, spare
from recuse.analysis.fronts import ROUNDING, most_robust
from recuse.analysis.metrics import share
from recuse.analysis.searchable import Stacked
from recuse.analysis.verdicts import Mask
from recuse.errors import ConfigError

# Asks for a natural loss as it is counted on the choosing half.
AS_COUNTED = 0.5


@dataclass(frozen=True)
class HalfRates:
    """Rates of the chosen systems on one half of the samples.

    Attributes:
        natural: Accuracy of the deployed cascade.
        sound: Its robust accuracy by the sound accounting.
        core_natural: Accuracy of the core alone.
        core_robust: Robust accuracy of the core alone.
        alone_natural: Accuracy of the chosen robust model alone.
        alone_robust: Its robust accuracy.
    """

    natural: float
    sound: float
    core_natural: float
    core_robust: float
    alone_natural: float
    alone_robust: float


@dataclass(frozen=True)
class SplitResult:
    """One split: what was chosen, and what it is worth on samples that did not choose it.

    Attributes:
        seed: Of the split.
        stages: Names of the stages in order; empty where nothing beat the core alone, or where a
            mixture did.
        mixture: Name of the mixture that beat every cascade; empty where none did.
        alone: The robust model that was chosen to stand alone: the most robust of those that keep
            within the allowed natural loss, or of all where none does.
        better_alone: On the choosing half it keeps within that loss and is more robust than the
            chosen cascade: then no cascade is called for.
        choosing: Rates on the half that chose.
        reporting: Rates on the other half.
        bound: No cascade of the pool exceeds this sound rate on the choosing half.
        optimal: The choice is the best there is, not only the best found within the budget.
    """

    seed: int
    stages: tuple[str, ...]
    mixture: str
    alone: str
    better_alone: bool
    choosing: HalfRates
    reporting: HalfRates
    bound: float
    optimal: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON values; the rates of the reporting half stand at the top."""
        return {
            "seed": self.seed,
            "stages": list(self.stages),
            "mixture": self.mixture or None,
            "alone": self.alone,
            "better_alone": self.better_alone,
            **asdict(self.reporting),
            "choosing": asdict(self.choosing) | {"bound": self.bound},
            "optimal": self.optimal,
        }


@dataclass(frozen=True)
class SearchResult:
    """Every split of a search, and their means.

    Attributes:
        pool: What was searched.
        max_stages: Stages allowed in front of the core.
        max_natural_loss: Natural accuracy that may be given up on the choosing half.
        splits: One a split.
        sure: How sure the choosing half was to be that this much is given up at most.
    """

    pool: Pool
    max_stages: int
    max_natural_loss: float
    splits: tuple[SplitResult, ...]
    sure: float = AS_COUNTED

    @property
    def kept(self) -> int:
        """In how many splits no more than that was given up on the reporting half."""
        losses = (one.reporting.core_natural - one.reporting.natural for one in self.splits)
        return sum(loss <= self.max_natural_loss + ROUNDING for loss in losses)

    @property
    def better_alone(self) -> int:
        """In how many splits a model alone is better than the cascade, on the choosing half."""
        return sum(split.better_alone for split in self.splits)

    @property
    def mean(self) -> HalfRates:
        """Means over the reporting halves."""
        return HalfRates(*self._columns().mean(axis=0))

    @property
    def deviation(self) -> HalfRates:
        """Standard deviations over the splits (0 for one split)."""
        return HalfRates(*self._columns().std(axis=0))

    def as_dict(self) -> dict[str, Any]:
        """JSON values: settings, ``splits``, and the ``mean`` over the reporting halves."""
        pool = self.pool
        return {
            "dataset": pool.dataset,
            "norm": pool.norm,
            "eps": pool.eps,
            "max_stages": self.max_stages,
            "max_natural_loss": self.max_natural_loss,
            "sure": self.sure,
            "kept": self.kept,
            "core": pool.core_name,
            "pool": list(pool.names),
            "left_out": dict(pool.left_out),
            "samples": pool.samples,
            "splits": [split.as_dict() for split in self.splits],
            "mean": {name: float(value) for name, value in asdict(self.mean).items()},
            "deviation": {name: float(value) for name, value in asdict(self.deviation).items()},
        }

    def _columns(self) -> np.ndarray:
        rates = [tuple(asdict(split.reporting).values()) for split in self.splits]
        return np.array(rates, dtype=np.float64)


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
