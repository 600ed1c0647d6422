"""Mechanisms as functions of a threshold, judged by the sound accounting on measured samples."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from recuse.analysis.mechanisms import (
    indicator_stage,
    margin_stage,
    mixture_core,
    network_stage,
    robust_softmax_stage,
    softmax_stage,
)
from recuse.analysis.verdicts import Mask, Values, add_radii

Tables = Mapping[str, pl.DataFrame]
HALF = 0.5 + 1e-6
SELECTS = {"cifar10_resnet4b_adv2": "select_adv2", "ibp_small": "ace_ibp"}
GRID = 40
# Below one half a class may reach the threshold and not be the answer.
LOWEST = {"robust margin": 0.0, "softmax response": HALF, "softmax over the ball": HALF}


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


def core_of(table: pl.DataFrame, eps: str) -> CoreVerdicts:
    """The core's verdicts."""
    return CoreVerdicts(verdict(table, "accurate"), verdict(table, f"robust@{eps}"))


def indicator(tables: Tables, model: str, eps: str, _: float) -> StageVerdicts:
    """Robustness indicator of radius eps; it has no threshold."""
    t = tables[model]
    return indicator_stage(
        verdict(t, "accurate"),
        verdict(t, f"robust@{eps}"),
        selects=verdict(t, f"robust@{eps}"),
        surely_selects=verdict(t, f"robust@{add_radii(eps, eps)}"),
    )


def robust_margin(tables: Tables, model: str, eps: str, tau: float) -> StageVerdicts:
    """Indicator that asks for a probability margin of ``tau`` over the ball."""
    if tau <= 0:
        return indicator(tables, model, eps, tau)
    t = tables[model]
    return margin_stage(
        verdict(t, "accurate"),
        verdict(t, f"robust@{eps}"),
        column(t, f"low_margin@{eps}"),
        column(t, f"low_margin@{add_radii(eps, eps)}"),
        threshold=tau,
    )


def softmax(tables: Tables, model: str, eps: str, tau: float) -> StageVerdicts:
    """Softmax response at the input."""
    t = tables[model]
    right = verdict(t, "accurate")
    return softmax_stage(
        right,
        verdict(t, f"robust@{eps}"),
        column(t, "confidence"),
        # Measured is the largest probability; where F(x) is wrong that of y is at most a half.
        np.where(right, column(t, f"low_confidence@{eps}"), 0.0),
        column(t, f"wrong_confidence@{eps}"),
        threshold=tau,
    )


def softmax_ball(tables: Tables, model: str, eps: str, tau: float) -> StageVerdicts:
    """Softmax response over the ball of radius eps; above one half it has the symmetry."""
    t = tables[model]
    return robust_softmax_stage(
        verdict(t, "accurate"),
        verdict(t, f"robust@{eps}"),
        column(t, f"low_confidence@{eps}"),
        column(t, f"low_confidence@{add_radii(eps, eps)}"),
        threshold=tau,
    )


def network(tables: Tables, model: str, eps: str, tau: float) -> StageVerdicts:
    """Selection network, its decision bounded by intervals; the classifier attacked."""
    t, s = tables[model], tables[SELECTS[model]]
    return network_stage(
        verdict(t, "accurate"),
        verdict(t, f"robust@{eps}"),
        column(s, "score"),
        column(s, f"lower@{eps}"),
        column(s, f"upper@{eps}"),
        threshold=tau,
    )


def mixture(tables: Tables, robust: str, standard: str, eps: str, share: float) -> CoreVerdicts:
    """Weighted probabilities of two networks, from the smallest margin of each over the ball."""
    right = verdict(tables["mixture"], f"accurate@{share:g}")
    margins = [least_margin(tables[name], eps) for name in (robust, standard)]
    return mixture_core(right, *margins, share=share)


def least_margin(table: pl.DataFrame, eps: str) -> Values:
    """Smallest margin of the true class over the ball; -1, which bounds any, where it is wrong.

    Where only robustness was measured, a robust answer has at least a margin of 0.
    """
    right, robust = verdict(table, "accurate"), verdict(table, f"robust@{eps}")
    if f"low_margin@{eps}" not in table.columns:
        return np.where(right & robust, 0.0, -1.0)
    return np.where(right, column(table, f"low_margin@{eps}"), -1.0)


MECHANISMS: dict[str, Callable[[Tables, str, str, float], StageVerdicts]] = {
    "indicator": indicator,
    "robust margin": robust_margin,
    "softmax response": softmax,
    "softmax over the ball": softmax_ball,
    "selection network": network,
}


def grid(tables: Tables, mechanism: str, model: str, eps: str) -> list[float]:
    """Thresholds worth looking at: quantiles of the scores that are compared with them."""
    if mechanism == "indicator":
        return [0.0]
    if mechanism == "selection network":
        table = tables[SELECTS[model]]
        scores = np.concatenate([column(table, c) for c in ("score", f"lower@{eps}")])
    else:
        kinds = {
            "robust margin": f"low_margin@{eps}",
            "softmax response": "confidence",
            "softmax over the ball": f"low_confidence@{eps}",
        }
        scores = column(tables[model], kinds[mechanism])
    found = np.unique(np.quantile(scores, np.linspace(0, 1, GRID, endpoint=False)))
    lowest = LOWEST.get(mechanism, -np.inf)
    return [float(tau) for tau in found if tau >= lowest]


def compose(
    tables: Tables, core: str, eps: str, mechanism: str, stages: Iterable[tuple[str, float]]
) -> Point:
    """A composition of stages that select alike, before the core."""
    chosen = list(stages)
    parts = [MECHANISMS[mechanism](tables, model, eps, tau) for model, tau in chosen]
    account = sound_account(parts, core_of(tables[core], eps))
    return Point(
        mechanism,
        tuple(model for model, _ in chosen),
        tuple(tau for _, tau in chosen),
        account.natural,
        account.robust,
    )


def accounts_of(tables: Tables, core: str, eps: str, model: str) -> tuple[Account, Account]:
    """The indicator composition by the paper's accounting and by the sound one."""
    stages, last = [indicator(tables, model, eps, 0.0)], core_of(tables[core], eps)
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
    members = [
        (model, tau) for model in models for tau in grid(tables, mechanism, model, eps)[::every]
    ]
    return [
        compose(tables, core, eps, mechanism, [first, second])
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
