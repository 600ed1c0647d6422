"""What a record says of its model at each radius: rates with intervals, for tables and figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recuse.analysis.evidence import evidence_rank, network_of
from recuse.analysis.intervals import Interval, wilson_of
from recuse.analysis.loss_names import loss_rank
from recuse.analysis.metrics import Splits, splits
from recuse.analysis.networks import essential, gather
from recuse.analysis.verdicts import Kind, Mask, Verdicts, add_radii, verdicts
from recuse.analysis.winners import Outcome
from recuse.radius import parse_radius
from recuse.records.schema import Record

ROBUST: Literal["robust"] = "robust"
CERTIFIED: Literal["certified"] = "certified"


@dataclass(frozen=True)
class Measured:
    """Rates of one model at one radius.

    Attributes:
        model: Its verdicts.
        eps: The radius, canonical text.
        kind: ``"robust"`` (an attack found nothing) or ``"certified"`` (proven).
        samples: Number of samples.
        natural: Natural accuracy; None without labels.
        robust: Robust accuracy; None without labels.
        robust_inaccuracy: Robust inaccuracy; None without labels.
        stable: Share whose answer no perturbation within eps changes.
        selected: Robust selection, stable at twice eps; None where that was not judged.
        precision: Robust and right among the robustly selected.
        right_if_stable: Right among the stable; None where nothing is.
        false_abstention: Not stable among those that are right; None unlabelled.
        splits: The four splits; None without labels.
        not_judged: Samples among those not counted as stable because no search could be made.
    """

    model: Verdicts
    eps: str
    kind: Kind
    samples: int
    natural: Interval | None
    robust: Interval | None
    robust_inaccuracy: Interval | None
    stable: Interval
    selected: Interval | None
    precision: Interval | None
    right_if_stable: Interval | None
    false_abstention: Interval | None
    splits: Splits | None
    not_judged: int = 0


def measure(model: Verdicts, wanted: frozenset[str] = frozenset()) -> list[Measured]:
    """Rates at every radius of interest.

    Args:
        model: Of one record; ``robust@R`` and ``certified@R`` columns are both used.
        wanted: Radii to report; by default those whose double was judged too, or else all.
    """
    kinds: tuple[Kind, ...] = (ROBUST, CERTIFIED)
    return [
        rates_at(model, radius, kind)
        for kind in kinds
        for radius in _radii(model.radii(kind), wanted)
    ]


def measure_all(models: Sequence[Verdicts], wanted: frozenset[str] = frozenset()) -> list[Measured]:
    """:func:`measure` of every model, ordered by radius and then as given."""
    rates = [m for model in models for m in measure(model, wanted)]
    return sorted(
        rates, key=lambda m: (m.model.meta.dataset, m.model.meta.norm, parse_radius(m.eps))
    )


def strongest(rates: Sequence[Measured]) -> list[Measured]:
    """Of several records of one network at one radius the one that says most."""
    kept: dict[tuple[str, ...], Measured] = {}
    for m in rates:
        key = (*network_of(m.model), m.eps, m.kind)
        if key not in kept or _rank(m) > _rank(kept[key]):
            kept[key] = m
    return list(kept.values())


def _rank(m: Measured) -> tuple[bool, bool, int, float]:
    return evidence_rank(m.model, m.eps, m.kind)


def outcomes(m: Measured) -> tuple[Outcome | None, Outcome | None, Outcome | None]:
    """Naturally right, robust and right, robust and wrong, sample by sample; None unlabelled."""
    model = m.model
    if not model.labelled:
        return None, None, None
    right, stable = model.accurate(), model.stable(m.kind, m.eps)
    natural, robust, wrong = (
        Outcome(model.ids, mask) for mask in (right, right & stable, ~right & stable)
    )
    return natural, robust, wrong


def in_order(models: Iterable[Verdicts]) -> list[Verdicts]:
    """Cores first, then by loss, then by what varies; runs stay together in their order."""
    listed = list(models)
    runs = list(dict.fromkeys(m.run for m in listed))
    ranks = {"core": 0, "standard": 1}
    return sorted(
        listed,
        key=lambda m: (
            runs.index(m.run),
            ranks.get(m.role, 2),
            *(loss_rank(m.loss), m.loss, _size(m.meta.tags.get("beta"))),
            m.meta.model,
        ),
    )


def _size(value: object) -> float:
    return float(value) if isinstance(value, int | float) else -1.0


def verdicts_of(run: str, records: Iterable[Record]) -> list[Verdicts]:
    """The records of a run."""
    return [verdicts(record, run) for record in records]


def gathered(records: Sequence[Verdicts], attacks: Sequence[Record]) -> list[Verdicts]:
    """Each network of each run once, with all that any record of a report says of it.

    Args:
        records: Of all runs.
        attacks: Of attacks on whole compositions.
    """
    homes = [m.run for m in records]
    together = gather(records, attacks, homes)
    return [together[i] for i in essential(together, homes)]


def _radii(judged: list[str], wanted: frozenset[str]) -> list[str]:
    positive = [r for r in judged if parse_radius(r) > 0]
    chosen = [r for r in positive if r in wanted]
    doubled = [r for r in positive if add_radii(r, r) in judged]
    return chosen or doubled or positive


def rates_at(model: Verdicts, radius: str, kind: Kind = ROBUST) -> Measured:
    """The rates of a record at one radius: the one place where they are computed.

    Args:
        model: The record.
        radius: Was judged.
        kind: By attack or by proof.

    Raises:
        RecordError: Not judged there, or not for every sample.
    """
    stable = model.stable(kind, radius)
    double = add_radii(radius, radius)
    twice = model.proves(double) if kind == CERTIFIED else model.has(kind, double)
    selected = model.stable(kind, double) if twice else None
    accurate = model.accurate() if model.labelled else None
    return Measured(
        model=model,
        eps=radius,
        kind=kind,
        samples=model.samples,
        natural=None if accurate is None else wilson_of(accurate),
        robust=None if accurate is None else wilson_of(accurate & stable),
        robust_inaccuracy=None if accurate is None else wilson_of(~accurate & stable),
        stable=wilson_of(stable),
        selected=None if selected is None else wilson_of(selected),
        precision=_right_among(accurate, stable, selected),
        right_if_stable=_right_among(accurate, stable, stable),
        false_abstention=None if accurate is None else wilson_of(~stable, accurate),
        splits=None if accurate is None else splits(accurate, stable),
        not_judged=int(model.not_judged(radius).sum()) if kind == ROBUST else 0,
    )


def _right_among(accurate: Mask | None, stable: Mask, selected: Mask | None) -> Interval | None:
    if accurate is None or selected is None or not np.any(selected):
        return None
    return wilson_of(accurate & stable, selected)


def mean_of(model: Verdicts, column: str) -> float | None:
    """Mean of a numeric column, such as the passes that a sample cost; None where there is none."""
    if column not in model.frame.columns:
        return None
    mean = model.frame[column].mean()
    return float(mean) if isinstance(mean, int | float) else None
