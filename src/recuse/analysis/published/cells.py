"""Every printed cell of the paper, computed again from the logs that it names."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from recuse.analysis.comparable import check_comparable
from recuse.analysis.metrics import (
    natural_accuracy,
    rate,
    robust_accuracy,
    robust_inaccuracy,
    share,
)
from recuse.analysis.published.logs import Kind, PublishedLogs
from recuse.analysis.verdicts import Verdicts, add_radii
from recuse.errors import ConfigError, RecordError

Status = Literal["match", "mismatch", "missing-log", "not-from-logs"]
COLUMNS = ("table", "row", "column", "eps", "formula_id", "log_dirs", "paper_value")
OUTPUT = ("table", "row", "column", "formula_id", "paper_value", "value", "status")
# Running text prints "26 %" where a table prints "26.2"; the file writes both with a point.
PROSE = "TEXT"
_SLACK = 1e-9
_SEPARATOR = ";"


@dataclass(frozen=True)
class Printed:
    """A cell as the paper prints it.

    Attributes:
        table: For example ``"T6"``.
        row: Row heading.
        column: Column heading.
        eps: Radius, canonical or as printed; empty where the cell has none.
        formula: What it is, for example ``"F_COMP2_ROB-F_RA(core)"``.
        folders: Logs in order: the model, one it is compared with, the core.
        paper: The printed number in percent, as written.
        note: What is known about it.
    """

    table: str
    row: str
    column: str
    eps: str
    formula: str
    folders: tuple[str, ...]
    paper: str
    note: str = ""


@dataclass(frozen=True)
class Computed:
    """A printed cell beside its value from the logs.

    Attributes:
        printed: The cell.
        value: In percent; None where it cannot be computed.
        status: ``match`` within half a unit of the last printed digit.
        reason: Why there is no value.
    """

    printed: Printed
    value: float | None
    status: Status
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Value minus printed number; None where one of them is missing."""
        paper = _decimal(self.printed.paper)
        return None if self.value is None or paper is None else self.value - float(paper)


Single = Callable[[Verdicts, str], float]
Pair = Callable[[Verdicts, Verdicts, str], float]


def _twice(model: Verdicts, eps: str) -> np.ndarray:
    return model.robust(add_radii(eps, eps))


def _certified_wrong(model: Verdicts, eps: str) -> float:
    return rate(~model.accurate() & model.certified(eps))


# What a cell can be, as the file of printed cells names it: which log it reads, and the formula.
SINGLE: dict[str, tuple[Kind, Single]] = {
    "F_NAT": ("attack", lambda m, e: natural_accuracy(m.accurate())),
    "F_RA": ("attack", lambda m, e: robust_accuracy(m.accurate(), m.robust(e))),
    "F_RI": ("attack", lambda m, e: robust_inaccuracy(m.accurate(), m.robust(e))),
    "F_PART_RA": ("attack", lambda m, e: rate(m.accurate() & m.robust(e))),
    "F_PART_RNA": ("attack", lambda m, e: rate(~m.accurate() & m.robust(e))),
    "F_PART_NRA": ("attack", lambda m, e: rate(m.accurate() & ~m.robust(e))),
    "F_PART_NRNA": ("attack", lambda m, e: rate(~m.accurate() & ~m.robust(e))),
    "F_SEL1": ("attack", lambda m, e: rate(m.robust(e))),
    "F_PREC1": ("attack", lambda m, e: share(m.accurate(), m.robust(e))),
    "F_SEL2": ("attack", lambda m, e: rate(_twice(m, e))),
    "F_PREC2": ("attack", lambda m, e: share(m.accurate() & m.robust(e), _twice(m, e))),
    "F_CERT_NAT": ("smoothing", lambda m, e: natural_accuracy(m.accurate())),
    "F_CERT_RA": ("smoothing", lambda m, e: rate(m.accurate() & m.certified(e))),
    "F_CERT_RI": ("smoothing", _certified_wrong),
    "F_CERT_SEL": ("smoothing", lambda m, e: rate(m.certified(e))),
    "F_CERT_PREC": ("smoothing", lambda m, e: share(m.accurate(), m.certified(e))),
}


def _composed_natural(model: Verdicts, core: Verdicts, eps: str) -> float:
    return rate(np.where(_twice(model, eps), model.accurate(), core.accurate()))


def _composed_robust(model: Verdicts, core: Verdicts, eps: str) -> float:
    own = model.accurate() & model.robust(eps)
    return rate(np.where(_twice(model, eps), own, core.accurate() & core.robust(eps)))


PAIR: dict[str, Pair] = {"F_COMP2_NAT": _composed_natural, "F_COMP2_ROB": _composed_robust}

_DIFFERENCE = re.compile(r"(?P<formula>\S+) diff")
_AGAINST_CORE = re.compile(r"(?P<formula>[^\s-]+)-(?P<core>[^\s-]+)\(core\)")
_COUNT = re.compile(r"count of (?P<what>\S+?)\s*>\s*0 in (?P<table>\S+)")


def read_cells(path: Path) -> list[Printed]:
    """Read the printed cells.

    Raises:
        RecordError: Not a CSV, or a column is missing.
    """
    try:
        frame = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RecordError(f"{path} cannot be read as CSV ({str(error).splitlines()[0]})") from error
    for column in COLUMNS:
        if column not in frame.columns:
            raise RecordError(f"{path}: column {column!r} is missing")
    return [_printed(row) for row in frame.fill_null("").iter_rows(named=True)]


def _printed(row: dict[str, str]) -> Printed:
    folders = tuple(f.strip() for f in row["log_dirs"].split(_SEPARATOR) if f.strip())
    return Printed(
        table=row["table"],
        row=row["row"],
        column=row["column"],
        eps=row["eps"].strip().replace("_", "/"),
        formula=row["formula_id"].strip(),
        folders=folders,
        paper=row["paper_value"].strip(),
        note=row.get("note", ""),
    )


def compute_cells(cells: Sequence[Printed], book: PublishedLogs) -> list[Computed]:
    """Compute every cell from the logs as published; counts of other cells come last."""
    first = [_compute(cell, book) for cell in cells]
    return [
        _counted(cell.printed, first) if _COUNT.fullmatch(cell.printed.formula) else cell
        for cell in first
    ]


def half_unit(paper: str, *, prose: bool = False) -> float:
    """Half a unit of the last printed digit.

    >>> half_unit("26.2"), half_unit("1.18"), half_unit("26.0", prose=True)
    (0.05, 0.005, 0.5)
    """
    if prose and paper.endswith(".0"):
        return 0.5
    return 0.5 * 10.0 ** -len(paper.partition(".")[2])


def _compute(cell: Printed, book: PublishedLogs) -> Computed:
    if not cell.folders:
        return Computed(cell, None, "not-from-logs", "the cell names no log")
    try:
        value = 100 * _value(cell.formula, cell.folders, cell.eps, book)
    except KeyError:
        return Computed(cell, None, "not-from-logs", f"formula {cell.formula!r} is unknown")
    except (RecordError, ConfigError) as error:
        return Computed(cell, None, "missing-log", str(error))
    return Computed(cell, value, _status(cell, value))


def _value(formula: str, folders: Sequence[str], eps: str, book: PublishedLogs) -> float:
    """A cell as a share; its logs are read as published, contradictions included.

    Raises:
        KeyError: An unknown formula.
        RecordError: A log, radius or label that is not there.
    """
    if found := _DIFFERENCE.fullmatch(formula):
        model, other, *core = _at_least(folders, 2, formula)
        return _value(found["formula"], (model, *core), eps, book) - _value(
            found["formula"], (other, *core), eps, book
        )
    if found := _AGAINST_CORE.fullmatch(formula):
        model, core_folder = _at_least(folders, 2, formula)[:2]
        return _value(found["formula"], (model, core_folder), eps, book) - _value(
            found["core"], (core_folder,), eps, book
        )
    if formula in PAIR:
        pair = [book.find(f, "attack", eps).raw for f in _at_least(folders, 2, formula)[:2]]
        check_comparable(pair)
        return PAIR[formula](pair[0], pair[1], eps)
    kind, single = SINGLE[formula]
    return single(book.find(folders[0], kind, eps).raw, eps)


def _at_least(folders: Sequence[str], number: int, formula: str) -> Sequence[str]:
    if len(folders) < number:
        raise RecordError(f"{formula} needs {number} logs and the cell names {len(folders)}")
    return folders


def _status(cell: Printed, value: float) -> Status:
    paper = _decimal(cell.paper)
    if paper is None:
        return "not-from-logs"
    tolerance = half_unit(cell.paper, prose=cell.table == PROSE)
    return "match" if abs(value - float(paper)) <= tolerance + _SLACK else "mismatch"


def _counted(cell: Printed, others: Sequence[Computed]) -> Computed:
    """Share of the cells of a table and kind whose value is positive; no log of its own."""
    found = _COUNT.fullmatch(cell.formula)
    assert found is not None
    values = [
        c.value
        for c in others
        if c.printed.table == found["table"]
        and found["what"] in f"{c.printed.row} {c.printed.column}".split()
        and c.value is not None
    ]
    if not values:
        return Computed(cell, None, "not-from-logs", f"no cell {found['what']} in {found['table']}")
    share_positive = 100 * sum(v > 0 for v in values) / len(values)
    why = f"counted over the {len(values)} cells of {found['table']} that have logs"
    return Computed(cell, share_positive, "not-from-logs", why)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def cells_csv(cells: Sequence[Computed]) -> bytes:
    """The cells as CSV, one row each, in the order given; an absent value is empty."""
    rows = [
        {
            "table": c.printed.table,
            "row": c.printed.row,
            "column": c.printed.column,
            "formula_id": c.printed.formula,
            "paper_value": c.printed.paper,
            "value": "" if c.value is None or np.isnan(c.value) else f"{c.value:.6f}",
            "status": c.status,
        }
        for c in cells
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(OUTPUT, pl.String)).write_csv().encode()
