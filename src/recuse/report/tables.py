"""The tables of a report, from the rates of its records."""

import json
from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np

from recuse.analysis.accounting import explain
from recuse.analysis.intervals import Interval
from recuse.analysis.metrics import Splits
from recuse.analysis.verdicts import Mask
from recuse.report.composed import Composed
from recuse.report.measured import CERTIFIED, Judged, Measured
from recuse.report.page import Cell, Column, Points, Rate, Spread, Table

_SHOWN_IDS = 4
_NATURAL = Column("natural accuracy", "%", "right on unperturbed images", best="high")
_ROBUST = Column("robust accuracy", "%", "right, and no attack within ε changes it", best="high")
_WRONG = Column("robust inaccuracy", "%", "wrong, and no attack within ε changes it", best="low")
_SELECTED = Column("robust selection", "%", "selected everywhere in the ball: stable at 2ε")
_PRECISION = Column("right, if selected", "%", "robust and right among the robustly selected")


def interval_rate(interval: Interval | None) -> Cell:
    """An interval as a table cell; a dash for what was not judged."""
    return None if interval is None else Rate(interval.estimate, interval.low, interval.high)


def interval_points(interval: Interval) -> Points:
    """A difference as a table cell."""
    return Points(interval.estimate, interval.low, interval.high)


def model_table(rates: Sequence[Measured]) -> Table:
    """Natural, robust, robust-inaccurate and selected share of every model and radius."""
    lead = _Lead([m.judged for m in rates])
    columns = (*lead.columns("model"), _NATURAL, _ROBUST, _WRONG, _SELECTED, _PRECISION)
    rows = tuple(
        (
            *lead.cells(m.judged, m.judged.meta.model, m.eps, m.kind),
            interval_rate(m.natural),
            interval_rate(m.robust),
            interval_rate(m.inaccurate),
            interval_rate(m.selected),
            interval_rate(m.precision),
        )
        for m in rates
    )
    caption = (
        "Small print: 95 % Wilson intervals. Robust selection asks twice the radius, because a "
        "selector that decides at ε keeps its decision for every input within ε only if the "
        "answer is stable within 2ε."
    )
    return Table("Every model at every radius", columns, rows, caption, within=("data", "ε"))


def split_table(rates: Sequence[Measured]) -> Table:
    """The four splits as numbers."""
    labelled = [m for m in rates if m.splits]
    lead = _Lead([m.judged for m in labelled])
    names = ("robust and right", "right, not robust", "wrong, not robust", "robust and wrong")
    columns = (*lead.columns("model"), *(Column(name, "%") for name in names))
    rows = tuple(
        (*lead.cells(m.judged, m.judged.meta.model, m.eps, m.kind), *_shares(m.splits))
        for m in labelled
        if m.splits
    )
    return Table("The four splits as numbers", columns, rows, folded=True)


def composition_table(compositions: Sequence[Composed], best: Sequence[Composed]) -> Table:
    """Compositions by the sound, the attacked and the paper's accounting, cores first.

    Args:
        compositions: All of the report.
        best: Those to set off.
    """
    lead = _Lead([c.stage for c in compositions])
    one_core = len({c.core.meta.model for c in compositions}) == 1
    attacked = any(c.attacked is not None for c in compositions)
    columns: tuple[Column, ...] = (
        *lead.columns("robust model" if one_core else "composition"),
        Column("natural", "%", "as deployed: the selector decides at ε", best="high"),
        Column("less the core's", "points", "difference, paired bootstrap, 95 %"),
        Column("robust, sound", "%", "lower bound, as strong as the attack", best="high"),
        Column("less the core's", "points", "difference, paired bootstrap, 95 %"),
        *((Column("robust, attacked", "%", "attack on the composition itself"),) * attacked),
        Column("natural, paper", "%", "by the paper's way of counting"),
        Column("robust, paper", "%", "by the paper's way of counting"),
        Column("stage answers", "%", "share of the samples that the robust model answers"),
    )
    rows: list[tuple[Cell, ...]] = []
    emphasis = []
    seen: set[tuple[int, str]] = set()
    for c in compositions:
        if (id(c.core), c.eps) not in seen:
            seen.add((id(c.core), c.eps))
            rows.append(_core_row(lead, c, attacked))
        if c in best:
            emphasis.append(len(rows))
        name = c.stage.meta.model if one_core else c.name
        rows.append(_composition_row(lead, name, c, attacked))
    caption = (
        "A robust model answers where no attack within ε changes its answer; the core answers "
        "the rest. Sound: natural accuracy is that of this system, and an image counts as robust "
        "only if no stage that an attacker can make answer is wrong. The paper's count takes "
        "natural accuracy from a selector of radius 2ε and counts some images as robust that the "
        "system can be made to get wrong. Shaded: the largest sound robust accuracy among those "
        "that give up at most one point of natural accuracy, or of natural plus robust accuracy "
        "where none is that cheap."
    )
    emphasised = frozenset(emphasis)
    return Table("Compositions", columns, tuple(rows), caption, emphasised, within=("data", "ε"))


def accounting_table(compositions: Sequence[Composed]) -> Table:
    """How many samples explain the difference between the two ways of counting."""
    lead = _Lead([c.stage for c in compositions])
    columns: tuple[Column | str, ...] = (
        *lead.columns("composition"),
        Column("robust by the paper's count only", "samples", "an attacker may still win there"),
        Column("of those wrong without any attack", "samples"),
        Column("right by the paper's count only", "samples", "natural accuracy"),
        Column("right as deployed only", "samples", "natural accuracy"),
        Column("of", "samples"),
        "for example",
    )
    rows = []
    for c in compositions:
        hidden = explain(c.paper, c.sound)
        counts = (
            hidden.robust_unproven,
            hidden.wrong_at_x,
            hidden.natural_gained,
            hidden.natural_lost,
        )
        numbers = tuple(int(mask.sum()) for mask in counts)
        examples = _some(c, hidden.robust_unproven | hidden.natural_gained)
        rows.append((*lead.cells(c.stage, c.name, c.eps), *numbers, c.samples, examples))
    return Table("What the paper's accounting hides", columns, tuple(rows), folded=True)


class _Lead:
    """The columns that say which row this is; those that would say the same throughout go."""

    def __init__(self, models: Sequence[Judged]) -> None:
        self._runs = len({m.run for m in models}) > 1
        self._data = len({m.meta.dataset for m in models}) > 1
        self._attack = len({m.meta.attack for m in models}) > 1

    def columns(self, name: str) -> tuple[Column, ...]:
        extra = [(self._runs, "run"), (self._data, "data")]
        lead = (Column(title) for wanted, title in extra if wanted)
        by = (Column("judged by"),) if self._attack else ()
        return (*lead, Column(name), *by, Column("ε"))

    def cells(self, judged: Judged, name: str, eps: str, kind: str = "") -> tuple[Cell, ...]:
        extra = [(self._runs, judged.run), (self._data, judged.meta.dataset)]
        proof = ", certified" if kind == CERTIFIED else ""
        radius = f"{judged.meta.norm} {eps}{proof}"
        by = (judged.meta.attack,) if self._attack else ()
        return (*(text for wanted, text in extra if wanted), name, *by, radius)


def _shares(s: Splits) -> tuple[Rate, ...]:
    shares = (
        s.robust_accurate,
        s.fragile_accurate,
        s.fragile_inaccurate,
        s.robust_inaccurate,
    )
    return tuple(Rate(share) for share in shares)


def _core_row(lead: _Lead, c: Composed, attacked: bool) -> tuple[Cell, ...]:
    natural, robust = float(c.core_accurate.mean()), float(c.core_robust.mean())
    dashes: tuple[Cell, ...] = (None,) if attacked else ()
    name = f"{c.core.meta.model} alone"
    return (
        *lead.cells(c.core, name, c.eps),
        Rate(natural),
        None,
        Rate(robust),
        None,
        *dashes,
        Rate(natural),
        Rate(robust),
        Rate(0.0),
    )


def _composition_row(lead: _Lead, name: str, c: Composed, attacked: bool) -> tuple[Cell, ...]:
    broken: tuple[Cell, ...] = (None if c.attacked is None else Rate(c.attacked),)
    return (
        *lead.cells(c.stage, name, c.eps),
        Rate(c.natural.estimate),
        interval_points(c.cost),
        Rate(c.robust.estimate),
        interval_points(c.gain),
        *(broken if attacked else ()),
        Rate(float(c.paper.natural.mean())),
        Rate(float(c.paper.robust.mean())),
        Rate(float(c.selects.mean())),
    )


def _some(c: Composed, mask: Mask) -> str:
    """The first sample ids of a mask."""
    ids = [str(c.stage.verdicts.ids[int(i)]) for i in np.flatnonzero(mask)[: _SHOWN_IDS + 1]]
    return ", ".join(ids[:_SHOWN_IDS]) + (" …" if len(ids) > _SHOWN_IDS else "")


def repetition_table(rates: Sequence[Measured]) -> Table:
    """Mean and standard deviation over seeds, of models that differ in their ``seed`` tag alone."""
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for m in rates:
        if m.judged.tag("seed") and m.natural:
            groups.setdefault(_recipe(m), []).append(m)
    repeated = {key: group for key, group in groups.items() if len(group) > 1}
    columns = (
        "trained by",
        "ε",
        Column("seeds"),
        Column("natural accuracy", "%", best="high"),
        Column("robust accuracy", "%", best="high"),
        Column("robust inaccuracy", "%", best="low"),
    )
    rows = tuple(
        (
            group[0].judged.short,
            f"{group[0].judged.meta.norm} {group[0].eps}",
            len(group),
            _spread([m.natural for m in group]),
            _spread([m.robust for m in group]),
            _spread([m.inaccurate for m in group]),
        )
        for group in repeated.values()
    )
    caption = "Mean ± standard deviation over trainings that differ in their seed alone."
    return Table("Over several seeds", columns, rows, caption)


def _recipe(m: Measured) -> tuple[str, ...]:
    tags = {k: v for k, v in m.judged.meta.tags.items() if k != "seed"}
    parts = (m.judged.run, m.judged.meta.dataset, m.judged.meta.norm, m.eps, m.kind)
    return (*parts, json.dumps(tags, sort_keys=True, default=str))


def _spread(intervals: Sequence[Interval | None]) -> Spread:
    values = [i.estimate for i in intervals if i is not None]
    return Spread(mean(values), stdev(values) if len(values) > 1 else float("nan"))
