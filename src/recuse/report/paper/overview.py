"""What the paper report says first: how much agrees, and what is odd about the logs."""

from collections import Counter
from collections.abc import Sequence

from recuse.analysis.metrics import rate
from recuse.analysis.published.cells import Computed
from recuse.analysis.published.counted import Counted
from recuse.analysis.published.logs import PublishedLogs
from recuse.analysis.published.points import PublishedPoint
from recuse.records.reference_columns import Imported
from recuse.records.reference_logs import Logs
from recuse.report.page.blocks import Column, Section, Table, Text, Tile, points
from recuse.report.paper.words import ATTACKS, METHODS, STATES


def summary(
    logs: Logs,
    book: PublishedLogs,
    cells: Sequence[Computed],
    published: Sequence[PublishedPoint],
    counted: Sequence[Counted],
) -> tuple[str, ...]:
    """A few sentences in plain words."""
    rows = sum(item.raw.height for item in logs.imports)
    sets = ", ".join(dict.fromkeys(e.raw.meta.dataset for e in book.entries))
    counted_rows = f"{rows:,}".replace(",", " ")
    text = [f"{len(logs.imports)} logs of {sets} were read: {counted_rows} rows of verdicts."]
    if cells:
        text.append(_agreement(cells))
    if published:
        agree = sum(p.status == "match" for p in published)
        text.append(f"{agree} of {len(published)} published figure points come out as published.")
    if broken := sum(item.non_monotone for item in logs.imports):
        text.append(
            f"{broken} verdicts call a sample robust at a radius beyond one that already broke it. "
            "Printed numbers are recomputed with them; the sound counts carry the break outward, "
            "and what an attack on the confidence of a model broke is broken there too."
        )
    text += _largest(counted)
    return tuple(text)


def _agreement(cells: Sequence[Computed]) -> str:
    states = Counter(c.status for c in cells)
    words = [
        f"{states['match']} of {len(cells)} printed numbers come out to half a unit of the last "
        "printed digit"
    ]
    if states["mismatch"]:
        words.append(f"{states['mismatch']} do not")
    if states["missing-log"]:
        words.append(f"{states['missing-log']} lack a log")
    if states["not-from-logs"]:
        words.append(f"{states['not-from-logs']} cannot be told from logs")
    return "; ".join(words) + "."


def _largest(counted: Sequence[Counted]) -> list[str]:
    """The composition of robustness indicators whose printed robust accuracy shrinks most."""
    indicators = [c for c in counted if c.model.published.method == "RI"]
    if not indicators:
        return []
    drops = [c.sound_rate - rate(c.published.robust) for c in indicators]
    worst = min(range(len(drops)), key=drops.__getitem__)
    natural = [rate(c.natural) - rate(c.published.natural) for c in indicators]
    steepest = min(range(len(natural)), key=natural.__getitem__)
    return [
        f"Counted soundly, the {len(indicators)} compositions with a robustness indicator differ "
        f"from the paper's formula by down to {points(drops[worst])} points of robust accuracy "
        f"({indicators[worst].model.entry.name} at {indicators[worst].model.published.eps}) and "
        f"{points(natural[steepest])} points of natural accuracy "
        f"({indicators[steepest].model.entry.name} at "
        f"{indicators[steepest].model.published.eps})."
    ]


def tiles(
    logs: Logs, cells: Sequence[Computed], published: Sequence[PublishedPoint]
) -> tuple[Tile, ...]:
    """The numbers that matter."""
    found = [Tile("logs", len(logs.imports), "files of per-sample verdicts")]
    if cells:
        agree = sum(c.status == "match" for c in cells)
        found.append(Tile("printed cells that agree", f"{agree} of {len(cells)}"))
    if published:
        agree = sum(p.status == "match" for p in published)
        found.append(Tile("figure points that agree", f"{agree} of {len(published)}"))
    broken = sum(item.non_monotone for item in logs.imports)
    note = "robust beyond a broken radius"
    found.append(Tile("contradictory verdicts", broken, note, tone="bad" if broken else "good"))
    return tuple(found)


def log_section(logs: Logs) -> Section:
    """What was read and what is odd about it."""
    blocks: list[Table | Text] = []
    if logs.compared:
        same = len(logs.compared) - len(logs.differing)
        words = [
            f"{len(logs.compared)} logs are there twice, as CSV and in a parquet; {same} of them "
            "hold the same verdicts in both."
        ]
        words += [f"{log} differs; the parquet was used." for log in logs.differing]
        blocks.append(Text(tuple(words), tone="warning" if logs.differing else "note"))
    odd = [i for i in logs.imports if i.non_monotone or _quality(i) not in ("", "ok")]
    if odd:
        blocks.append(_odd_table(odd))
    blocks.append(_log_table(logs.imports))
    return Section("Logs", tuple(blocks), "What was read, and what is odd about it.")


def _quality(item: Imported) -> str:
    return str(item.record.meta.tags.get("quality") or "")


def _odd_table(items: Sequence[Imported]) -> Table:
    rows = tuple(
        (str(i.record.meta.tags["log"]), i.non_monotone, _quality(i).replace("_", " "))
        for i in items
    )
    columns = (
        "log",
        Column("contradictory verdicts", meaning="Robust at a radius beyond one that broke it"),
        "quality, as its publisher found it",
    )
    return Table("Logs that contradict themselves or mix checkpoints", columns, rows)


def _log_table(items: Sequence[Imported]) -> Table:
    rows = tuple(
        (
            i.record.meta.dataset,
            i.record.meta.model,
            ATTACKS.get(i.record.meta.method, i.record.meta.method),
            i.record.meta.norm,
            ", ".join(i.record.meta.radii),
            i.raw.height,
            "accurate" in i.raw.columns,
        )
        for i in items
    )
    columns = ("data", "model", "attack", "norm", "radii", "samples", "labels")
    return Table("All logs", columns, rows, folded=True)


def point_section(published: Sequence[PublishedPoint]) -> Section:
    """Published points beside the computed ones; those that differ first."""
    ordered = sorted(published, key=lambda p: p.status == "match")
    rows = tuple(
        (
            str(p.keys["fig"]),
            str(p.keys["dataset"]),
            str(p.keys["log_dir"]).rpartition("/")[2],
            str(p.keys["eps"]).replace("_", "/"),
            METHODS.get(str(p.keys["method"]), str(p.keys["method"])),
            p.keys["tau"],
            _values(p.published),
            _values(p.computed),
            p.difference,
            STATES[p.status] + (f": {p.reason}" if p.reason else ""),
        )
        for p in ordered
    )
    columns = (
        "figure",
        "data",
        "model",
        "ε",
        "method",
        Column("τ", decimals=2),
        Column("published", "%", ", ".join(_RATES)),
        Column("from the logs", "%"),
        Column("largest difference", "points", decimals=4),
        "status",
    )
    table = Table("Published points of Figures 2–4 and 7–9", columns, rows, folded=True)
    return Section("Published points", (table,), "Each point of the figures, computed again.")


# In the order of :data:`recuse.analysis.published.points.RATES`.
_RATES = (
    "robust inaccuracy",
    "robust accuracy",
    "robust selection",
    "robust accuracy of the selected",
    "natural and robust accuracy of the composition",
    "certified selection",
    "accuracy of the certified selection",
)


def _values(rates: dict[str, float]) -> str:
    return ", ".join(f"{value:.2f}" for value in rates.values()) or "–"
