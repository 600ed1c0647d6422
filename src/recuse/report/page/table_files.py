"""Tables as files: CSV with every number in full, LaTeX as it would be printed in a paper."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from recuse.records.store import write_atomically
from recuse.report.page.blocks import Cell, Column, Page, Points, Rate, Spread, Table, anchor
from recuse.report.page.values import Shown, group_starts, headings, show_table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "−": "$-$",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "β": r"$\beta$",
    "ε": r"$\varepsilon$",
    "σ": r"$\sigma$",
    "ρ": r"$\rho$",
    "α": r"$\alpha$",
    "τ": r"$\tau$",
    "∞": r"$\infty$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "·": r"$\cdot$",
    "\u202f": r"\,",
}


def save_tables(page: Page, folder: Path) -> tuple[Path, ...]:
    """Write every table of a page as ``folder/<number>-<title>.csv`` and ``.tex``.

    Returns:
        The files, in reading order.

    Raises:
        RecordError: The folder cannot be written.
    """
    written = []
    for number, table in enumerate(page.tables(), start=1):
        stem = f"{number:02d}-{anchor(table.title)[:60].strip('-')}"
        for suffix, text in ((".csv", table_csv(table)), (".tex", table_latex(table))):
            path = folder / f"{stem}{suffix}"
            write_atomically(path, text.encode())
            written.append(path)
    return tuple(written)


def table_csv(table: Table) -> str:
    """A table as CSV: shares as they are, in full precision; intervals in columns of their own.

    >>> print(table_csv(Table("t", ("model", "robust"), (("era", Rate(0.5, 0.4, 0.6)),))).strip())
    model,robust,robust low,robust high
    era,0.5,0.4,0.6
    """
    columns = headings(table)
    widths = [
        max((len(_numbers(row[place])) for row in table.rows), default=1)
        for place in range(len(columns))
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        name
        for place, column in enumerate(columns)
        for name in _names(column, table, place, widths[place])
    )
    for row in table.rows:
        writer.writerow(_padded(row, widths))
    return out.getvalue()


def _names(column: Column, table: Table, place: int, width: int) -> list[str]:
    spread = any(isinstance(row[place], Spread) for row in table.rows)
    ends = ("sd",) if spread and width == 2 else ("low", "high")
    return [column.name, *(f"{column.name} {end}" for end in ends)][:width]


def _padded(row: tuple[Cell, ...], widths: list[int]) -> Iterator[object]:
    for cell, width in zip(row, widths, strict=True):
        numbers = _numbers(cell)
        yield from (*numbers, *[""] * (width - len(numbers)))


def _numbers(cell: Cell) -> tuple[object, ...]:
    match cell:
        case Rate(value, low, high) | Points(value, low, high):
            return (value,) if low is None and high is None else (value, low, high)
        case Spread(mean, sd):
            return mean, sd
        case None:
            return ("",)
        case _:
            return (cell,)


def table_latex(table: Table) -> str:
    """A table as LaTeX for the package booktabs: numbers to the right, the best in bold."""
    columns, starts = headings(table), group_starts(table)
    rows = show_table(table)
    places = "".join(
        "r" if any(row[place].numeric for row in rows) else "l" for place in range(len(columns))
    )
    lines = [rf"\begin{{tabular}}{{{places}}}", r"\toprule"]
    lines.append(" & ".join(_heading(column) for column in columns) + r" \\")
    lines.append(r"\midrule")
    for number, row in enumerate(rows):
        lines += [r"\midrule"] if number in starts else []
        lines.append(" & ".join(_shown(cell) for cell in row) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return f"% {table.title}\n" + "\n".join(lines) + "\n"


def _heading(column: Column) -> str:
    return _escaped(f"{column.name} ({column.unit})" if column.unit else column.name)


def _shown(cell: Shown) -> str:
    text = rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)
    return rf"{text} {{\scriptsize {_escaped(cell.small)}}}" if cell.small else text


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(mark, mark) for mark in text)


__all__ = ["save_tables", "table_csv", "table_latex"]
