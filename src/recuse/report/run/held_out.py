"""The table of what compositions and cascades are worth on samples that did not choose them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from recuse.analysis.cascade_differences import cascade_over_alone, cascade_over_core
from recuse.analysis.held_out import MAX_STAGES, SPLITS, HeldOut
from recuse.analysis.split_results import SearchResult
from recuse.report.page.blocks import Cell, Column, Spread, Table
from recuse.report.run.tables import interval_points

ALONE_BETTER = (
    "halves in which a model alone keeps within the loss and is more robust than the cascade, on "
    "the choosing half"
)
_PAIRED = "paired on the reporting halves, 95 %"


def held_out_table(searches: Sequence[HeldOut]) -> Table:
    """Mean and standard deviation over random halves, the core alone first."""
    runs = len({s.run for s in searches}) > 1
    data = len({s.pool.dataset for s in searches}) > 1
    columns = (
        *(("run",) if runs else ()),
        *(("data",) if data else ()),
        "system",
        "ε",
        Column("natural loss allowed", "points", "against the core, while choosing"),
        Column("natural accuracy", "%"),
        Column("natural, minus the core's", "points", _PAIRED),
        Column("natural, minus that of the model alone", "points", _PAIRED),
        Column("robust accuracy, sound", "%"),
        Column("robust, minus the core's", "points", _PAIRED),
        Column("robust, minus that of the model alone", "points", _PAIRED),
        Column("model alone is better", "halves", ALONE_BETTER),
        "chosen most often",
    )
    rows: list[tuple[Cell, ...]] = []
    for search in searches:
        lead = (*((search.run,) if runs else ()), *((search.pool.dataset,) if data else ()))
        rows += [(*lead, *cells) for cells in _rows(search)]
    caption = (
        "Rates in percent of the samples. "
        "The system is chosen on a random half of the samples and measured on the other half: "
        f"mean ± standard deviation over {SPLITS} halves; differences are paired on the same "
        "samples, with 95 % intervals. Two stages: a second robust model is asked where the first "
        "abstains. The model alone is the most robust that keeps within the allowed loss, or of "
        "all where none does."
    )
    within = ("run", "data", "ε")
    return Table(
        "Chosen on one half, measured on the other", columns, tuple(rows), caption, within=within
    )


def _rows(search: HeldOut) -> list[tuple[Cell, ...]]:
    radius = f"{search.pool.norm} {search.pool.eps}"
    first = search.results[0]
    none: tuple[Cell, Cell] = (None, None)
    core = spreads(first, "core_natural", "core_robust")
    name = f"{search.pool.core_name} alone"
    rows: list[tuple[Cell, ...]] = [(name, radius, None, core[0], *none, core[1], *none, None, "")]
    for result in search.results:
        loss = 100 * result.max_natural_loss
        if result.max_stages == MAX_STAGES[0]:
            alone = spreads(result, "alone_natural", "alone_robust")
            often = _favourite([(split.alone,) for split in result.splits])
            lead = ("a robust model alone", radius, loss)
            rows.append((*lead, alone[0], *none, alone[1], *none, None, often))
        natural, robust = spreads(result, "natural", "sound")
        over_core, over_alone = cascade_over_core(result), cascade_over_alone(result)
        rows.append(
            (
                f"{_stages(result.max_stages)}, then the core",
                radius,
                loss,
                natural,
                interval_points(over_core.natural),
                interval_points(over_alone.natural),
                robust,
                interval_points(over_core.robust),
                interval_points(over_alone.robust),
                f"{result.better_alone} of {len(result.splits)}",
                _favourite([split.stages for split in result.splits]),
            )
        )
    return rows


def _stages(most: int) -> str:
    return "one robust model" if most == 1 else f"up to {most} stages"


def spreads(result: SearchResult, *names: str) -> list[Spread]:
    """Mean and standard deviation of some rates as table cells."""
    mean, sd = asdict(result.mean), asdict(result.deviation)
    return [Spread(float(mean[name]), float(sd[name])) for name in names]


def _favourite(chosen: Sequence[tuple[str, ...]]) -> str:
    stages, times = Counter(chosen).most_common(1)[0]
    return f"{' → '.join(stages) or 'the core alone'} ({times} of {len(chosen)})"
