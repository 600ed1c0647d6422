"""Mechanisms as functions of a threshold, judged by the sound accounting on measured samples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recuse.analysis.accounting import (
    Account,
    CoreVerdicts,
    StageVerdicts,
    paper_account,
    sound_account,
)
from recuse.analysis.compositions import core_of, stage_of
from recuse.analysis.mechanism_pool import SELECTING, sure_margin
from recuse.analysis.mechanisms import mixture_core
from recuse.analysis.verdicts import Mask, Values, Verdicts

GRID = 40
# What the page calls a selector, and the selector; the indicator has no threshold.
SELECTORS = {
    "robust margin": "robust-margin",
    "softmax response": "softmax",
    "softmax over the ball": "robust-softmax",
    "selection network": "network",
}
# Below one half a class may reach the threshold and not be the answer.
LOWEST = {"softmax": 0.5 + 1e-6, "robust-softmax": 0.5 + 1e-6, "robust-margin": 0.0}


@dataclass(frozen=True, eq=False)
class Tables:
    """What was measured of every network.

    Attributes:
        networks: By name, all that any record says of it.
        mixture: Whether each mixture answers rightly, by the robust network's weight.
        confident: How sure of a wrong answer attacks of several kinds made one network.
    """

    networks: Mapping[str, Verdicts]
    mixture: pl.DataFrame
    confident: pl.DataFrame

    def __getitem__(self, name: str) -> Verdicts:
        return self.networks[name]


@dataclass(frozen=True)
class Point:
    """One composition at one setting.

    Attributes:
        mechanism: How its stages select.
        models: Classifier of each stage, in order.
        thresholds: Threshold of each stage, in order.
        natural: H(x) = y, per sample.
        sound: The sound bound, per sample; None where nothing that was measured gives one.
    """

    mechanism: str
    models: tuple[str, ...]
    thresholds: tuple[float, ...]
    natural: Mask
    sound: Mask | None


def column(table: pl.DataFrame, name: str) -> Values:
    """A column as floats."""
    return table[name].to_numpy().astype(np.float64)


def verdict(table: pl.DataFrame, name: str) -> Mask:
    """A column of verdicts."""
    return table[name].to_numpy().astype(bool)


def stage_at(
    tables: Tables, mechanism: str, model: str, eps: str, threshold: float
) -> StageVerdicts:
    """A network behind a selector."""
    if mechanism == "indicator":
        return stage_of(tables[model], eps)
    return SELECTING[SELECTORS[mechanism]].behind(tables[model], eps)(threshold=threshold)


def mixture(tables: Tables, robust: str, standard: str, eps: str, share: float) -> CoreVerdicts:
    """Weighted probabilities of two networks, from the smallest margin of each over the ball."""
    right = verdict(tables.mixture, f"accurate@{share:g}")
    margins = [least_margin(tables[name], eps) for name in (robust, standard)]
    return mixture_core(right, *margins, share=share)


def least_margin(model: Verdicts, eps: str) -> Values:
    """Smallest margin of the true class over the ball; -1, which bounds any, where it is wrong.

    Where only robustness was measured, a robust answer has at least a margin of 0.
    """
    right = model.accurate()
    if not model.has("stable_margin", eps):
        return np.where(right & model.robust(eps), 0.0, -1.0)
    return np.where(right, sure_margin(model, eps, "stable_margin"), -1.0)


def grid(tables: Tables, mechanism: str, model: str, eps: str) -> list[float]:
    """Thresholds worth looking at: quantiles of the scores that are compared with them."""
    if mechanism == "indicator":
        return [0.0]
    kind, table = SELECTORS[mechanism], tables[model]
    scores = SELECTING[kind].scores(table, eps)
    if kind == "network":
        scores = np.concatenate([scores, table.searched("least_score", eps)])
    found = np.unique(np.quantile(scores, np.linspace(0, 1, GRID, endpoint=False)))
    lowest = LOWEST.get(kind, -np.inf)
    return [float(tau) for tau in found if tau >= lowest]


def compose(
    tables: Tables, core: str, eps: str, mechanism: str, stages: Iterable[tuple[str, float]]
) -> Point:
    """A composition of stages that select alike, before the core."""
    chosen = list(stages)
    parts = [stage_at(tables, mechanism, model, eps, tau) for model, tau in chosen]
    return _counted(mechanism, chosen, parts, core_of(tables[core], eps))


def _counted(
    mechanism: str,
    chosen: Sequence[tuple[str, float]],
    parts: Sequence[StageVerdicts],
    core: CoreVerdicts,
) -> Point:
    """A composition whose stages and core are at hand."""
    account = sound_account(parts, core)
    return Point(
        mechanism,
        tuple(model for model, _ in chosen),
        tuple(tau for _, tau in chosen),
        account.natural,
        account.robust,
    )


def accounts_of(tables: Tables, core: str, eps: str, model: str) -> tuple[Account, Account]:
    """The indicator composition by the paper's accounting and by the sound one."""
    stages, last = [stage_of(tables[model], eps)], core_of(tables[core], eps)
    return paper_account(stages, last), sound_account(stages, last)


def sweep(
    tables: Tables, core: str, eps: str, mechanism: str, models: Iterable[str]
) -> list[Point]:
    """Every model at every threshold, one stage each."""
    return [
        compose(tables, core, eps, mechanism, [(model, tau)])
        for model in models
        for tau in grid(tables, mechanism, model, eps)
    ]


def sweep_pairs(
    tables: Tables, core: str, eps: str, mechanism: str, models: Iterable[str], *, every: int = 3
) -> list[Point]:
    """Every ordered pair of stages on a coarser grid of thresholds."""
    members = {
        (model, tau): stage_at(tables, mechanism, model, eps, tau)
        for model in models
        for tau in grid(tables, mechanism, model, eps)[::every]
    }
    last = core_of(tables[core], eps)
    return [
        _counted(mechanism, [first, second], [members[first], members[second]], last)
        for first in members
        for second in members
        if first[0] != second[0]
    ]


def best(points: Sequence[Point], rows: Mask, core: CoreVerdicts, *, loss: float) -> Point | None:
    """The point of highest sound robust accuracy on ``rows`` that loses at most ``loss`` there."""
    found = best_on(*stacked(points), [rows], core, loss=loss)
    return None if found[0] is None else points[found[0]]


def stacked(points: Sequence[Point]) -> tuple[Mask, Mask]:
    """Natural answers and sound bounds, one row a point."""
    return np.array([p.natural for p in points]), np.array([p.sound for p in points])


def best_on(
    natural: Mask, sound: Mask, halves: Iterable[Mask], core: CoreVerdicts, *, loss: float
) -> list[int | None]:
    """Index of the best point for each choice of rows; None where none loses little enough."""
    found: list[int | None] = []
    for rows in halves:
        right, safe = natural[:, rows].sum(1), sound[:, rows].sum(1)
        wanted = (core.accurate[rows].mean() - loss - 1e-12) * rows.sum()
        order = np.lexsort((-right, -safe))
        found.append(next((int(i) for i in order if right[i] >= wanted), None))
    return found
