"""``recuse show``: the numbers of a run, in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from recuse.records.schema import Record


def show(run: Annotated[Positional[Path], arg(metavar="RUN")], /) -> None:
    """Print what a run folder holds: every model at every radius.

    Behind each rate stands the longer arm of its 95 % interval.

    Args:
        run: A run folder, or the records folder inside it.
    """
    from recuse.records.store import read_records

    print_summary(list(read_records(run)))


def print_summary(records: Sequence[Record]) -> None:
    """A table of natural, robust, robustly wrong and robustly selected rates, in percent."""
    from rich.table import Table

    from recuse.cli.console import table_console

    table = Table("model", "samples", "radius", "natural", "robust", "robustly wrong", "selected")
    for column in table.columns[1:]:
        column.justify = "right"
    for record in records:
        for row in _rows(record):
            table.add_row(*row)
    table_console().print(table)


def _rows(record: Record) -> list[tuple[str, ...]]:
    from recuse.analysis.metrics import natural_accuracy, robust_accuracy, robust_inaccuracy
    from recuse.analysis.verdicts import verdicts

    judged = verdicts(record)
    accurate = judged.accurate()
    natural = _percent(natural_accuracy(accurate), judged.samples)
    rows: list[tuple[str, ...]] = []
    for radius in judged.judged():
        robust = judged.robust(radius)
        doubled = _doubled(radius)
        selected = (
            _percent(float(judged.robust(doubled).mean()), judged.samples)
            if judged.has("robust", doubled)
            else "-"
        )
        rows.append(
            (
                record.meta.model,
                str(judged.samples),
                f"{record.meta.norm}:{radius}",
                natural,
                _percent(robust_accuracy(accurate, robust), judged.samples),
                _percent(robust_inaccuracy(accurate, robust), judged.samples),
                selected,
            )
        )
    return rows


def _doubled(radius: str) -> float:
    from recuse.radius import parse_radius

    return 2 * parse_radius(radius)


def _percent(rate: float, samples: int) -> str:
    from recuse.analysis.intervals import wilson

    interval = wilson(round(rate * samples), samples)
    half = max(interval.high - rate, rate - interval.low)
    return f"{100 * rate:.1f} ± {100 * half:.1f}"
