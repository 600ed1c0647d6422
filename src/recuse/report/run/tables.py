"""The tables of models in a report, from the rates of its records."""

from collections.abc import Sequence

from recuse.analysis.attainable import attainable
from recuse.analysis.intervals import Interval
from recuse.analysis.measured import CERTIFIED, Measured, mean_of, outcomes
from recuse.analysis.metrics import Splits
from recuse.analysis.repetitions import OverSeeds, repetitions
from recuse.analysis.searches import searches
from recuse.analysis.verdicts import Verdicts, add_radii
from recuse.analysis.winners import winners
from recuse.report.page.blocks import Cell, Column, Points, Rate, Spread, Table

_NATURAL = Column("natural accuracy", "%", "right on unperturbed images")
_ROBUST = Column("robust accuracy", "%", "right, and no attack within ε changes it")
_WRONG = Column("robust inaccuracy", "%", "wrong, and no attack within ε changes it")
_SELECTED = Column("robust selection", "%", "selected everywhere in the ball: stable at 2ε")
_NOT_JUDGED = Column("not judged", "samples", "no usable gradient; counted as not robust")
_PRECISION = Column("right, if selected", "%", "robust and right among the robustly selected")


def interval_rate(interval: Interval | None, decimals: int = 1) -> Rate | None:
    """An interval as a table cell; a dash for what was not judged."""
    if interval is None:
        return None
    return Rate(interval.estimate, interval.low, interval.high, decimals=decimals)


def interval_points(interval: Interval, decimals: int = 1) -> Points:
    """A difference as a table cell."""
    return Points(interval.estimate, interval.low, interval.high, decimals=decimals)


# What bold means, for captions.
BOLD = (
    "Bold: the winner of its group, if there is one: the 95 % interval of every paired difference "
    "to it leaves out 0."
)


def model_table(rates: Sequence[Measured]) -> Table:
    """Natural, robust, robust-inaccurate and selected share of every attacked model and radius."""
    lead = IdentifyingColumns([m.model for m in rates])
    gaps = (_NOT_JUDGED,) if any(m.not_judged for m in rates) else ()
    columns = (*lead.columns("model"), _NATURAL, _ROBUST, _WRONG, *gaps, _SELECTED, _PRECISION)
    rows = tuple(
        (
            *lead.cells(m.model, m.model.meta.model, m.eps, m.kind),
            interval_rate(m.natural),
            interval_rate(m.robust),
            interval_rate(m.robust_inaccuracy),
            *(m.not_judged for _ in gaps),
            interval_rate(m.selected),
            interval_rate(m.precision),
        )
        for m in rates
    )
    caption = (
        "Rates in percent of the samples; small print: 95 % Wilson intervals. "
        "Robust selection asks twice the radius, because a "
        "selector that decides at ε keeps its decision for every input within ε only if the "
        f"answer is stable within 2ε. {BOLD}"
    )
    bold = _winners(rates, len(lead.columns("model")))
    title = "Every model at every radius"
    return Table(title, columns, rows, caption, within=("data", "ε"), winners=bold)


def _winners(rates: Sequence[Measured], first: int) -> frozenset[tuple[int, int]]:
    """Bold cells of natural accuracy, robust accuracy and robust inaccuracy, from ``first`` on."""
    groups = [(m.model.meta.dataset, m.model.meta.norm, m.eps, m.kind) for m in rates]
    found = [outcomes(m) for m in rates]
    return frozenset(
        (row, first + place)
        for place in range(3)
        for row in winners([o[place] for o in found], groups, smallest=place == 2)
    )


def certified_table(rates: Sequence[Measured]) -> Table:
    """Certified accuracy and both readings of certified selection, of every model and radius."""
    lead = IdentifyingColumns([m.model for m in rates])
    columns = (
        *lead.columns("model"),
        Column("natural accuracy", "%", "certified at radius 0 and right"),
        Column("robust accuracy", "%", "right, and proven constant within ε"),
        Column("robust inaccuracy", "%", "wrong, and proven constant within ε"),
        Column("selection at ε, paper", "%", "proven within ε: the decision at the image itself"),
        Column("right, if selected", "%", "right among those proven within ε"),
        Column("selection at 2ε, sound", "%", "selected everywhere in the ball: proven within 2ε"),
        Column("right, if selected", "%", "right among those proven within 2ε"),
        Column("passes", "per image", "noisy forward passes"),
    )
    rows = tuple(
        (
            *lead.cells(m.model, m.model.meta.model, m.eps),
            interval_rate(m.natural),
            interval_rate(m.robust),
            interval_rate(m.robust_inaccuracy),
            interval_rate(m.stable),
            interval_rate(m.right_if_stable),
            _sure(m),
            interval_rate(m.precision),
            None if (passes := mean_of(m.model, "samples")) is None else round(passes),
        )
        for m in rates
    )
    caption = (
        "Rates in percent of the samples; small print: 95 % Wilson intervals. "
        "The paper counts robust selection at ε. A selector "
        "that decides at ε keeps its decision for every input within ε only if the answer is "
        "constant within 2ε; a dash says that 2ε was not asked, unattainable that no vote count "
        f"within the budget of draws could have proven it. {BOLD}"
    )
    bold = _winners(rates, len(lead.columns("model")))
    return Table("Certified models", columns, rows, caption, within=("data", "ε"), winners=bold)


def _sure(m: Measured) -> Cell:
    if m.selected is None or attainable(m.model.meta, add_radii(m.eps, m.eps)):
        return interval_rate(m.selected)
    return "unattainable"


def split_table(rates: Sequence[Measured]) -> Table:
    """The four splits as numbers."""
    labelled = [m for m in rates if m.splits]
    lead = IdentifyingColumns([m.model for m in labelled])
    names = ("robust and right", "right, not robust", "wrong, not robust", "robust and wrong")
    columns = (*lead.columns("model"), *(Column(name, "%") for name in names))
    rows = tuple(
        (*lead.cells(m.model, m.model.meta.model, m.eps, m.kind), *_shares(m.splits))
        for m in labelled
        if m.splits
    )
    return Table(
        "The four splits as numbers", columns, rows, "Percent of the samples.", folded=True
    )


class IdentifyingColumns:
    """The columns that say which row this is; those that would say the same throughout go."""

    def __init__(self, models: Sequence[Verdicts]) -> None:
        self._runs = len({m.run for m in models}) > 1
        self._data = len({m.meta.dataset for m in models}) > 1
        self._attacks = searches(meta for m in models for meta in m.met)
        self._told = len({self._by(m) for m in models}) > 1

    def columns(self, name: str) -> tuple[Column, ...]:
        """Their headings; ``name`` is that of the model or composition."""
        extra = [(self._runs, "run"), (self._data, "data")]
        lead = (Column(title) for wanted, title in extra if wanted)
        by = (Column("judged by"),) if self._told else ()
        return (*lead, Column(name), *by, Column("ε"))

    def cells(self, judged: Verdicts, name: str, eps: str, kind: str = "") -> tuple[Cell, ...]:
        """Their cells in one row."""
        extra = [(self._runs, judged.run), (self._data, judged.meta.dataset)]
        proof = ", certified" if kind == CERTIFIED else ""
        radius = f"{judged.meta.norm} {eps}{proof}"
        by = (self._by(judged),) if self._told else ()
        return (*(text for wanted, text in extra if wanted), name, *by, radius)

    def _by(self, judged: Verdicts) -> str:
        """Every attack that met the model."""
        return " and ".join(sorted({self._attacks[m.search] for m in judged.met}))


def _shares(s: Splits) -> tuple[Rate, ...]:
    shares = (
        s.robust_accurate,
        s.fragile_accurate,
        s.fragile_inaccurate,
        s.robust_inaccurate,
    )
    return tuple(Rate(share) for share in shares)


def repetition_table(rates: Sequence[Measured]) -> Table:
    """Mean and standard deviation over seeds, of models that differ in their ``seed`` tag alone."""
    columns = (
        "trained by",
        "ε",
        Column("seeds"),
        Column("natural accuracy", "%"),
        Column("robust accuracy", "%"),
        Column("robust inaccuracy", "%"),
    )
    rows = tuple(
        (
            found.first.model.short,
            f"{found.first.model.meta.norm} {found.first.eps}",
            found.seeds,
            _spread(found.natural),
            _spread(found.robust),
            _spread(found.robust_inaccuracy),
        )
        for found in repetitions(rates)
    )
    caption = (
        "Percent of the samples: mean ± standard deviation over trainings that differ in their "
        "seed alone."
    )
    return Table("Over several seeds", columns, rows, caption)


def _spread(over: OverSeeds) -> Spread:
    return Spread(over.mean, over.sd)
