"""Tables 4 and 6 of the paper: compositions picked from their front, and cascades beyond it."""

from collections.abc import Iterator, Sequence

from recuse.analysis.accounting import Account, difference
from recuse.analysis.cascade_differences import cascade_over_alone, cascade_over_cascade
from recuse.analysis.held_out import SPLITS, HeldOut
from recuse.analysis.metrics import rate
from recuse.analysis.published.cascades import searched
from recuse.analysis.published.cells import Computed
from recuse.analysis.published.counted import ACCEPTED_LOSS, Counted, Front, fronts
from recuse.analysis.published.logs import PublishedLogs
from recuse.report.page.blocks import Cell, Column, Rate, Section, Table, Text
from recuse.report.run.held_out import ALONE_BETTER, spreads
from recuse.report.run.tables import interval_points

_PICKED_IN = ("T4", "T6")
_PAIRED = "Paired on the reporting halves, 95 %"


def front_section(counted: Sequence[Counted], cells: Sequence[Computed]) -> Section:
    """The fronts behind Tables 4 and 6."""
    found = list(fronts(counted))
    if not found:
        return Section("Fronts", (Text(("The logs hold no composition to pick from.",)),))
    printed = {
        folder for c in cells if c.printed.table in _PICKED_IN for folder in c.printed.folders[:1]
    }
    return Section(
        "Fronts",
        (_front_table(found, printed), _area_table(found)),
        "Natural against robust accuracy of every composition with an abstention-trained model: "
        "which ones no other beats, and which of them Tables 4 and 6 print.",
    )


_FRONT = (
    "data",
    "base",
    "ε",
    "model",
    Column("natural, printed", "%", "Paper's formula"),
    Column("minus the core's natural", "points", "Paired, 95 %"),
    Column("robust, printed", "%", "Paper's formula"),
    Column("minus the core's robust", "points", "Paired, 95 %"),
    Column("natural, deployed", "%", "Natural accuracy as deployed"),
    Column("minus that of the model alone", "points", "As deployed, paired, 95 %"),
    Column("robust, sound", "%", "Sound robust accuracy"),
    Column("minus that of the model alone", "points", "Sound, paired, 95 %"),
    "on the front",
    Column("picked", meaning="Most robust with at most 0.2 points of natural accuracy lost"),
    "printed",
)


def _front_table(found: Sequence[Front], printed: set[str]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    emphasis = set()
    for front in found:
        on_front = front.undominated
        for index, member in enumerate(front.members):
            is_printed = member.model.entry.tag("log_dir") in printed
            if index in on_front or is_printed:
                if is_printed:
                    emphasis.add(len(rows))
                marks = (index in on_front, index == front.picked, is_printed)
                lead = (front.dataset, front.base, front.eps)
                rows.append((*lead, *_member(member, front.core), *marks))
    return Table(
        "Tables 4 and 6, picked from the fronts",
        _FRONT,
        tuple(rows),
        caption="Rates in percent of the images, differences in points. Picked: "
        "the most robust composition that loses at most "
        f"{100 * ACCEPTED_LOSS:.1f} points of natural accuracy, the largest loss in Table 6, "
        "chosen on the same images it is printed for. The paper names no rule; where its choice "
        "differs, both rows stand here. The model alone is the robust model without a core: a "
        "composition gives up robust accuracy against it to gain natural accuracy.",
        emphasis=frozenset(emphasis),
    )


def _member(member: Counted, core: Account) -> tuple[Cell, ...]:
    published = member.published
    over = difference(published, core, resamples=2000)
    alone = member.over(member.model.alone)
    return (
        member.model.entry.name,
        Rate(rate(published.natural), decimals=2),
        interval_points(over.natural, decimals=2),
        Rate(rate(published.robust), decimals=2),
        interval_points(over.robust, decimals=2),
        Rate(rate(member.natural), decimals=2),
        interval_points(alone[0], decimals=2),
        Rate(member.sound_rate, decimals=2),
        None if alone[1] is None else interval_points(alone[1], decimals=2),
    )


def _area_table(found: Sequence[Front]) -> Table:
    rows = tuple(
        (
            front.dataset,
            front.base,
            front.eps,
            len(front.members),
            Rate(front.area, decimals=2),
            Rate(front.sound_area, decimals=2),
        )
        for front in found
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


def cascade_section(book: PublishedLogs) -> Section:
    """Cascades of these models, chosen on one half and reported on the other."""
    rows = [row for search in searched(book) for row in _searched(search)]
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
        Column("sound, minus that of one stage", "points", _PAIRED),
        Column("natural, minus that of the model alone", "points", _PAIRED),
        Column("sound, minus that of the model alone", "points", _PAIRED),
        Column("model alone is better", "halves", ALONE_BETTER),
    )
    table = Table(
        "Best cascade, mean ± standard deviation over the splits",
        columns,
        tuple(rows),
        caption=f"Rates in percent of the images. {SPLITS} random halves choose, "
        "the other halves report; differences are paired "
        "on the same samples, with 95 % intervals. One stage is the paper's 2-composition. The "
        "model alone is the most robust that keeps within the allowed loss, or of all where none "
        "does.",
        within=("data", "ε", "loss allowed"),
    )
    return Section("Cascades", (table,), "The same models in a row, by the sound count with ρ = ε.")


def _searched(search: HeldOut) -> Iterator[tuple[Cell, ...]]:
    pool, results = search.pool, search.results
    lead = (pool.dataset, pool.eps, f"{100 * results[0].max_natural_loss:g}")
    count, none = len(pool.names), (None,) * 4
    for name, natural, robust in (
        ("core alone", "core_natural", "core_robust"),
        ("robust model alone", "alone_natural", "alone_robust"),
    ):
        yield (*lead, name, count, *spreads(results[0], natural, robust), *none)
    for result in results:
        one = cascade_over_cascade(result, results[0]).robust if result is not results[0] else None
        alone = cascade_over_alone(result)
        yield (
            *lead,
            f"{result.max_stages} stage{'s' if result.max_stages > 1 else ''}, then the core",
            count,
            *spreads(result, "natural", "sound"),
            None if one is None else interval_points(one),
            interval_points(alone.natural),
            interval_points(alone.robust),
            f"{result.better_alone} of {len(result.splits)}",
        )
