"""The page of the search over every mechanism: each alone, all together, and both members alone."""

from collections.abc import Sequence
from pathlib import Path

from recuse.analysis.contradictions import Met, met
from recuse.analysis.frontier import ALL, LOSSES, SPLITS, Frontier, Searched, frontier
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
from recuse.report.study.markdown import data_name, difference, table

FIGURE = "frontier"
ALLOWED = 0.025
WORDS = {
    "indicator": "robustness indicator",
    "any-radius": "indicators of other radii",
    "softmax": "softmax response",
    "entropy": "entropy response",
    "robust-margin": "robust margin",
    "robust-softmax": "softmax response over the ball",
    "network": "selection network",
    "mixture": "mixture of probabilities",
    "one-hot-mixture": "mixture with the core's bare answer",
    ALL: "all of them",
}
INTRODUCTION = """# The frontier: every mechanism that needs no training, in one search

`recuse report` makes this page from the records beside it, which `recuse run frontier` wrote.

**Setting.** The robustness indicator; softmax response, entropy and margins over the ball, each at
{thresholds} thresholds, where records hold what they need; mixtures of a network's probabilities
with the core's at as many weights, and with the core's bare answer (the decision of MixedNUTS
without its map: how far the network's class is ahead of the core's); cascades of two stages. A
stage that looks around its input must be stable within 2ε to answer surely; nothing else here asks
more than ε.

**Adversary.** {attacks} on each network at ε and 2ε; for the worst probabilities
within ε three searches of {steps} steps (cross entropy, wrong-class confidence, probability margin)
that never stop early; what other attacks broke of these networks elsewhere is broken here
(`compositions`, where there are any). Systems are counted by the *sound* accounting, a lower bound
on robust accuracy as strong as these attacks. {whole}

**Chosen.** On one half of the images, the most robust system that gives up at most so much of the
core's natural accuracy there; every number is of the *other* half, mean ± standard deviation over
{splits} random halves. The natural accuracy of a mixture is a lower bound as well. The robust
network alone is the most robust that keeps to the same loss, or of all where none does.
"""


def write_frontier(rows: Path, out: Path) -> None:
    """Write the page of the frontier, and its figure."""
    run = read_run(rows)
    found = {
        title: frontier(models, eps, attacks=run.attacks) for title, models, eps in questions(run)
    }
    systems = met(run.attacks, gather([verdicts(record) for record in run.records]))
    judged = [record.meta for record in run.records]
    save_figure(figure(found), out, ("svg",))
    write_atomically(out / PAGE, page(found, judged, systems).encode())


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


def page(found: dict[str, Frontier], judged: Sequence[RecordMeta], systems: Sequence[Met]) -> str:
    """The whole text."""
    pools = [entry.pool for entry in found.values()]
    thresholds = max(sum(m[0].startswith("mixture") for m in pool.mixtures) for pool in pools)
    stages = max(len(set(pool.networks)) for pool in pools)
    attacks = {f"{m.method} of {m.settings['attack']['steps']} steps" for m in judged}
    steps = {str(m.settings["margins"]["steps"]) for m in judged}
    introduction = INTRODUCTION.format(
        thresholds=thresholds // stages,
        attacks=" and ".join(sorted(attacks)),
        steps=" or ".join(sorted(steps)),
        splits=SPLITS,
        whole=(
            "Some were attacked as a whole; the last table has them."
            if any(": " in one.name for one in systems)
            else "Nothing attacked the systems as a whole."
        ),
    )
    lines = [introduction]
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
        ]
    return "\n".join([*lines, *attacked(systems)])


def attacked(systems: Sequence[Met]) -> list[str]:
    """What an adversary that knows a whole system left of it, and of what was promised."""
    rows = [
        [
            one.name,
            one.eps,
            str(one.natural.size),
            *(_percent(float(mask.mean())) for mask in (one.natural, one.promised, one.survived)),
            str(one.contradictions),
        ]
        for one in systems
        if ": " in one.name and one.natural.size
    ]
    if not rows:
        return []
    head = ["system", "ε", "images", "natural", "sound", "attacked", "promises broken"]
    words = (
        "By an adversary that knows members, selectors and order; promised from attacks on each "
        "member by itself."
    )
    return ["## Attacked as a whole", "", words, "", *table(head, rows)]


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
        )
        for search in searches
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


__all__ = ["write_frontier"]
