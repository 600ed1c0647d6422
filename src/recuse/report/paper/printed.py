"""The printed cells of the paper beside their values from the logs, one table each."""

from collections.abc import Sequence

from recuse.analysis.published.cells import PROSE, Computed
from recuse.report.page.blocks import Column, Points, Table, Text
from recuse.report.paper.words import STATES, formula_words, place_words

PRINTED = {
    "T1": "Table 1, robust inaccuracy of existing models",
    "T2": "Table 2, certified robust accuracy and inaccuracy",
    "T3": "Table 3, certified selection",
    "T4": "Table 4, gain over the core",
    "T5": "Table 5, ERA against DGA",
    "T6": "Table 6, compositions",
    "T7": "Table 7, core models",
    "T8": "Table 8, the four splits",
    "T9": "Table 9, the four splits",
    PROSE: "Numbers in the text",
}


def printed_tables(cells: Sequence[Computed]) -> list[Table | Text]:
    """Every printed cell beside its value from the logs, one table each, mismatches set off."""
    names = sorted({c.printed.table for c in cells})
    blocks: list[Table | Text] = [
        _printed(name, [c for c in cells if c.printed.table == name]) for name in names
    ]
    for name in sorted(PRINTED.keys() - set(names) - {PROSE}):
        title = PRINTED[name]
        words = f"{title}: no printed cell is given. Its form is below, for all models of the logs."
        blocks.append(Text((words,)))
    noted = [c for c in cells if c.status != "match" and (c.reason or c.printed.note)]
    return [*blocks, _notes(noted)] if noted else blocks


def _printed(name: str, cells: Sequence[Computed]) -> Table:
    rows = tuple(
        (
            place_words(c.printed.row),
            place_words(c.printed.column),
            c.printed.eps,
            formula_words(c.printed.formula),
            c.printed.paper,
            c.value,
            None if c.difference is None else Points(c.difference / 100, decimals=3),
            STATES[c.status],
        )
        for c in cells
    )
    matched = sum(c.status == "match" for c in cells)
    columns = (
        "row",
        "column",
        "ε",
        "what it is",
        Column("printed", "%"),
        Column("from the logs", "%", decimals=3),
        Column("difference", "points"),
        "status",
    )
    return Table(
        PRINTED.get(name, name),
        columns,
        rows,
        caption=f"{matched} of {len(cells)} cells agree to half a unit of the last digit. "
        "Rates in percent of the images, differences in points.",
        emphasis=frozenset(i for i, c in enumerate(cells) if c.status == "mismatch"),
    )


def _where(cell: Computed) -> str:
    printed = cell.printed
    table = PRINTED.get(printed.table, printed.table).partition(",")[0]
    return f"{table}: {place_words(printed.row)}, {place_words(printed.column)}"


def _notes(cells: Sequence[Computed]) -> Table:
    """Why a cell differs or has no value; cells that share a reason share a row."""
    reasons: dict[str, list[Computed]] = {}
    for cell in cells:
        reasons.setdefault(cell.reason or cell.printed.note, []).append(cell)
    rows = tuple(
        (
            "; ".join(map(_where, found)),
            STATES[found[0].status],
            reason,
        )
        for reason, found in reasons.items()
    )
    return Table(
        "Cells that differ or cannot be computed, and why", ("cells", "status", "why"), rows
    )
