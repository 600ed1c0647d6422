"""Tables 1–3, 5 and 7–9 of the paper, in their form, for whatever models the logs hold."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from recuse.analysis.intervals import Interval
from recuse.analysis.measured import CERTIFIED, rates_at
from recuse.analysis.published.cells import Computed
from recuse.analysis.published.counted import ABSTENTION_LOSSES
from recuse.analysis.published.logs import PublishedLog, PublishedLogs
from recuse.analysis.published.points import Abstaining
from recuse.radius import format_radius, parse_radius
from recuse.report.page.blocks import Cell, Column, Rate, Table
from recuse.report.run.tables import interval_rate


def computed_tables(
    book: PublishedLogs, cells: Sequence[Computed], models: Mapping[str, Sequence[Abstaining]]
) -> list[Table]:
    """The paper's tables in form, computed from all models of all data sets."""
    tables: list[Table] = []
    for dataset in book.datasets:
        tables += _split_table(book, dataset)
        tables += _abstention_table(book, dataset)
        tables += _all_models(book, dataset)
        tables += _abstaining(models[dataset], dataset)
        tables += _unlabelled(book, dataset)
    return [*tables, *_certified(book, cells)]


def _abstaining(models: Sequence[Abstaining], dataset: str) -> Iterator[Table]:
    """Every selector at every radius and threshold, by every rate of selection."""
    rows = tuple(
        (
            m.entry.name,
            m.published.method,
            m.published.eps,
            m.published.tau,
            *(
                Rate(value, decimals=2)
                for value in (
                    m.published.coverage,
                    m.published.risk,
                    m.published.false_abstention,
                    m.published.selection,
                    m.published.accuracy,
                    m.published.inaccuracy,
                )
            ),
        )
        for m in models
    )
    if rows:
        columns = (
            "model",
            Column("selector", meaning="RI: robustness indicator, SR: softmax response"),
            "ε",
            Column("τ", decimals=2),
            Column("coverage", "%", "Selected at x"),
            Column("selective risk", "%", "Wrong among those selected at x"),
            Column("false abstention", "%", "Not selected at x among those right at x"),
            Column("robust selection", "%", "Selected in the whole ball"),
            Column("robust accuracy", "%", "Robust and right among the robustly selected"),
            Column("robust inaccuracy", "%", "Robust and wrong among the robustly selected"),
        )
        yield Table(f"Every abstaining model: {dataset}", columns, rows, folded=True)


def _unlabelled(book: PublishedLogs, dataset: str) -> Iterator[Table]:
    """What needs no label, for logs that have none."""
    rows: list[tuple[Cell, ...]] = []
    for entry in book.attacked(dataset):
        if entry.raw.labelled:
            continue
        for eps in entry.raw.radii():
            found = rates_at(entry.raw, eps)
            rows.append((entry.name, eps, _rate(found.stable), _rate(found.selected)))
    if rows:
        columns = (
            "model",
            "ε",
            Column("stable", "%", "No perturbation within ε was found to change the answer"),
            Column("robust selection", "%", "Stable to 2ε"),
        )
        caption = "These logs do not say which answers are right: only label-free rates exist."
        yield Table(f"Models without labels: {dataset}", columns, tuple(rows), caption)


def _rate(interval: Interval | None) -> Rate | None:
    return interval_rate(interval, decimals=2)


_FOUR_SPLITS = (
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


def _split_table(book: PublishedLogs, dataset: str) -> Iterator[Table]:
    """Tables 1, 7, 8 and 9: existing models at their training radius, cores at every radius."""
    core = book.core(dataset)
    pairs = [
        (e, r)
        for e in book.robust_models(dataset)
        if e.tag("loss") not in ABSTENTION_LOSSES
        for r in e.raw.radii()
        if e.trained_at(r)
    ]
    if core is not None:
        pairs += [(core, r) for r in core.raw.radii()]
    rows = []
    for entry, eps in sorted(pairs, key=lambda p: parse_radius(p[1])):
        found = rates_at(entry.raw, eps)
        part = found.splits
        assert part is not None  # the models are labelled
        rows.append(
            (
                eps,
                entry.name,
                entry.loss,
                entry.tag("augmentation"),
                _rate(found.natural),
                _rate(found.robust),
                _rate(found.robust_inaccuracy),
                Rate(part.fragile_accurate, decimals=2),
                Rate(part.fragile_inaccurate, decimals=2),
                entry.tag("quality"),
            )
        )
    if rows:
        yield Table(
            f"Tables 1, 7, 8 and 9, the four splits: {dataset}",
            _FOUR_SPLITS,
            tuple(rows),
            caption="Models without abstention training at the radius that they were trained "
            "for, and the core at every radius. Intervals: Wilson, 95 %.",
        )


def _abstention_table(book: PublishedLogs, dataset: str) -> Iterator[Table]:
    """Table 5: ERA beside DGA, selection and accuracy at the training radius."""
    models = [e for e in book.robust_models(dataset) if e.tag("loss") in ABSTENTION_LOSSES]
    if not {"era", "dga"} <= {e.tag("loss") for e in models}:
        return
    settings = {(e.tag("base"), e.tag("train_eps")) for e in models if e.tag("loss") == "dga"}
    rows: list[tuple[Cell, ...]] = []
    for e in sorted(models, key=lambda e: (e.tag("train_eps"), e.tag("augmentation"), e.loss)):
        eps = e.tag("train_eps")
        if (e.tag("base"), eps) in settings and e.raw.has("robust", eps):
            found = rates_at(e.raw, eps)
            rates = (_rate(found.stable), _rate(found.right_if_stable))
            rows.append((eps, e.tag("augmentation"), e.loss, e.name, *rates))
    yield Table(
        f"Table 5, ERA against DGA: {dataset}",
        ("ε", "augmentation", "loss", "model", Column("selection", "%"), Column("accuracy", "%")),
        tuple(rows),
        caption="Robustness indicator at ε: share kept, and share right of the kept.",
        folded=True,
    )


def _all_models(book: PublishedLogs, dataset: str) -> Iterator[Table]:
    rows: list[tuple[Cell, ...]] = []
    for entry in book.robust_models(dataset):
        for eps in entry.raw.radii():
            found = rates_at(entry.raw, eps)
            rows.append(
                (
                    entry.name,
                    entry.loss,
                    entry.tag("train_eps"),
                    eps,
                    _rate(found.natural),
                    _rate(found.robust),
                    _rate(found.robust_inaccuracy),
                    _rate(found.selected),
                    _rate(found.precision),
                    _rate(found.false_abstention),
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


def _certified(book: PublishedLogs, cells: Sequence[Computed]) -> Iterator[Table]:
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


def _radii(entry: PublishedLog, printed: set[str]) -> list[str]:
    """The printed radius nearest to twice the noise, as the paper pairs them; else that itself."""
    sigma = float(entry.raw.meta.settings.get("sigma", 0.0))
    if not printed:
        return [format_radius(round(2 * sigma, 6))]
    return [min(printed, key=lambda r: abs(parse_radius(r) - 2 * sigma))]


def _proven(entry: PublishedLog, eps: str) -> tuple[Cell, ...]:
    model = entry.raw
    found = rates_at(model, eps, CERTIFIED)
    return (
        _rate(found.robust),
        _rate(found.robust_inaccuracy),
        _rate(found.stable),
        _rate(found.right_if_stable),
        _rate(found.selected),
        f"{np.max(model.values('radius'), initial=0.0):.3f}",
    )
