"""The page of the search over every mechanism: each alone, all together, and both members alone."""

from collections.abc import Sequence
from pathlib import Path

from recuse.analysis.contradictions import Met
from recuse.analysis.elsewhere import own
from recuse.analysis.frontier import ALL, ALLOWED, LOSSES, SPLITS, Frontier, Searched, frontier
from recuse.analysis.intervals import wilson_of
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.radius import parse_radius
from recuse.records.layout import PAGE
from recuse.records.run_folder import RunFolder, read_run
from recuse.records.schema import RecordMeta
from recuse.records.store import write_atomically
from recuse.report.charts.marks import Axes, Mark, scatter
from recuse.report.page.blocks import Figure
from recuse.report.page.figures import save_figure
from recuse.report.study.attacked_systems import attacked, systems_met
from recuse.report.study.frontier_words import (
    ATTACKED,
    INTRODUCTION,
    WHY,
    WORDS,
    given_up,
    published,
    verdict,
)
from recuse.report.study.markdown import data_name, difference, table

FIGURE = "frontier"


def write_frontier(rows: Path, out: Path) -> None:
    """Write the page of the frontier, and its figure."""
    run = read_run(rows)
    found = {
        title: frontier(models, eps, attacks=run.attacks) for title, models, eps in questions(run)
    }
    systems = systems_met(run)
    judged = [record.meta for record in own(run.records)]
    save_figure(figure(found), out, ("svg",))
    if systems:
        save_figure(attacked_figure(systems), out, ("svg",))
    text = [*page(found, judged, systems), *published(rows)]
    write_atomically(out / PAGE, "\n".join(text).encode())


def questions(run: RunFolder) -> list[tuple[str, list[Verdicts], str]]:
    """Title, networks and radius of each question of the run."""
    networks = gather([verdicts(record) for record in run.records], run.attacks)
    groups: dict[str, list[Verdicts]] = {}
    for model in networks:
        groups.setdefault(model.meta.dataset, []).append(model)
    return [
        (f"{data_name(dataset.partition('/')[0])}, {eps}", models, eps)
        for dataset, models in groups.items()
        for eps in sorted(run.eps, key=parse_radius)
    ]


def page(
    found: dict[str, Frontier], judged: Sequence[RecordMeta], systems: Sequence[Met]
) -> list[str]:
    """Everything that is said of the run itself, by lines."""
    pools = [entry.pool for entry in found.values()]
    thresholds = max(sum(m[0].startswith("mixture") for m in pool.mixtures) for pool in pools)
    stages = max(len(set(pool.networks)) for pool in pools)
    attacks = {f"{m.method} of {m.settings['attack']['steps']} steps" for m in judged}
    steps = {str(m.settings["margins"]["steps"]) for m in judged if "margins" in m.settings}
    introduction = INTRODUCTION.format(
        thresholds=thresholds // stages,
        attacks=" and ".join(sorted(attacks)),
        steps=" or ".join(sorted(steps)),
        splits=SPLITS,
        whole=(
            "Some were attacked as a whole, further down."
            if systems
            else "Nothing attacked the systems as a whole."
        ),
    )
    lines = [introduction, WHY]
    lines += [f"![Natural against sound robust accuracy]({FIGURE}.svg)", ""]
    for title, entry in found.items():
        pool = entry.pool
        lines += [
            f"## {title}",
            "",
            f"**Images.** {pool.samples:,} test images; core {pool.core_name}; "
            f"{', '.join(dict.fromkeys(pool.networks))}. At most {100 * ALLOWED:g} points of the "
            "core's natural accuracy given up on the choosing half:",
            "",
            *rates(entry),
            verdict(entry, ALLOWED),
            "",
            *given_up(entry),
        ]
    return [*lines, *attacked(systems, ATTACKED)]


def rates(entry: Frontier) -> list[str]:
    """The table of one question."""
    searches = entry.at(ALLOWED)
    mean = searches[0].result.mean
    rows = [
        ["core alone", _percent(mean.core_natural), _percent(mean.core_robust), "–"],
        ["robust network alone", _percent(mean.alone_natural), _percent(mean.alone_robust), "–"],
    ]
    for search in searches:
        own, spread = search.result.mean, search.result.deviation
        over = (
            "–"
            if search.mechanism == ALL
            else difference(entry.over(ALLOWED, search.mechanism).robust)
        )
        rows.append(
            [
                WORDS[search.mechanism],
                f"{_percent(own.natural)} ± {_percent(spread.natural)}",
                f"{_percent(own.sound)} ± {_percent(spread.sound)}",
                over,
            ]
        )
    return table(["system", "natural", "robust (sound)", "all of them has more by"], rows)


def figure(found: dict[str, Frontier]) -> Figure:
    """Natural against sound robust accuracy, a line a mechanism over the allowed losses."""
    marks = []
    for title, entry in found.items():
        mean = entry.searches[0].result.mean
        marks.append(Mark(mean.core_natural, mean.core_robust, "core alone", panel=title))
        most = entry.at(LOSSES[-1])[0].result.mean
        marks.append(
            Mark(most.alone_natural, most.alone_robust, "robust network alone", panel=title)
        )
        marks += _lines(title, entry.searches)
    axes = Axes("natural accuracy", "robust accuracy, sound", series_title="system")
    return Figure(FIGURE, "Every mechanism on the half that did not choose", scatter(marks, axes))


def _lines(title: str, searches: Sequence[Searched]) -> list[Mark]:
    return [
        Mark(
            search.result.mean.natural,
            search.result.mean.sound,
            WORDS[search.mechanism],
            panel=title,
            trail=f"{title} {search.mechanism}",
            order=search.loss,
            y_interval=_band(search.result.mean.sound, search.result.deviation.sound),
        )
        for search in searches
    ]


def _band(mean: float, deviation: float) -> tuple[float, float]:
    return max(0.0, mean - deviation), mean + deviation


def attacked_figure(systems: Sequence[Met]) -> Figure:
    """Natural against attacked robust accuracy, with 95 % intervals, members alone beside."""
    marks = []
    for one in systems:
        panel = f"{data_name(one.dataset.partition('/')[0])}, {one.eps}"
        left, natural = wilson_of(one.survived), float(one.natural.mean())
        ends = (left.low, left.high)
        marks.append(Mark(natural, left.estimate, _series(one.name), panel=panel, y_interval=ends))
        robust, core = one.alone[0], one.alone[-1]
        for words, (_, right, kept) in (("robust network alone", robust), ("core alone", core)):
            mark = Mark(float(right.mean()), float(kept.mean()), words, panel=panel)
            marks += [mark] * (mark not in marks)
    axes = Axes("natural accuracy", "robust accuracy, attacked", series_title="system")
    return Figure("attacked", "What an adversary of the whole left", scatter(marks, axes))


def _series(name: str) -> str:
    """The mechanism of a system by its name."""
    stage, _, selector = name.partition(" → ")[0].partition(": ")
    kind = (stage if selector.startswith("always") or not selector else selector).partition("(")[0]
    return WORDS.get(kind, kind)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


__all__ = ["write_frontier"]
