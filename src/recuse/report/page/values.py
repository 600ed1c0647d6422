"""How a table cell is written, sorted and exported."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from recuse.report.page.blocks import Cell, Column, Points, Rate, Spread, Table, percent, points

_EXACT_INTEGERS = 2**53


@dataclass(frozen=True)
class Shown:
    """A cell as the page shows it.

    Attributes:
        text: The value.
        small: The interval or the standard deviation, in small print.
        sort: The number to sort by; None for text and for what is not defined.
        numeric: Whether the cell belongs on the right.
        best: Whether it wins its column.
    """

    text: str
    small: str = ""
    sort: float | None = None
    numeric: bool = True
    best: bool = False


def show(cell: Cell, decimals: int = 1) -> Shown:
    """Write one cell.

    >>> show(Rate(0.761, 0.748, 0.774))
    Shown(text='76.1', small='74.8–77.4', sort=0.761, numeric=True, best=False)
    >>> show(Spread(0.761, 0.013)).small, show(None).text, show("era").numeric
    ('± 1.3', '–', False)
    """
    match cell:
        case None:
            return Shown("–")
        case bool():
            return Shown("yes" if cell else "no", numeric=False)
        case str():
            return Shown(cell, numeric=False)
        case int():
            return Shown(f"{cell:,}".replace(",", "\u202f"), sort=_finite(cell))
        case float():
            return Shown(_decimal(cell, decimals), sort=_finite(cell))
        case _:
            return _show_share(cell)


def _show_share(cell: Rate | Spread | Points) -> Shown:
    match cell:
        case Rate(value, low, high, digits):
            return Shown(percent(value, digits), _interval(low, high, digits), _finite(value))
        case Spread(mean, sd, digits):
            small = f"± {percent(sd, digits)}" if math.isfinite(sd) else ""
            return Shown(percent(mean, digits), small, _finite(mean))
        case Points(value, low, high, digits):
            small = _signed_interval(low, high, digits)
            return Shown(points(value, digits), small, _finite(value))


def show_table(table: Table) -> list[list[Shown]]:
    """Write every cell of a table and mark those that win their column."""
    columns = headings(table)
    return [
        [
            replace(show(cell, column.decimals), best=(number, place) in table.winners)
            for place, (cell, column) in enumerate(zip(row, columns, strict=True))
        ]
        for number, row in enumerate(table.rows)
    ]


def group_starts(table: Table) -> set[int]:
    """Rows, after the first, at which another group of ``table.within`` begins."""
    keys = [tuple(row[place] for place in _places(table)) for row in table.rows]
    return {n for n, (before, here) in enumerate(pairwise(keys), start=1) if before != here}


def _places(table: Table) -> list[int]:
    return [n for n, column in enumerate(headings(table)) if column.name in table.within]


def headings(table: Table) -> list[Column]:
    """The columns of a table, plain names as columns."""
    return [Column(c) if isinstance(c, str) else c for c in table.columns]


def _finite(value: float | int) -> float | None:
    return float(value) if math.isfinite(value) and abs(value) < _EXACT_INTEGERS else None


def _decimal(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("-", "−") if math.isfinite(value) else "–"


def _interval(low: float | None, high: float | None, digits: int) -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{percent(low, digits)}–{percent(high, digits)}"


def _signed_interval(low: float | None, high: float | None, digits: int) -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{points(low, digits)} to {points(high, digits)}"
