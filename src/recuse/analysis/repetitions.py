"""Models that were trained several times: means and standard deviations over their seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from recuse.analysis.intervals import Interval
from recuse.analysis.measured import Measured


@dataclass(frozen=True)
class OverSeeds:
    """A rate over several trainings.

    Attributes:
        mean: Of the estimates.
        sd: Standard deviation between them.
    """

    mean: float
    sd: float


@dataclass(frozen=True)
class Repetition:
    """Trainings that differ in their ``seed`` tag alone.

    Attributes:
        first: One of them.
        seeds: How many there are.
        natural: Natural accuracy.
        robust: Robust accuracy.
        robust_inaccuracy: Robust inaccuracy.
    """

    first: Measured
    seeds: int
    natural: OverSeeds
    robust: OverSeeds
    robust_inaccuracy: OverSeeds


def repetitions(rates: Sequence[Measured]) -> list[Repetition]:
    """Every model that was trained more than once, at each radius."""
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for m in rates:
        if m.model.tag("seed") and m.natural:
            groups.setdefault(_recipe(m), []).append(m)
    return [
        Repetition(
            group[0],
            len(group),
            _over([m.natural for m in group]),
            _over([m.robust for m in group]),
            _over([m.robust_inaccuracy for m in group]),
        )
        for group in groups.values()
        if len(group) > 1
    ]


def _recipe(m: Measured) -> tuple[str, ...]:
    tags = {k: v for k, v in m.model.meta.tags.items() if k != "seed"}
    parts = (m.model.run, m.model.meta.dataset, m.model.meta.norm, m.eps, m.kind)
    return (*parts, json.dumps(tags, sort_keys=True, default=str))


def _over(intervals: Sequence[Interval | None]) -> OverSeeds:
    values = [i.estimate for i in intervals if i is not None]
    return OverSeeds(mean(values), stdev(values))


__all__ = ["OverSeeds", "Repetition", "repetitions"]
