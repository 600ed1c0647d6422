"""What a search over random halves found: every split, and what they say together."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recuse.analysis.cascade_pool import Pool
from recuse.analysis.fronts import ROUNDING

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


__all__ = ["AS_COUNTED", "HalfRates", "SearchResult", "SplitResult"]
