"""What a record says of its model at each radius: rates with intervals, for tables and figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recuse.analysis.intervals import Interval, wilson_of
from recuse.analysis.loss_names import loss_name, loss_rank
from recuse.analysis.metrics import Splits, splits
from recuse.analysis.networks import essential, gather
from recuse.analysis.verdicts import Kind, Mask, Verdicts, add_radii, verdicts
from recuse.analysis.winners import Outcome
from recuse.radius import parse_radius
from recuse.records.schema import Record, RecordMeta

ROBUST: Literal["robust"] = "robust"
CERTIFIED: Literal["certified"] = "certified"


@dataclass(frozen=True)
class Judged:
    """One model's record in one run.

    Attributes:
        run: Name of the run folder.
        verdicts: The record's columns.
    """

    run: str
    verdicts: Verdicts

    @property
    def meta(self) -> RecordMeta:
        """What was measured."""
        return self.verdicts.meta

    @property
    def role(self) -> str:
        """``core``, ``robust``, ``standard``, ...; empty where the record does not say."""
        return str(self.meta.tags.get("role", ""))

    @property
    def loss(self) -> str:
        """The loss it was trained with, as figures write it."""
        return loss_name(str(self.meta.tags.get("loss", "") or self.role or "model"))

    @property
    def short(self) -> str:
        """Loss and what varies, for a label in a figure: ``ERA β=0.1``."""
        beta = self.meta.tags.get("beta")
        return f"{self.loss} β={number(beta)}" if beta is not None else self.loss

    def tag(self, name: str) -> str:
        """A tag as text; empty where absent."""
        value = self.meta.tags.get(name)
        return "" if value is None else number(value)


@dataclass(frozen=True)
class Measured:
    """Rates of one model at one radius.

    Attributes:
        judged: The model.
        eps: The radius, canonical text.
        kind: ``"robust"`` (an attack found nothing) or ``"certified"`` (proven).
        samples: Number of samples.
        natural: Natural accuracy; None without labels.
        robust: Robust accuracy; None without labels.
        inaccurate: Robust inaccuracy; None without labels.
        stable: Share whose answer no perturbation within eps changes.
        selected: Robust selection, stable at twice eps; None where that was not judged.
        precision: Robust and right among the robustly selected.
        splits: The four splits; None without labels.
        not_judged: Samples among those not counted as stable because no search could be made.
    """

    judged: Judged
    eps: str
    kind: Kind
    samples: int
    natural: Interval | None
    robust: Interval | None
    inaccurate: Interval | None
    stable: Interval
    selected: Interval | None
    precision: Interval | None
    splits: Splits | None
    not_judged: int = 0

    @property
    def broken(self) -> float:
        """Share whose answer a search changed."""
        return 1 - self.stable.estimate - self.not_judged / self.samples


def measure(judged: Judged, wanted: frozenset[str] = frozenset()) -> list[Measured]:
    """Rates at every radius of interest.

    Args:
        judged: A record; ``robust@R`` and ``certified@R`` columns are both used.
        wanted: Radii to report; by default those whose double was judged too, or else all.
    """
    kinds: tuple[Kind, ...] = (ROBUST, CERTIFIED)
    return [
        _at(judged, radius, kind)
        for kind in kinds
        for radius in _radii(judged.verdicts.judged(kind), wanted)
    ]


def measure_all(models: Sequence[Judged], wanted: frozenset[str] = frozenset()) -> list[Measured]:
    """:func:`measure` of every model, ordered by radius and then as given."""
    rates = [m for judged in models for m in measure(judged, wanted)]
    return sorted(
        rates, key=lambda m: (m.judged.meta.dataset, m.judged.meta.norm, parse_radius(m.eps))
    )


def strongest(rates: Sequence[Measured]) -> list[Measured]:
    """Of several records of one model at one radius: the attack that broke most, the best proof."""
    kept: dict[tuple[str, ...], Measured] = {}
    for m in rates:
        meta = m.judged.meta
        key = (m.judged.run, meta.model, meta.dataset, meta.norm, m.eps, m.kind)
        if key not in kept or _says_more(m, kept[key]):
            kept[key] = m
    return list(kept.values())


def _says_more(m: Measured, other: Measured) -> bool:
    if m.kind == CERTIFIED:
        return m.stable.estimate > other.stable.estimate
    return m.broken > other.broken


def outcomes(m: Measured) -> tuple[Outcome | None, Outcome | None, Outcome | None]:
    """Naturally right, robust and right, robust and wrong, sample by sample; None unlabelled."""
    verdict = m.judged.verdicts
    if not verdict.labelled:
        return None, None, None
    right, stable = verdict.accurate(), verdict.stable(m.kind, m.eps)
    natural, robust, wrong = (
        Outcome(verdict.ids, mask) for mask in (right, right & stable, ~right & stable)
    )
    return natural, robust, wrong


def in_order(models: Iterable[Judged]) -> list[Judged]:
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


def judge_records(run: str, records: Iterable[Record]) -> list[Judged]:
    """The records of a run."""
    return [Judged(run, verdicts(record)) for record in records]


def gathered(records: Sequence[Judged], attacks: Sequence[Record]) -> list[Judged]:
    """Each network of each run once, with all that any record of a report says of it.

    Args:
        records: Of all runs.
        attacks: Of attacks on whole compositions.
    """
    homes = [m.run for m in records]
    together = gather([m.verdicts for m in records], attacks, homes)
    return [replace(records[i], verdicts=together[i]) for i in essential(together, homes)]


def number(value: object) -> str:
    """A tag's value as text, floats as short as they are.

    >>> number(0.5), number(1.0), number("2_255")
    ('0.5', '1', '2_255')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def _radii(judged: list[str], wanted: frozenset[str]) -> list[str]:
    positive = [r for r in judged if parse_radius(r) > 0]
    chosen = [r for r in positive if r in wanted]
    doubled = [r for r in positive if add_radii(r, r) in judged]
    return chosen or doubled or positive


def _at(judged: Judged, radius: str, kind: Kind) -> Measured:
    verdict = judged.verdicts
    stable = verdict.stable(kind, radius)
    double = add_radii(radius, radius)
    selected = verdict.stable(kind, double) if verdict.has(kind, double) else None
    accurate = verdict.accurate() if verdict.labelled else None
    return Measured(
        judged=judged,
        eps=radius,
        kind=kind,
        samples=verdict.samples,
        natural=None if accurate is None else wilson_of(accurate),
        robust=None if accurate is None else wilson_of(accurate & stable),
        inaccurate=None if accurate is None else wilson_of(~accurate & stable),
        stable=wilson_of(stable),
        selected=None if selected is None else wilson_of(selected),
        precision=_precision(accurate, stable, selected),
        splits=None if accurate is None else splits(accurate, stable),
        not_judged=int(verdict.not_judged(radius).sum()) if kind == ROBUST else 0,
    )


def _precision(accurate: Mask | None, stable: Mask, selected: Mask | None) -> Interval | None:
    if accurate is None or selected is None or not np.any(selected):
        return None
    return wilson_of(accurate & stable, selected)
