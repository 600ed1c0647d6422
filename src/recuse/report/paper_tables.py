"""Tables 1–3, 5 and 7–9 of the paper, in their form, for whatever models the logs hold."""

from collections.abc import Iterator, Sequence

import numpy as np

from recuse.analysis.intervals import Interval, wilson_of
from recuse.analysis.metrics import splits
from recuse.analysis.verdicts import add_radii
from recuse.radius import format_radius, parse_radius
from recuse.report.page import Cell, Column, Points, Rate, Table, Text
from recuse.report.paper_book import Book, Entry
from recuse.report.paper_cells import PROSE, Computed

# Losses that fine-tune for abstention; the others are what Tables 1 and 8 report.
ABSTENTION_LOSSES = frozenset({"era", "dga", "cra"})
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
            c.printed.row,
            c.printed.column,
            c.printed.eps,
            c.printed.formula,
            c.printed.paper,
            c.value,
            None if c.difference is None else Points(c.difference / 100, decimals=3),
            c.status,
        )
        for c in cells
    )
    matched = sum(c.status == "match" for c in cells)
    columns = (
        "row",
        "column",
        "ε",
        "formula",
        Column("printed", "%"),
        Column("from the logs", "%", decimals=3),
        Column("difference", "points"),
        "status",
    )
    return Table(
        PRINTED.get(name, name),
        columns,
        rows,
        caption=f"{matched} of {len(cells)} cells agree to half a unit of the last digit.",
        emphasis=frozenset(i for i, c in enumerate(cells) if c.status == "mismatch"),
    )


def _notes(cells: Sequence[Computed]) -> Table:
    """Why a cell differs or has no value; cells that share a reason share a row."""
    reasons: dict[str, list[Computed]] = {}
    for cell in cells:
        reasons.setdefault(cell.reason or cell.printed.note, []).append(cell)
    rows = tuple(
        (
            "; ".join(f"{c.printed.table} {c.printed.row}, {c.printed.column}" for c in found),
            found[0].status,
            reason,
        )
        for reason, found in reasons.items()
    )
    return Table(
        "Cells that differ or cannot be computed, and why", ("cells", "status", "why"), rows
    )


def computed_tables(book: Book, cells: Sequence[Computed]) -> list[Table]:
    """The paper's tables in form, computed from all models of all data sets."""
    tables: list[Table] = []
    for dataset in book.datasets:
        tables += _split_table(book, dataset)
        tables += _abstention_table(book, dataset)
        tables += _all_models(book, dataset)
    return [*tables, *_certified(book, cells)]


def _rate(interval: Interval) -> Rate:
    return Rate(interval.estimate, interval.low, interval.high, decimals=2)


def _split_table(book: Book, dataset: str) -> Iterator[Table]:
    """Tables 1, 7, 8 and 9: existing models at their training radius, cores at every radius."""
    core = book.core(dataset)
    pairs = [
        (e, r)
        for e in book.robust_models(dataset)
        if e.tag("loss") not in ABSTENTION_LOSSES
        for r in e.raw.judged()
        if e.trained_at(r)
    ]
    if core is not None:
        pairs += [(core, r) for r in core.raw.judged()]
    rows = []
    for entry, eps in sorted(pairs, key=lambda p: parse_radius(p[1])):
        accurate, robust = entry.raw.accurate(), entry.raw.robust(eps)
        part = splits(accurate, robust)
        rows.append(
            (
                eps,
                entry.name,
                entry.loss,
                entry.tag("augmentation"),
                _rate(wilson_of(accurate)),
                _rate(wilson_of(accurate & robust)),
                _rate(wilson_of(~accurate & robust)),
                Rate(part.fragile_accurate, decimals=2),
                Rate(part.fragile_inaccurate, decimals=2),
                entry.tag("quality"),
            )
        )
    if rows:
        columns = (
            "ε",
            "model",
            "loss",
            "augmentation",
            Column("natural", "%"),
            Column("robust and right", "%", "Robust accuracy"),
            Column("robust and wrong", "%", "Robust inaccuracy, the dangerous part"),
            Column("right, not robust", "%"),
            Column("wrong, not robust", "%"),
            "quality of the log",
        )
        yield Table(
            f"Tables 1, 7, 8 and 9, the four splits: {dataset}",
            columns,
            tuple(rows),
            caption="Models without abstention training at the radius that they were trained "
            "for, and the core at every radius. Intervals: Wilson, 95 %.",
        )


def _abstention_table(book: Book, dataset: str) -> Iterator[Table]:
    """Table 5: ERA beside DGA, selection and accuracy at the training radius."""
    models = [e for e in book.robust_models(dataset) if e.tag("loss") in ABSTENTION_LOSSES]
    if not {"era", "dga"} <= {e.tag("loss") for e in models}:
        return
    settings = {(e.tag("base"), e.tag("train_eps")) for e in models if e.tag("loss") == "dga"}
    rows: list[tuple[Cell, ...]] = []
    for e in sorted(models, key=lambda e: (e.tag("train_eps"), e.tag("augmentation"), e.loss)):
        eps = e.tag("train_eps")
        if (e.tag("base"), eps) in settings and e.raw.has("robust", eps):
            robust = e.raw.robust(eps)
            selection, right = wilson_of(robust), wilson_of(e.raw.accurate(), robust)
            rows.append(
                (eps, e.tag("augmentation"), e.loss, e.name, _rate(selection), _rate(right))
            )
    yield Table(
        f"Table 5, ERA against DGA: {dataset}",
        ("ε", "augmentation", "loss", "model", Column("selection", "%"), Column("accuracy", "%")),
        tuple(rows),
        caption="Robustness indicator at ε: share kept, and share right of the kept.",
        folded=True,
    )


def _all_models(book: Book, dataset: str) -> Iterator[Table]:
    rows: list[tuple[Cell, ...]] = []
    for entry in book.robust_models(dataset):
        accurate = entry.raw.accurate()
        for eps in entry.raw.judged():
            robust = entry.raw.robust(eps)
            rows.append(
                (
                    entry.name,
                    entry.loss,
                    entry.tag("train_eps"),
                    eps,
                    _rate(wilson_of(accurate)),
                    _rate(wilson_of(accurate & robust)),
                    _rate(wilson_of(~accurate & robust)),
                    *_doubled(entry, eps),
                )
            )
    if rows:
        columns = (
            "model",
            "loss",
            "trained at",
            "ε",
            Column("natural", "%"),
            Column("robust accuracy", "%"),
            Column("robust inaccuracy", "%"),
            Column("robust selection", "%", "Stable to 2ε"),
            Column("accuracy of the selected", "%"),
            Column("false abstention", "%", "Right at x and not selected at x"),
        )
        yield Table(f"Every attacked model: {dataset}", columns, tuple(rows), folded=True)


def _doubled(entry: Entry, eps: str) -> tuple[Cell, Cell, Cell]:
    accurate, robust = entry.raw.accurate(), entry.raw.robust(eps)
    missed = _rate(wilson_of(~robust, accurate))
    double = add_radii(eps, eps)
    if not entry.raw.has("robust", double):
        return None, None, missed
    selected = entry.raw.robust(double)
    return _rate(wilson_of(selected)), _rate(wilson_of(accurate & robust, selected)), missed


def _certified(book: Book, cells: Sequence[Computed]) -> Iterator[Table]:
    """Tables 2 and 3, with the doubled radius that robust selection really needs."""
    entries = [e for e in book.entries if e.kind == "smoothing" and e.raw.labelled]
    printed = {c.printed.eps for c in cells if c.printed.formula.startswith("F_CERT")}
    rows: list[tuple[Cell, ...]] = []
    for entry in entries:
        for eps in _radii(entry, printed):
            rows.append((entry.name, entry.loss, entry.tag("sigma"), eps, *_proven(entry, eps)))
    if rows:
        columns = (
            "model",
            "loss",
            "σ",
            "ε",
            Column("robust accuracy", "%"),
            Column("robust inaccuracy", "%"),
            Column("selection at ε", "%", "Radius at least ε: the paper's column"),
            Column("accuracy of the selected", "%"),
            Column("selection at 2ε", "%", "Selected at every point of the ball: radius 2ε"),
            Column("largest radius", meaning="In this log; smoothing cannot prove more"),
        )
        yield Table(
            "Tables 2 and 3, certified selection by randomized smoothing",
            columns,
            tuple(rows),
            caption="The paper asks for a radius of ε. An attacker of budget ε can reach points "
            "whose own radius is smaller, so that selection in the whole ball needs 2ε; where "
            "2ε exceeds the largest radius that the sample budget can prove, nothing is selected.",
        )


def _radii(entry: Entry, printed: set[str]) -> list[str]:
    """The printed radius nearest to twice the noise, as the paper pairs them; else that itself."""
    sigma = float(entry.raw.meta.settings.get("sigma", 0.0))
    if not printed:
        return [format_radius(round(2 * sigma, 6))]
    return [min(printed, key=lambda r: abs(parse_radius(r) - 2 * sigma))]


def _proven(entry: Entry, eps: str) -> tuple[Cell, ...]:
    model = entry.raw
    accurate, proven = model.accurate(), model.certified(eps)
    wrong = ~accurate & proven
    return (
        _rate(wilson_of(accurate & proven)),
        _rate(wilson_of(wrong)),
        _rate(wilson_of(proven)),
        _rate(wilson_of(accurate, proven)),
        _rate(wilson_of(model.certified(add_radii(eps, eps)))),
        f"{np.max(model.values('radius'), initial=0.0):.3f}",
    )
