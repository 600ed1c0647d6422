"""Tables and figures of the comparison, from measured samples and attacked rows alone."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from selectors_attack import CORE, LOSS, ROBUST, TRUNK, Deployed, pool, results
from selectors_points import (
    MECHANISMS,
    Mask,
    Point,
    Tables,
    best,
    column,
    compose,
    core_of,
    paper_of,
    sweep,
    sweep_pairs,
    verdict,
)

from recuse.analysis.fronts import pareto
from recuse.analysis.intervals import paired_difference, wilson_of
from recuse.analysis.metrics import rate, robust_accuracy, robust_inaccuracy, selective_risk
from recuse.records.store import write_atomically
from recuse.report.figures import save_figures
from recuse.report.html import write_html
from recuse.report.marks import Axes, Mark, scatter
from recuse.report.page import Column, Figure, Page, Points, Rate, Section, Spread, Table
from recuse.report.values import headings, show_table

SPLITS = 20
LOSSES = (0.0, LOSS)
TAUS = tuple(np.round(np.arange(0.0, 1.0, 0.05), 2).tolist())


@dataclass(frozen=True)
class Attacked:
    """One composition under the adversary, its rows aligned with the sample tables.

    Attributes:
        entry: What was attacked.
        eps: Radius.
        rows: Index into the sample tables of each attacked row.
        frame: What came of it.
    """

    entry: Deployed
    eps: str
    rows: npt.NDArray[np.int64]
    frame: pl.DataFrame

    @property
    def robust(self) -> Mask:
        """Attacked robust accuracy, per row."""
        return verdict(self.frame, "attacked")

    @property
    def sound(self) -> Mask | None:
        """Sound bound on the same rows, where there is one."""
        return None if self.entry.point is None else self.entry.point.sound[self.rows]

    @property
    def violations(self) -> Mask:
        """Rows that the bound calls safe and the adversary broke."""
        return np.zeros(len(self.rows), bool) if self.sound is None else self.sound & ~self.robust


def attacked(
    todo: Mapping[str, list[Deployed]], tables: Tables, folder: Path
) -> Iterator[Attacked]:
    """Everything that was attacked."""
    index = {name: row for row, name in enumerate(tables[CORE]["sample_id"].to_list())}
    frames = [
        (eps, entry, frame)
        for eps, entries in todo.items()
        for entry in entries
        if (frame := results(entry, eps, folder)) is not None
    ]
    # All rows of the table are of the same images, also while some have more than others.
    common = min(len(frame) for _, _, frame in frames)
    for eps, entry, frame in frames:
        rows = np.array([index[i] for i in frame["sample_id"].head(common).to_list()])
        yield Attacked(entry, eps, rows, frame.head(common))


def share(mask: Mask) -> Rate:
    """A rate with its Wilson interval."""
    found = wilson_of(mask)
    return Rate(found.estimate, found.low, found.high)


def difference(first: Mask, second: Mask) -> Points:
    """A paired difference with its bootstrap interval."""
    found = paired_difference(first, second)
    return Points(found.estimate, found.low, found.high)


def adversary_table(found: list[Attacked]) -> Table:
    """Every mechanism at its operating point, as deployed and under the adversary."""
    columns = (
        "eps",
        Column("mechanism", meaning="How the stages select; the core answers the rest"),
        Column("setting", meaning="Classifier and threshold of each stage"),
        Column("natural", "%", "Right answers without an attack", best="high"),
        Column("sound", "%", "Right in the whole ball, by the sound accounting", best="high"),
        Column(
            "attacked", "%", "Right answers the adaptive adversary could not change", best="high"
        ),
        Column("gap", "points", "Attacked minus sound"),
        Column("violations", "", "Rows the sound bound calls safe that the adversary broke"),
        Column("core asked", "%", "Inputs that reach the core"),
        Column("... attacked", "%", "Inputs that an attacker can bring to the core"),
        Column("passes", "", "Network passes per input", decimals=1),
    )
    rows = []
    for a in found:
        sound = a.sound
        rows.append(
            (
                a.eps,
                a.entry.name,
                a.entry.setting,
                share(verdict(a.frame, "correct")),
                None if sound is None else share(sound),
                share(a.robust),
                None if sound is None else difference(a.robust, sound),
                None if sound is None else int(a.violations.sum()),
                Rate(rate(verdict(a.frame, "asks_core"))),
                Rate(rate(verdict(a.frame, "asks_core_attacked"))),
                float(a.frame["cost"].mean() or 0.0),
            )
        )
    return Table(
        "Mechanisms at equal natural loss, under the adaptive adversary",
        columns,
        tuple(rows),
        caption="Thresholds and weights are chosen on every other image for the best sound bound "
        "(where there is one, else the most permissive) at a natural loss of at most one point "
        "there; the indicator has none to choose. All columns are of the attacked images alone.",
        within=("eps",),
    )


def difference_table(found: list[Attacked]) -> Table:
    """Paired differences in attacked accuracy against each mechanism."""
    rows = []
    for eps in dict.fromkeys(a.eps for a in found):
        here = {a.entry.name: a for a in found if a.eps == eps}
        ours = here.get("robust margin")
        for name, other in here.items():
            if ours is not None and name != "robust margin":
                common = min(len(ours.rows), len(other.rows))
                pair = [verdict(a.frame, "correct")[:common] for a in (ours, other)]
                safe = [a.robust[:common] for a in (ours, other)]
                rows.append((eps, name, difference(*pair), difference(*safe)))
    return Table(
        "Robust margin against the others, paired on the same images",
        ("eps", "against", Column("natural", "points"), Column("attacked", "points")),
        tuple(rows),
        caption="Positive: the robust margin is better. 95 % intervals by paired bootstrap.",
        within=("eps",),
    )


def single_table(tables: Tables) -> Table:
    """The networks by themselves."""
    rows = []
    for name in (CORE, *pool(), TRUNK):
        t = tables[name]
        right = verdict(t, "accurate")
        for eps in ("1/255", "2/255"):
            robust = verdict(t, f"robust@{eps}")
            certified = f"certified@{eps}"
            rows.append(
                (
                    name,
                    eps,
                    share(right),
                    Rate(robust_accuracy(right, robust)),
                    Rate(robust_inaccuracy(right, robust)),
                    Rate(rate(verdict(t, certified) & right)) if certified in t.columns else None,
                )
            )
    columns = ("network", "eps", "natural", "robust", "robust and wrong", "certified right")
    return Table("The networks alone", columns, tuple(rows), within=("network",))


def split_table(tables: Tables, candidates: Mapping[str, Mapping[str, list[Point]]]) -> Table:
    """Chosen on one half, reported on the other, means over random halves."""
    rows = []
    generator = np.random.default_rng(0)
    count = len(tables[CORE])
    cuts = [generator.permutation(count) < count // 2 for _ in range(SPLITS)]
    for eps, mechanisms in candidates.items():
        core = core_of(tables[CORE], eps)
        for loss in LOSSES:
            for name, points in mechanisms.items():
                picked = [(best(points, cut, core, loss=loss), ~cut) for cut in cuts]
                natural, sound = (
                    [float(getattr(p, k)[rest].mean()) for p, rest in picked if p is not None]
                    for k in ("natural", "sound")
                )
                lost = [
                    float(p.natural[rest].mean() - core.accurate[rest].mean())
                    for p, rest in picked
                    if p is not None
                ]
                rows.append(
                    (
                        eps,
                        Points(-loss),
                        name,
                        _mean(natural),
                        Points(float(np.mean(lost))),
                        _mean(sound),
                    )
                )
    return Table(
        "Chosen on one half, reported on the other: mean of 20 splits",
        (
            "eps",
            Column("allowed loss", "points"),
            "composition",
            Column("natural", "%"),
            Column("against the core", "points"),
            Column("sound", "%", best="high"),
        ),
        tuple(rows),
        within=("eps", "allowed loss"),
    )


def _mean(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values)))


def front_figure(
    tables: Tables, candidates: Mapping[str, Mapping[str, list[Point]]], found: list[Attacked]
) -> Figure:
    """Natural against robust accuracy: fronts of the sound bound, points under attack."""
    marks = []
    for eps, mechanisms in candidates.items():
        for name, points in mechanisms.items():
            natural = np.array([p.natural.mean() for p in points])
            sound = np.array([p.sound.mean() for p in points])
            for order, i in enumerate(pareto(natural, sound)):
                marks.append(
                    Mark(
                        float(natural[i]),
                        float(sound[i]),
                        name,
                        "sound",
                        eps,
                        f"{eps} {name}",
                        order,
                    )
                )
    for a in found:
        natural, robust = verdict(a.frame, "correct").mean(), a.robust.mean()
        marks.append(Mark(float(natural), float(robust), a.entry.name, "attacked", a.eps))
    chart = scatter(
        marks,
        Axes(
            "natural accuracy",
            "robust accuracy",
            420,
            340,
            series_title="mechanism",
            kind_title="accounting",
            shapes={"sound": "circle", "attacked": "diamond"},
        ),
    )
    return Figure(
        "fronts",
        "Natural against robust accuracy",
        chart,
        "Lines: what each mechanism can reach by its threshold, sound accounting, all 1,017 "
        "images. Diamonds: operating points under the adaptive adversary, on the attacked images.",
    )


def flattery_figure(tables: Tables) -> tuple[Figure, Table]:
    """Softmax response judged by two attacks, as the threshold and the radius grow."""
    t, marks, rows = tables[ROBUST], [], []
    names = {
        "wrong_confidence": "confidence attack",
        "wrong_confidence_ce": "APGD, largest loss",
        "wrong_confidence_first": "APGD, first success",
    }
    for eps in ("1/255", "2/255", "4/255", "8/255"):
        for kind, words in names.items():
            worst = np.maximum(column(t, f"{kind}@{eps}"), 0)
            for tau in TAUS:
                broken = worst >= tau if tau else worst > 0.5
                kept = column(t, "confidence") >= tau
                safe = verdict(t, "accurate") & kept & ~broken
                marks.append(
                    Mark(
                        float(kept.mean()),
                        float(safe.sum() / max(kept.sum(), 1)),
                        words,
                        "",
                        f"ε = {eps}",
                        f"{eps} {words}",
                        tau,
                    )
                )
        wrong = {w: float((column(t, f"{k}@{eps}") >= 0.6).mean()) for k, w in names.items()}
        rows.append((eps, *(Rate(wrong[w]) for w in names.values())))
    figure = Figure(
        "softmax_adversaries",
        "Softmax response under two adversaries",
        scatter(
            marks,
            Axes("selected", "robust accuracy of the selected", 300, 220, series_title="judged by"),
        ),
        "Threshold from 0 to 0.95. The larger the radius, the more a plain attack flatters: it "
        "stops at a wrong answer that is not confident enough to be selected.",
    )
    table = Table("Wrong answers at confidence 0.6 or more", ("eps", *names.values()), tuple(rows))
    return figure, table


def candidates_at(tables: Tables, eps: str) -> dict[str, list[Point]]:
    """Every setting of every mechanism that the sound accounting can judge."""
    singles = sweep(tables, CORE, eps, "robust margin", pool())
    return {
        "indicator": [*sweep(tables, CORE, eps, "indicator", pool()), _core_only(tables, eps)],
        "robust margin": [*singles, _core_only(tables, eps)],
        "cascade of two": [
            *sweep_pairs(tables, CORE, eps, "robust margin", pool()),
            *singles,
            _core_only(tables, eps),
        ],
        "softmax over the ball": [
            *sweep(tables, CORE, eps, "softmax over the ball", pool()),
            _core_only(tables, eps),
        ],
        "softmax response": [
            *sweep(tables, CORE, eps, "softmax response", pool()),
            _core_only(tables, eps),
        ],
        "selection network": [
            *sweep(tables, CORE, eps, "selection network", [ROBUST]),
            _core_only(tables, eps),
        ],
        "selection network (ACE-IBP)": [
            *sweep(tables, CORE, eps, "selection network", [TRUNK]),
            _core_only(tables, eps),
        ],
    }


def _core_only(tables: Tables, eps: str) -> Point:
    return compose(tables, CORE, eps, "indicator", [])


def selection_table(tables: Tables) -> Table:
    """Selection networks as ACE reports them: selected everywhere in the ball, and how well."""
    rows = []
    for model in (ROBUST, TRUNK):
        for eps in ("1/255", "2/255"):
            stage = MECHANISMS["selection network"](tables, model, eps, 0.0)
            sure, robust = stage.surely_selects, stage.robust & stage.accurate
            rows.append(
                (
                    model,
                    eps,
                    Rate(rate(stage.selects)),
                    Rate(rate(sure)),
                    Rate(1 - selective_risk(robust, sure)) if sure.any() else None,
                )
            )
    return Table(
        "Selection networks at threshold 0",
        ("classifier", "eps", "selected", "certainly selected", "right and robust among those"),
        tuple(rows),
        within=("classifier",),
        caption="Certainly selected: proven by interval bounds for the whole ball.",
    )


def paper_table(tables: Tables) -> Table:
    """The indicator composition by both accountings."""
    rows = []
    for eps in ("1/255", "2/255"):
        for model in pool():
            paper = paper_of(tables, CORE, eps, model)
            sound = compose(tables, CORE, eps, "indicator", [(model, 0.0)])
            rows.append(
                (
                    eps,
                    model,
                    Rate(rate(paper.natural)),
                    Rate(rate(paper.robust)),
                    Rate(rate(sound.natural)),
                    Rate(rate(sound.sound)),
                )
            )
    return Table(
        "The indicator with each network: the paper's accounting and the sound one",
        ("eps", "stage", "natural (paper)", "robust (paper)", "natural", "sound"),
        tuple(rows),
        within=("eps",),
    )


def write_all(todo: Mapping[str, list[Deployed]], tables: Tables, attacks: Path, out: Path) -> Page:
    """The report, its figures as files, its tables as Markdown and numbers as JSON."""
    found = list(attacked(todo, tables, attacks))
    candidates = {eps: candidates_at(tables, eps) for eps in todo}
    flattery, wrong = flattery_figure(tables)
    violations = sum(int(a.violations.sum()) for a in found)
    judged = sum(len(a.rows) for a in found if a.sound is not None)
    page = Page(
        "Ways to abstain, side by side",
        (
            "CIFAR-10, a standard ResNet-56 as core, published robust networks as stages, 1,017 "
            "lossless test images. Every composition is attacked as a whole.",
            f"The sound bound rests on attacks here, not on proofs: of {judged} bounds on attacked "
            f"images, the adversary contradicted {violations}.",
        ),
        (
            Section(
                "Under the adaptive adversary", (adversary_table(found), difference_table(found))
            ),
            Section(
                "What thresholds can reach",
                (front_figure(tables, candidates, found), split_table(tables, candidates)),
            ),
            Section("Softmax response needs its own adversary", (flattery, wrong)),
            Section("Parts", (single_table(tables), paper_table(tables), selection_table(tables))),
        ),
        subtitle="CIFAR-10, linf:1/255 and linf:2/255",
    )
    write_html(page, attacks.parent / "report.html")
    save_figures(page, out, ("svg",))
    write_atomically(out / "tables.md", markdown(page).encode())
    write_atomically(out / "summary.json", json.dumps(numbers(found), indent=1).encode())
    return page


def numbers(found: list[Attacked]) -> list[dict[str, Any]]:
    """The headline numbers."""
    return [
        {
            "eps": a.eps,
            "mechanism": a.entry.name,
            "setting": a.entry.setting,
            "images": len(a.rows),
            "natural": float(verdict(a.frame, "correct").mean()),
            "sound": None if a.sound is None else float(a.sound.mean()),
            "attacked": float(a.robust.mean()),
            "violations": int(a.violations.sum()),
            "violations_with_witness": int((a.violations & verdict(a.frame, "passed_first")).sum()),
            "core_asked": float(verdict(a.frame, "asks_core").mean()),
            "core_asked_attacked": float(verdict(a.frame, "asks_core_attacked").mean()),
            "passes": float(a.frame["cost"].mean() or 0.0),
            "seconds_per_image": float(a.frame["seconds"].mean() or 0.0),
        }
        for a in found
    ]


def markdown(page: Page) -> str:
    """All tables of a page as Markdown."""
    parts = [f"# {page.title}", *page.summary]
    for table in page.tables():
        names = [c.name + (f" ({c.unit})" if c.unit else "") for c in headings(table)]
        parts += [f"## {table.title}", table.caption]
        lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        for row in show_table(table):
            lines.append(
                "| " + " | ".join(" ".join(filter(None, (c.text, c.small))) for c in row) + " |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(filter(None, parts)) + "\n"
