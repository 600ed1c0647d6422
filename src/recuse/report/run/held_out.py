"""What compositions and cascades are worth on samples that did not choose them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from recuse.analysis.cascade_differences import cascade_over_alone, cascade_over_core
from recuse.analysis.cascade_pool import Pool, pool_of
from recuse.analysis.cascade_splits import SearchResult, search_splits
from recuse.analysis.compositions import Composition
from recuse.errors import RecordError
from recuse.report.page.blocks import Cell, Column, Spread, Table
from recuse.report.run.tables import interval_points

# Natural accuracy against the core that may be given up while choosing.
ALLOWED_LOSSES = (0.0, 0.01, 0.05)
MAX_STAGES = (1, 2)
_SPLITS = 20
_BUDGET = 2_000
_FEWEST_SAMPLES = 20
ALONE_BETTER = (
    "halves in which a model alone keeps within the loss and is more robust than the cascade, on "
    "the choosing half"
)
_PAIRED = "paired on the reporting halves, 95 %"


@dataclass(frozen=True)
class HeldOut:
    """Searches over the models of one run at one radius.

    Attributes:
        run: The run.
        pool: The models.
        results: One for each allowed loss and number of stages, the shorter cascades first.
    """

    run: str
    pool: Pool
    results: tuple[SearchResult, ...]


def held_out(compositions: Sequence[Composition]) -> list[HeldOut]:
    """Choose on one half of the samples, report on the other, for every run and radius.

    Questions with a single robust model need no choosing and are left out, as are those with
    too few samples to halve.
    """
    groups: dict[tuple[str, ...], list[Composition]] = {}
    for c in compositions:
        if c.stage.run == c.core.run:
            meta = c.stage.meta
            key = (c.stage.run, meta.dataset, meta.norm, c.eps, c.core.meta.model)
            groups.setdefault(key, []).append(c)
    found = [
        _search(run, group)
        for (run, *_), group in groups.items()
        if len({c.stage.meta.model for c in group}) > 1 and group[0].samples >= _FEWEST_SAMPLES
    ]
    return [search for search in found if search is not None]


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
        Column("less the core's", "points", _PAIRED),
        Column("less the model's alone", "points", _PAIRED),
        Column("robust accuracy, sound", "%"),
        Column("less the core's", "points", _PAIRED),
        Column("less the model's alone", "points", _PAIRED),
        Column("model alone is better", "halves", ALONE_BETTER),
        "chosen most often",
    )
    rows: list[tuple[Cell, ...]] = []
    for search in searches:
        lead = (*((search.run,) if runs else ()), *((search.pool.dataset,) if data else ()))
        rows += [(*lead, *cells) for cells in _rows(search)]
    caption = (
        "The system is chosen on a random half of the samples and measured on the other half: "
        f"mean ± standard deviation over {_SPLITS} halves; differences are paired on the same "
        "samples, with 95 % intervals. Two stages: a second robust model is asked where the first "
        "abstains. The model alone is the most robust that keeps within the allowed loss, or of "
        "all where none does."
    )
    within = ("run", "data", "ε")
    return Table(
        "Chosen on one half, measured on the other", columns, tuple(rows), caption, within=within
    )


def _search(run: str, group: Sequence[Composition]) -> HeldOut | None:
    """None where the models were not all judged by the attacks that judged the core."""
    core = group[0].core
    networks = [core, *(c.stage for c in group)]
    try:
        pool = pool_of(networks, eps=group[0].eps, core=core.meta.model)
    except RecordError:
        return None
    results = tuple(
        search_splits(
            pool, max_natural_loss=loss, max_stages=stages, splits=_SPLITS, budget=_BUDGET
        )
        for loss in ALLOWED_LOSSES
        for stages in MAX_STAGES
    )
    return HeldOut(run, pool, results)


def _rows(search: HeldOut) -> list[tuple[Cell, ...]]:
    radius = f"{search.pool.norm} {search.pool.eps}"
    first = search.results[0]
    none: tuple[Cell, Cell] = (None, None)
    core = _spreads(first, "core_natural", "core_robust")
    name = f"{search.pool.core_name} alone"
    rows: list[tuple[Cell, ...]] = [(name, radius, None, core[0], *none, core[1], *none, None, "")]
    for result in search.results:
        loss = 100 * result.max_natural_loss
        if result.max_stages == MAX_STAGES[0]:
            alone = _spreads(result, "alone_natural", "alone_robust")
            often = _favourite([(split.alone,) for split in result.splits])
            lead = ("a robust model alone", radius, loss)
            rows.append((*lead, alone[0], *none, alone[1], *none, None, often))
        natural, robust = _spreads(result, "natural", "sound")
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


def _spreads(result: SearchResult, *names: str) -> list[Spread]:
    mean, sd = asdict(result.mean), asdict(result.deviation)
    return [Spread(float(mean[name]), float(sd[name])) for name in names]


def _favourite(chosen: Sequence[tuple[str, ...]]) -> str:
    stages, times = Counter(chosen).most_common(1)[0]
    return f"{' → '.join(stages) or 'the core alone'} ({times} of {len(chosen)})"
