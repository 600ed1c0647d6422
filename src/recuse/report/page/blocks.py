"""A page as a value: sections of text, tables, figures and galleries, nothing about HTML.

Whatever makes a report builds these frozen pieces; :mod:`recuse.report.page.html` turns them into
one offline file and :mod:`recuse.report.page.figures` into files for a paper.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from recuse.errors import ConfigError


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1], shown in percent, with its confidence interval where there is one.

    Attributes:
        value: The share; NaN where it is not defined (nothing was selected, say).
        low: Lower end of the interval.
        high: Upper end of the interval.
        decimals: Digits after the point.
    """

    value: float
    low: float | None = None
    high: float | None = None
    decimals: int = 1


@dataclass(frozen=True)
class Spread:
    """A mean over repetitions and its standard deviation, shares shown in percent: 76.1 ± 1.3."""

    mean: float
    sd: float
    decimals: int = 1


@dataclass(frozen=True)
class Points:
    """A signed difference of shares, shown in percentage points: +1.3 or −0.4."""

    value: float
    low: float | None = None
    high: float | None = None
    decimals: int = 1


Cell = str | int | float | bool | None | Rate | Spread | Points


@dataclass(frozen=True)
class Column:
    """A table column.

    Attributes:
        name: Heading, short.
        unit: Unit in small print below the heading, for example ``"%"``.
        meaning: One sentence shown on hover.
        decimals: Digits after the point for plain floats.
    """

    name: str
    unit: str = ""
    meaning: str = ""
    decimals: int = 1


@dataclass(frozen=True)
class Table:
    """A sortable table; numbers are aligned on the right, intervals in small print.

    Attributes:
        title: What the table shows.
        columns: Headings; a plain string is a column of that name.
        rows: One tuple of cells a row, as long as ``columns``.
        caption: How to read it.
        emphasis: Indices of the rows that the page sets off from the others.
        within: Names of columns whose cells make a group of rows; a rule parts the groups.
        winners: Row and column of the cells in bold: those that
            :func:`recuse.analysis.winners.winners` found to be better than all of their group.
        folded: Whether the table starts folded away.
    """

    title: str
    columns: tuple[Column | str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    emphasis: frozenset[int] = frozenset()
    within: tuple[str, ...] = ()
    winners: frozenset[tuple[int, int]] = frozenset()
    folded: bool = False

    def __post_init__(self) -> None:
        width = len(self.columns)
        for number, row in enumerate(self.rows):
            if len(row) != width:
                raise ConfigError(
                    f"table {self.title!r}: row {number} has {len(row)} cells for {width} columns"
                )


@dataclass(frozen=True)
class Figure:
    """A chart and what to say about it.

    Attributes:
        name: File stem for :func:`recuse.report.page.figures.save_figures`; unique in a page.
        title: What the chart shows.
        chart: An altair chart, or a Vega-Lite specification.
        caption: How to read it.
        alt: What someone who cannot see it should know; the caption where empty.
        width: ``"half"`` sits beside another half figure where there is room.
    """

    name: str
    title: str
    chart: Any
    caption: str = ""
    alt: str = ""
    width: Literal["full", "half"] = "full"


@dataclass(frozen=True)
class Image:
    """One PNG picture and the words below it."""

    png: bytes
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Picture:
    """Images that belong together, such as an input and its adversarial example.

    Attributes:
        images: Shown side by side.
        title: For example the true class.
        caption: For example what the system did.
    """

    images: tuple[Image, ...]
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid."""

    title: str
    pictures: tuple[Picture, ...]
    caption: str = ""


@dataclass(frozen=True)
class Tile:
    """One number that matters, large, with its name above and what it means below."""

    label: str
    value: Cell
    note: str = ""
    tone: Literal["plain", "good", "bad"] = "plain"


@dataclass(frozen=True)
class Tiles:
    """The numbers that matter, in a row."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Text:
    """Paragraphs; a ``"note"`` or ``"warning"`` is set off from the rest."""

    paragraphs: tuple[str, ...]
    tone: Literal["plain", "note", "warning"] = "plain"


@dataclass(frozen=True)
class Code:
    """Text as it is, such as a configuration; folded away at first."""

    title: str
    text: str
    folded: bool = True


Block = Table | Figure | Gallery | Tiles | Text | Code


@dataclass(frozen=True)
class Section:
    """A heading, one sentence of introduction, and blocks."""

    title: str
    blocks: tuple[Block, ...]
    intro: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: What was studied.
        summary: Paragraphs in plain words: what came out, and what it cost.
        sections: In reading order; each gets a line in the table of contents.
        subtitle: Data, threat, date, in one line.
        tiles: The numbers that matter, below the summary.
        footer: Where the numbers come from.
    """

    title: str
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    subtitle: str = ""
    tiles: tuple[Tile, ...] = ()
    footer: str = ""

    def figures(self) -> tuple[Figure, ...]:
        """All figures, in reading order."""
        return tuple(b for s in self.sections for b in s.blocks if isinstance(b, Figure))

    def tables(self) -> tuple[Table, ...]:
        """All tables, in reading order."""
        return tuple(b for s in self.sections for b in s.blocks if isinstance(b, Table))


def anchor(title: str) -> str:
    """A heading as an HTML id.

    >>> anchor("Natural vs. robust accuracy (ε = 1/255)")
    'natural-vs-robust-accuracy-1-255'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def percent(value: float, decimals: int = 1) -> str:
    """A share in percent, without the sign; a dash where it is not defined.

    >>> percent(0.98125), percent(float("nan")), percent(0.98125, 2)
    ('98.1', '–', '98.12')
    """
    return f"{100 * value:.{decimals}f}" if math.isfinite(value) else "–"


def points(value: float, decimals: int = 1) -> str:
    """A difference of shares in percentage points, signed unless it rounds to zero.

    >>> points(0.0134), points(-0.004), points(-0.0001)
    ('+1.3', '−0.4', '0.0')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{abs(100 * value):.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else "−"
    return sign + text
