"""Tables 4 and 6 of the paper: compositions picked from their front, and cascades beyond it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from recuse.analysis.cascade_differences import cascade_over_alone, cascade_over_cascade
from recuse.analysis.cascade_pool import Pool, build_pool
from recuse.analysis.cascade_splits import SearchResult, search_splits
from recuse.analysis.fronts import area_under_front, best_at_least, pareto
from recuse.analysis.intervals import paired_difference
from recuse.analysis.metrics import rate
from recuse.analysis.published.book import Book
from recuse.analysis.published.cells import Computed
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.report.page.blocks import Cell, Column, Points, Rate, Section, Spread, Table, Text
from recuse.report.paper.accounting import Counted
from recuse.report.paper.tables import ABSTENTION_LOSSES
from recuse.report.run.held_out import ALONE_BETTER
from recuse.report.run.tables import interval_points

# The largest loss of natural accuracy that the paper accepts in Table 6.
ACCEPTED_LOSS = 0.002
_PICKED_IN = ("T4", "T6")
_LOSSES = (0.0, 0.01)
_STAGES = (1, 2, 3)
_SPLITS = 20
_BUDGET = 2_000
_PAIRED = "Paired on the reporting halves, 95 %"


@dataclass(frozen=True)
class Front:
    """Compositions of one data set, base model and radius with abstention-trained models.

    Attributes:
        dataset: Data set and split.
        base: Base model.
        eps: Radius.
        members: All compositions.
    """

    dataset: str
    base: str
    eps: str
    members: tuple[Counted, ...]

    @property
    def natural(self) -> list[float]:
        """Natural accuracy as printed."""
        return [rate(c.published.natural) for c in self.members]

    @property
    def robust(self) -> list[float]:
        """Robust accuracy as printed."""
        return [rate(c.published.robust) for c in self.members]

    @property
    def picked(self) -> int | None:
        """The most robust that loses no more natural accuracy than the paper accepts."""
        core = self.members[0].model.core
        assert core is not None
        return best_at_least(self.robust, self.natural, rate(core.accurate) - ACCEPTED_LOSS)


def front_section(counted: Sequence[Counted], cells: Sequence[Computed]) -> Section:
    """The fronts behind Tables 4 and 6."""
    fronts = list(_fronts(counted))
    if not fronts:
        return Section("Fronts", (Text(("The logs hold no composition to pick from.",)),))
    printed = {
        folder for c in cells if c.printed.table in _PICKED_IN for folder in c.printed.folders[:1]
    }
    return Section(
        "Fronts",
        (_front_table(fronts, printed), _area_table(fronts)),
        "Natural against robust accuracy of every composition with an abstention-trained model: "
        "which ones no other beats, and which of them Tables 4 and 6 print.",
    )


def _fronts(counted: Sequence[Counted]) -> Iterator[Front]:
    chosen = [
        c
        for c in counted
        if c.model.published.method == "RI" and c.model.entry.tag("loss") in ABSTENTION_LOSSES
    ]

    def key(c: Counted) -> tuple[str, str, float, str]:
        eps = c.model.published.eps
        return c.model.entry.data, c.model.entry.tag("base"), parse_radius(eps), eps

    for (dataset, base, _, eps), members in groupby(sorted(chosen, key=key), key=key):
        yield Front(dataset, base, eps, tuple(members))


def _front_table(fronts: Sequence[Front], printed: set[str]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    emphasis = set()
    for front in fronts:
        on_front = set(pareto(front.natural, front.robust))
        for index, member in enumerate(front.members):
            is_printed = member.model.entry.tag("log_dir") in printed
            if index in on_front or is_printed:
                if is_printed:
                    emphasis.add(len(rows))
                marks = (index in on_front, index == front.picked, is_printed)
                rows.append((front.dataset, front.base, front.eps, *_member(member), *marks))
    columns = (
        "data",
        "base",
        "ε",
        "model",
        Column("natural", "%", "Paper's formula"),
        Column("over the core", "points"),
        Column("robust", "%", "Paper's formula"),
        Column("over the core", "points"),
        Column("deployed", "%", "Natural accuracy as deployed"),
        Column("over the model alone", "points", "Natural accuracy as deployed, paired, 95 %"),
        Column("sound", "%", "Sound robust accuracy"),
        Column("over the model alone", "points", "Sound robust accuracy, paired, 95 %"),
        "on the front",
        Column("picked", meaning="Most robust with at most 0.2 points of natural accuracy lost"),
        "printed",
    )
    return Table(
        "Tables 4 and 6, picked from the fronts",
        columns,
        tuple(rows),
        caption="Picked: the most robust composition that loses at most "
        f"{100 * ACCEPTED_LOSS:.1f} points of natural accuracy, the largest loss in Table 6, "
        "chosen on the same images it is printed for. The paper names no rule; where its choice "
        "differs, both rows stand here. The model alone is the robust model without a core: a "
        "composition gives up robust accuracy against it to gain natural accuracy.",
        emphasis=frozenset(emphasis),
    )


def _member(member: Counted) -> tuple[Cell, ...]:
    core = member.model.core
    assert core is not None
    natural = paired_difference(member.published.natural, core.accurate, resamples=2000)
    robust = paired_difference(member.published.robust, core.accurate & core.robust, resamples=2000)
    return (
        member.model.entry.name,
        Rate(natural.estimate + rate(core.accurate), decimals=2),
        Points(natural.estimate, natural.low, natural.high, decimals=2),
        Rate(rate(member.published.robust), decimals=2),
        Points(robust.estimate, robust.low, robust.high, decimals=2),
        Rate(rate(member.natural), decimals=2),
        member.over_alone[0],
        Rate(member.sound_rate, decimals=2),
        member.over_alone[1],
    )


def _area_table(fronts: Sequence[Front]) -> Table:
    rows = tuple(
        (
            front.dataset,
            front.base,
            front.eps,
            len(front.members),
            Rate(area_under_front(front.natural, front.robust), decimals=2),
            Rate(
                area_under_front(
                    [rate(c.natural) for c in front.members],
                    [c.sound_rate for c in front.members],
                ),
                decimals=2,
            ),
        )
        for front in fronts
    )
    columns = (
        "data",
        "base",
        "ε",
        "models",
        Column("area, paper", "%", "Share of the unit square below the front"),
        Column("area, sound", "%"),
    )
    return Table("Area under each front", columns, rows, folded=True)


def cascade_section(book: Book) -> Section:
    """Cascades of these models, chosen on one half and reported on the other."""
    rows: list[tuple[Cell, ...]] = []
    for pool in _pools(book):
        for loss in _LOSSES:
            rows += _searched(pool, loss)
    if not rows:
        return Section("Cascades", (Text(("No data set has a core and a stage.",)),))
    columns = (
        "data",
        "ε",
        Column("loss allowed", "points", "Natural accuracy on the choosing half"),
        "system",
        "models",
        Column("natural", "%", "Deployed, reporting half"),
        Column("sound", "%", "Robust accuracy, reporting half"),
        Column("sound, less one stage's", "points", _PAIRED),
        Column("natural, less the model's alone", "points", _PAIRED),
        Column("sound, less the model's alone", "points", _PAIRED),
        Column("model alone is better", "halves", ALONE_BETTER),
    )
    table = Table(
        "Best cascade, mean ± standard deviation over the splits",
        columns,
        tuple(rows),
        caption=f"{_SPLITS} random halves choose, the other halves report; differences are paired "
        "on the same samples, with 95 % intervals. One stage is the paper's 2-composition. The "
        "model alone is the most robust that keeps within the allowed loss, or of all where none "
        "does.",
        within=("data", "ε", "loss allowed"),
    )
    return Section("Cascades", (table,), "The same models in a row, by the sound count with ρ = ε.")


def _pools(book: Book) -> Iterator[Pool]:
    for dataset in book.datasets:
        core = book.core(dataset)
        records = [e.item.record for e in book.attacked(dataset) if e.raw.labelled]
        for eps in core.raw.judged() if core else []:
            try:
                yield build_pool(records, dataset=records[0].meta.dataset, eps=eps)
            except RecordError:
                continue  # no model was judged at twice this radius


def _searched(pool: Pool, loss: float) -> Iterator[tuple[Cell, ...]]:
    results = [
        search_splits(
            pool, max_natural_loss=loss, max_stages=stages, splits=_SPLITS, budget=_BUDGET
        )
        for stages in _STAGES[: len(pool.names)]
    ]
    lead = (pool.dataset, pool.eps, f"{100 * loss:g}")
    count, none = len(pool.names), (None,) * 4
    for name, natural, robust in (
        ("core alone", "core_natural", "core_robust"),
        ("robust model alone", "alone_natural", "alone_robust"),
    ):
        yield (*lead, name, count, *_spreads(results[0], natural, robust), *none)
    for result in results:
        one = cascade_over_cascade(result, results[0]).robust if result is not results[0] else None
        alone = cascade_over_alone(result)
        yield (
            *lead,
            f"{result.max_stages} stage{'s' if result.max_stages > 1 else ''}, then the core",
            count,
            *_spreads(result, "natural", "sound"),
            None if one is None else interval_points(one),
            interval_points(alone.natural),
            interval_points(alone.robust),
            f"{result.better_alone} of {len(result.splits)}",
        )


def _spreads(result: SearchResult, *names: str) -> tuple[Spread, ...]:
    return tuple(
        Spread(getattr(result.mean, name), getattr(result.deviation, name)) for name in names
    )
