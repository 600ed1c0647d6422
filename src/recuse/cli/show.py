"""``recuse show``: the numbers of a run, in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from recuse.analysis.intervals import Interval
    from recuse.analysis.measured import Measured
    from recuse.analysis.verdicts import Verdicts
    from recuse.records.schema import Record


def show(run: Annotated[Positional[Path], arg(metavar="RUN")], /) -> None:
    """Print what a run folder holds: every model at every radius.

    What any attack on a model broke is broken, also where it was attacked in a composition.
    Behind each rate stands the longer arm of its 95 % interval.

    Args:
        run: A run folder, or the records folder inside it.
    """
    from recuse.records.run_folder import attack_records
    from recuse.records.store import read_records

    print_summary(list(read_records(run)), attack_records(run))


def print_summary(records: "Sequence[Record]", attacks: "Sequence[Record]" = ()) -> None:
    """A table of natural, robust, robustly inaccurate and robustly selected rates, in percent.

    Where answers could not be judged, their number has a column of its own. Below it stands what
    the worst probabilities cost, where they were searched for.
    """
    from rich.table import Table

    from recuse.analysis.masking import masking_warning
    from recuse.analysis.networks import essential, gather
    from recuse.analysis.verdicts import verdicts
    from recuse.cli.console import table_console

    found = gather([verdicts(record) for record in records], attacks)
    rows = [row for place in essential(found) for row in _rows(found[place])]
    titles = ["model", "samples", "radius", "natural", "robust", "robust inaccuracy", "selected"]
    if gaps := any(row[-1] != "0" for row in rows):
        titles.append("not judged")
    table = Table(*titles)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*(row if gaps else row[:-1]))
    shown = table_console()
    shown.print(table)
    for judged in map(verdicts, records):
        if warning := masking_warning(judged):
            shown.print(f"warning: {warning}", markup=False)
        if cost := _cost(judged):
            shown.print(cost, markup=False, soft_wrap=True)


def _cost(model: "Verdicts") -> str:
    """What searching for the worst probabilities cost; empty where nobody did."""
    from recuse.analysis.measured import mean_of

    spent = [mean_of(model, name) for name in ("forwards", "backwards", "margin_passes")]
    verdicts, worst = sum(passes or 0 for passes in spent[:2]), spent[2]
    if worst is None:
        return ""
    return (
        f"{model.meta.model}: forward and backward passes an image: {verdicts:.0f} for verdicts, "
        f"{worst:.0f} for the worst probabilities"
    )


def _rows(model: "Verdicts") -> list[tuple[str, ...]]:
    """Attacked radii, then certified ones, which say so; last the number of gaps."""
    from recuse.analysis.measured import CERTIFIED, ROBUST, rates_at

    return [
        _row(rates_at(model, radius, kind))
        for kind in (ROBUST, CERTIFIED)
        for radius in model.radii(kind)
    ]


def _row(m: "Measured") -> tuple[str, ...]:
    proof = " certified" if m.kind == "certified" else ""
    place = f"{m.model.meta.norm}:{m.eps}{proof}"
    rates = (m.natural, m.robust, m.robust_inaccuracy, m.selected)
    lead = (m.model.meta.model, str(m.samples), place)
    return (*lead, *map(_percent, rates), str(m.not_judged))


def _percent(rate: "Interval | None") -> str:
    if rate is None:
        return "-"
    half = max(rate.high - rate.estimate, rate.estimate - rate.low)
    return f"{100 * rate.estimate:.1f} ± {100 * half:.1f}"
