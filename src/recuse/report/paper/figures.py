"""Figures 2–4 and 6–9 of the paper, drawn from whatever models the logs hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recuse.analysis.abstainers import TAUS
from recuse.analysis.fronts import pareto
from recuse.analysis.metrics import (
    natural_accuracy,
    rate,
    robust_accuracy,
    robust_inaccuracy,
    share,
)
from recuse.analysis.published.logs import PublishedLog, PublishedLogs
from recuse.analysis.published.points import Abstaining
from recuse.analysis.verdicts import add_radii
from recuse.radius import parse_radius
from recuse.report.charts.marks import Axes, Mark, scatter
from recuse.report.charts.plots import robust_against_inaccuracy, selective_accuracy
from recuse.report.charts.style import RING
from recuse.report.page.blocks import Figure, Section, Text, anchor

SELECTORS = {"RI": "circle", "SR": "diamond", "SN": "square"}
SOUND, CORE, ALONE = "RI, sound", "core", "model alone"
COUNTS = {
    "RI": RING,
    SOUND: "circle",
    "SR": "triangle-up",
    "SN": "square",
    CORE: "diamond",
    ALONE: "triangle-down",
}
_SELECTION = Axes(
    "robust selection",
    "robust accuracy of the selected",
    series_title="loss",
    kind_title="selector",
    shapes=SELECTORS,
)
_COMPOSITION = Axes(
    "natural accuracy",
    "robust accuracy",
    height=300,
    series_title="loss",
    kind_title="selector",
    shapes=COUNTS,
)
# A confidence attack at fewer radii than this says nothing about how radii compare (Figure 6).
_RADII_OF_FIGURE_6 = 3


def figure_section(book: PublishedLogs, models: Mapping[str, Sequence[Abstaining]]) -> Section:
    """All figures of all data sets; ``models`` are the abstaining models of each."""
    figures: list[Figure | Text] = []
    for dataset in book.datasets:
        figures += _inaccuracy(book, dataset)
        figures += _selection(models[dataset], dataset)
        figures += _compositions(book, models[dataset], dataset)
        figures += _thresholds(book, dataset)
    if not figures:
        figures.append(Text(("The logs hold no model that was attacked at its training radius.",)))
    return Section("Figures", tuple(figures), "Hover a point for its model, radius and threshold.")


def _figure(name: str, dataset: str, title: str, chart: Any, caption: str) -> Figure:
    return Figure(f"{name}-{anchor(dataset)}", f"{title}: {dataset}", chart, caption)


def _inaccuracy(book: PublishedLogs, dataset: str) -> Iterator[Figure]:
    marks = [
        _mark(e, r, robust_inaccuracy(e.raw.accurate(), e.raw.robust(r)), _robust(e, r), e.loss)
        for e in book.robust_models(dataset)
        for r in e.raw.radii()
        if e.trained_at(r)
    ]
    if marks := _compared(marks):
        yield _figure(
            "figure-2-7",
            dataset,
            "Figures 2 and 7, robust accuracy against robust inaccuracy",
            robust_against_inaccuracy(_with_fronts(_by_radius(marks), lambda m: (-m.x, m.y))),
            "Models judged at the radius that they were trained for; lines join the models of a "
            "loss that no other of it beats in both. Up and to the left is better.",
        )


def _selection(models: Sequence[Abstaining], dataset: str) -> Iterator[Figure]:
    marks = [
        _abstaining_mark(model, panel, model.published.selection, model.published.accuracy)
        for model, panel in _in_panels(models)
    ]
    if marks := _compared(marks):
        yield _figure(
            "figure-3-8",
            dataset,
            "Figures 3 and 8, abstaining models",
            scatter(_with_fronts(_by_radius(marks), lambda m: (m.x, m.y)), _SELECTION),
            "Robust accuracy of what is robustly selected, against how much is: robustness "
            "indicator (RI), softmax response over its thresholds (SR), selection network (SN). "
            "Up and to the right is better.",
        )


def _compositions(
    book: PublishedLogs, models: Sequence[Abstaining], dataset: str
) -> Iterator[Figure]:
    marks = []
    for model, panel in _in_panels(models):
        if model.core is None or model.core_repaired is None:
            continue
        paper = model.published.paper(model.core)
        mark = _abstaining_mark(model, panel, rate(paper.natural), rate(paper.robust))
        marks.append(mark)
        sound = model.repaired.sound(model.core_repaired)
        if model.published.method == "RI" and sound is not None:
            x, y = rate(model.repaired.natural(model.core_repaired)), rate(sound)
            marks.append(replace(mark, x=x, y=y, kind=SOUND, trail=""))
            x, y = rate(model.alone.natural), rate(model.alone.robust)
            marks.append(replace(mark, x=x, y=y, kind=ALONE, trail=""))
    marks, core = _compared(marks), book.core(dataset)
    if not marks or core is None:
        return
    for panel, eps in dict.fromkeys((m.panel, m.hover["ε"]) for m in marks):
        x = natural_accuracy(core.raw.accurate())
        hover = {"model": core.name, "ε": eps}
        marks.append(Mark(x, _robust(core, eps), "core", CORE, panel, hover=hover))
    yield _figure(
        "figure-4-9",
        dataset,
        "Figures 4 and 9, compositions with the core",
        scatter(_by_radius(marks), _COMPOSITION),
        "By the paper's formula; discs are the robustness-indicator compositions (rings) by the "
        "sound count, triangles that point down the same models without a core. Up and to the "
        "right is better.",
    )


def _thresholds(book: PublishedLogs, dataset: str) -> Iterator[Figure | Text]:
    """Softmax response of one model at several radii, for models attacked at three or more."""
    for entry in book.robust_models(dataset):
        confidence = book.confidence_of(entry)
        if confidence is None:
            continue
        judged = confidence.raw.radii("adv_confidence")
        radii = [r for r in judged if add_radii(r, r) in judged and entry.raw.has("robust", r)]
        if len(radii) < _RADII_OF_FIGURE_6:
            continue
        yield _figure(
            f"figure-6-{anchor(entry.name)}",
            dataset,
            f"Figure 6, softmax response of {entry.name}",
            selective_accuracy([m for r in radii for m in _curve(entry, confidence, r)]),
            "Robust selection judged by the attack on the confidence (APGDconf), one curve a "
            "radius, one point a threshold.",
        )
        if not entry.raw.radii("adv_confidence"):
            yield Text(
                (
                    f"The curves judged by APGD on the answer cannot be drawn for {entry.name}: "
                    "its log keeps no confidence at the attacked points.",
                ),
                tone="note",
            )


def _curve(entry: PublishedLog, confidence: PublishedLog, eps: str) -> Iterator[Mark]:
    held = confidence.raw.adv_confidence(add_radii(eps, eps))
    right = entry.raw.accurate() & entry.raw.robust(eps)
    for tau in TAUS:
        kept = held >= tau
        hover = {"model": entry.name, "ε": eps, "τ": f"{tau:.2f}"}
        series = f"APGDconf, ε = {eps}"
        yield Mark(rate(kept), share(right, kept), series, trail=series, order=tau, hover=hover)


def _in_panels(models: Sequence[Abstaining]) -> Iterator[tuple[Abstaining, str]]:
    """Models trained at twice the radius, by base model; selection networks beside every base."""
    trained = [m for m in models if m.entry.trained_at(_doubled(m))]
    panels: dict[str, list[str]] = {}
    for m in trained:
        if not m.entry.selective:
            panels.setdefault(m.published.eps, []).append(_panel(m.entry, m.published.eps))
            yield m, _panel(m.entry, m.published.eps)
    for m in models:
        if m.entry.selective:
            for panel in dict.fromkeys(panels.get(m.published.eps, [])):
                yield m, panel


def _doubled(model: Abstaining) -> str:
    return add_radii(model.published.eps, model.published.eps)


def _panel(entry: PublishedLog, eps: str) -> str:
    return f"{entry.tag('base') or entry.name}, ε = {eps}"


def _robust(entry: PublishedLog, eps: str) -> float:
    return robust_accuracy(entry.raw.accurate(), entry.raw.robust(eps))


def _mark(entry: PublishedLog, eps: str, x: float, y: float, series: str) -> Mark:
    hover = {"model": entry.name, "ε": eps, "augmentation": entry.tag("augmentation")}
    if beta := entry.tag("beta"):
        hover["β"] = beta
    return Mark(x, y, series, panel=_panel(entry, eps), hover=hover)


def _abstaining_mark(model: Abstaining, panel: str, x: float, y: float) -> Mark:
    published = model.published
    mark = _mark(model.entry, published.eps, x, y, model.entry.loss)
    mark = replace(mark, panel=panel, kind=published.method)
    if published.tau is None:
        return mark
    hover = {**mark.hover, "τ": f"{published.tau:.2f}"}
    trail = f"{panel} {model.entry.name}"
    return replace(mark, hover=hover, trail=trail, order=published.tau)


def _compared(marks: Sequence[Mark]) -> list[Mark]:
    """Marks of panels with at least two models; one model alone compares with nothing."""
    models: dict[str, set[str]] = {}
    for mark in marks:
        models.setdefault(mark.panel, set()).add(mark.hover["model"])
    return [mark for mark in marks if len(models[mark.panel]) > 1]


def _by_radius(marks: Sequence[Mark]) -> list[Mark]:
    return sorted(
        marks, key=lambda m: (parse_radius(m.hover["ε"]) if "ε" in m.hover else 0, m.panel)
    )


def _with_fronts(
    marks: Sequence[Mark], goodness: Callable[[Mark], tuple[float, float]]
) -> list[Mark]:
    """Join the models of a panel and series that no other of them beats in both coordinates."""
    joined = list(marks)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for index, mark in enumerate(marks):
        if not mark.trail:
            groups.setdefault((mark.panel, mark.series, mark.kind), []).append(index)
    for key, members in groups.items():
        values = [goodness(marks[i]) for i in members]
        for place in pareto([v[0] for v in values], [v[1] for v in values]):
            index = members[place]
            mark = marks[index]
            joined[index] = replace(mark, trail=" ".join((*key, "front")), order=mark.x)
    return joined
