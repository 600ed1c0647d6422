"""What cascades of a pool are worth on samples that did not choose them, at several settings."""

from collections.abc import Sequence
from dataclasses import dataclass

from recuse.analysis.cascade_pool import Pool, pool_of
from recuse.analysis.cascade_splits import search_splits
from recuse.analysis.compositions import Composition
from recuse.analysis.split_results import SearchResult
from recuse.errors import RecordError

# Natural accuracy against the core that may be given up while choosing.
ALLOWED_LOSSES = (0.0, 0.01, 0.05)
MAX_STAGES = (1, 2)
SPLITS = 20
_BUDGET = 2_000
_FEWEST_SAMPLES = 20


@dataclass(frozen=True)
class HeldOut:
    """Searches over one pool of models.

    Attributes:
        run: The run whose models they are.
        pool: The models.
        results: One for each allowed loss and number of stages, the shorter cascades first.
    """

    run: str
    pool: Pool
    results: tuple[SearchResult, ...]


def search_pool(
    pool: Pool, *, losses: Sequence[float], stages: Sequence[int], run: str = ""
) -> HeldOut:
    """Choose on one half of the samples, report on the other, at every setting.

    Args:
        pool: Models and core.
        losses: Natural accuracy against the core that may be given up while choosing.
        stages: Most stages in front of the core.
        run: The run whose models they are.
    """
    results = tuple(
        search_splits(pool, max_natural_loss=loss, max_stages=most, splits=SPLITS, budget=_BUDGET)
        for loss in losses
        for most in stages
    )
    return HeldOut(run, pool, results)


def held_out(compositions: Sequence[Composition]) -> list[HeldOut]:
    """Choose on one half of the samples, report on the other, for every run and radius.

    Questions with a single robust model need no choosing and are left out, as are those with
    too few samples to halve.
    """
    groups: dict[tuple[str, ...], list[Composition]] = {}
    for c in compositions:
        if c.stage.run == c.core.run:
            meta = c.stage.meta
            key = (c.stage.run, meta.dataset, meta.norm, c.eps, c.core.meta.model)
            groups.setdefault(key, []).append(c)
    found = [
        _search(run, group)
        for (run, *_), group in groups.items()
        if len({c.stage.meta.model for c in group}) > 1 and group[0].samples >= _FEWEST_SAMPLES
    ]
    return [search for search in found if search is not None]


def _search(run: str, group: Sequence[Composition]) -> HeldOut | None:
    """None where the models were not all judged by the attacks that judged the core."""
    core = group[0].core
    try:
        pool = pool_of([core, *(c.stage for c in group)], eps=group[0].eps, core=core.meta.model)
    except RecordError:
        return None
    return search_pool(pool, losses=ALLOWED_LOSSES, stages=MAX_STAGES, run=run)


__all__ = ["ALLOWED_LOSSES", "MAX_STAGES", "SPLITS", "HeldOut", "held_out", "search_pool"]
