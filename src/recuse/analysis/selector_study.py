"""The comparison of ways to abstain: everything that its page says, from its kept rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recuse.analysis.accounting import CoreVerdicts
from recuse.analysis.attacked_settings import AttackedSetting, attacked, refuted
from recuse.analysis.operating_points import (
    EPS,
    Candidates,
    candidates,
    reachable,
    read_tables,
    settings,
)
from recuse.analysis.sweeps import Point, Tables, best_on, stacked
from recuse.analysis.verdicts import Mask
from recuse.records.layout import ATTACKED_SYSTEMS
from recuse.records.store import read_parquet

SPLITS = 20


def halves_at_random(count: int) -> list[Mask]:
    """Rows to choose on, for each of some random halves."""
    generator = np.random.default_rng(0)
    return [generator.permutation(count) < count // 2 for _ in range(SPLITS)]


def rates_of_splits(
    points: Sequence[Point], core: CoreVerdicts, cuts: Sequence[Mask], loss: float
) -> list[tuple[float, float, float]]:
    """Of the point chosen on each half, on the other: natural accuracy, lost, and sound bound.

    Halves on which no point loses little enough are left out.
    """
    natural, sound = stacked(points)
    picked = zip(best_on(natural, sound, cuts, core, loss=loss), cuts, strict=True)
    kept = [(i, ~cut) for i, cut in picked if i is not None]
    return [
        (
            float(natural[i, rest].mean()),
            float(natural[i, rest].mean() - core.accurate[rest].mean()),
            float(sound[i, rest].mean()),
        )
        for i, rest in kept
    ]


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that the comparison says, from its kept rows.

    Attributes:
        tables: What was measured, networks no longer robust where an adversary changed them.
        found: Every mechanism at its operating point, under the adversary.
        points: By radius and mechanism, all that a threshold can reach.
    """

    tables: Tables
    found: Sequence[AttackedSetting]
    points: Mapping[str, Candidates]


def read_study(folder: Path) -> Study:
    """The comparison from its rows alone.

    Raises:
        RecordError: Rows that are missing or damaged.
    """
    rows = read_parquet(folder / ATTACKED_SYSTEMS)
    tables = refuted(read_tables(folder), rows)
    thresholds = {eps: candidates(tables, eps) for eps in EPS}
    chosen = [setting for eps in EPS for setting in settings(tables, eps, thresholds[eps])]
    points = {eps: reachable(tables, eps, thresholds[eps]) for eps in EPS}
    return Study(tables, attacked(chosen, tables, rows), points)
