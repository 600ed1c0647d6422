"""How a page of a study writes numbers and tables."""

from collections.abc import Sequence
from math import isnan

from recuse.analysis.intervals import Interval
from recuse.report.page.blocks import Page
from recuse.report.page.values import headings, show_table

_DATA = {"cifar10": "CIFAR-10", "gtsrb": "GTSRB", "mnist": "MNIST"}


def data_name(name: str) -> str:
    """A data set as text names it."""
    return _DATA.get(name, name)


def share(found: Interval) -> str:
    """A rate in percent with its interval; a dash where it is of nothing.

    >>> share(Interval(0.5, 0.4, 0.6)), share(Interval(float("nan"), 0.0, 1.0))
    ('50.0 (40.0 to 60.0)', '–')
    """
    if isnan(found.estimate):
        return "–"
    return f"{100 * found.estimate:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def difference(found: Interval) -> str:
    """A difference of rates in points with its interval, signed.

    >>> difference(Interval(-0.02, -0.03, 0.0))
    '-2.0 (-3.0 to +0.0)'
    """
    return f"{100 * found.estimate:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty one."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def page_lines(page: Page) -> list[str]:
    """A page: its words, its figures (as SVG files beside it), then all of its tables."""
    figures = (f"![{f.title}]({f.name}.svg)\n\n{f.caption}" for f in page.figures())
    parts = [f"# {page.title}", *page.summary, *figures]
    for block in page.tables():
        heads = [c.name + (f" ({c.unit})" if c.unit else "") for c in headings(block)]
        rows = [
            [" ".join(filter(None, (cell.text, cell.small))) for cell in row]
            for row in show_table(block)
        ]
        parts += [f"## {block.title}", block.caption, "\n".join(table(heads, rows)[:-1])]
    return list(filter(None, parts))


__all__ = ["data_name", "difference", "page_lines", "share", "table"]
