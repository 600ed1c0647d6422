"""Report of the comparison: its figures, its tables as Markdown and as a page, its numbers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from selectors_attack import CORE, ROBUST, Deployed, results
from selectors_points import Point, Tables, column, verdict
from selectors_tables import (
    EPS,
    Attacked,
    adversary_table,
    attacked,
    candidates_at,
    difference_table,
    paper_table,
    selection_table,
    single_table,
    split_table,
)

from recuse.analysis.fronts import pareto
from recuse.radius import parse_radius
from recuse.records.store import write_atomically
from recuse.report.figures import save_figures
from recuse.report.html import write_html
from recuse.report.marks import Axes, Mark, scatter
from recuse.report.page import Figure, Page, Rate, Section, Table
from recuse.report.values import headings, show_table

NEAR = 0.03
# From one half upwards a class of such probability is the answer.
TAUS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
DRAWN = {
    "indicator": "indicator",
    "robust margin": "robust margin",
    "cascade of two": "cascade of two",
    "softmax response": "softmax response",
    "selection network": "selection network",
    "selection network (ACE-IBP)": "selection network (ACE-IBP)",
    "entropy response": "entropy response",
    "mixture": "mixture",
    "core alone": "core",
}
LOWEST, APART = 0.75, 0.012


def refuted(tables: Tables, todo: Mapping[str, list[Deployed]], attacks: Path) -> Tables:
    """The tables, the core no longer robust where the adversary has changed its answer.

    Thresholds are chosen on other rows than those attacked, so no choice depends on this.
    """
    core = tables[CORE]
    for eps, entries in todo.items():
        alone = next(entry for entry in entries if entry.name == "core alone")
        frame = results(alone, eps, attacks)
        if frame is None:
            continue
        broken = frame.filter(pl.col("correct") & ~pl.col("attacked"))["sample_id"].implode()
        wider = [r for r in EPS if parse_radius(r) >= parse_radius(eps)]
        hit = pl.col("sample_id").is_in(broken)
        core = core.with_columns(pl.col(f"robust@{r}") & ~hit for r in wider)
    return {**tables, CORE: core}


def front_figure(
    candidates: Mapping[str, Mapping[str, list[Point]]], found: list[Attacked]
) -> Figure:
    """Natural against robust accuracy: fronts of the sound bound, points under attack."""
    marks, rows = [], found[0].rows
    for eps, mechanisms in candidates.items():
        for name, points in mechanisms.items():
            if name not in DRAWN:
                continue
            natural = np.array([p.natural[rows].mean() for p in points])
            sound = np.array([p.sound[rows].mean() for p in points])
            last = np.inf
            for order, i in enumerate(pareto(natural, sound)):
                near = abs(natural[i] - last) < APART
                if natural[i] >= LOWEST and not near:
                    last, at = natural[i], (float(natural[i]), float(sound[i]))
                    marks.append(Mark(*at, DRAWN[name], "sound", eps, f"{eps} {name}", order))
    for a in found:
        if a.entry.name in DRAWN:
            at = (float(verdict(a.frame, "correct").mean()), float(a.robust.mean()))
            marks.append(Mark(*at, DRAWN[a.entry.name], "attacked", a.eps))
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
        "Lines: what each mechanism can reach by its threshold, sound accounting. Diamonds: "
        "operating points under the adaptive adversary. Both on the attacked images.",
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
                broken = worst >= tau
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
        "Threshold from 0.5 to 0.95. The larger the radius, the more a plain attack flatters: it "
        "stops at a wrong answer that is not confident enough to be selected.",
    )
    table = Table("Wrong answers at confidence 0.6 or more", ("eps", *names.values()), tuple(rows))
    return figure, table


def headline(found: list[Attacked], eps: str) -> str:
    """The mechanisms that keep the core's natural accuracy, by what is left under attack."""
    here = [a for a in found if a.eps == eps]
    wanted = next(a for a in here if a.entry.name == "core alone")
    natural = verdict(wanted.frame, "correct").mean()
    kept = [a for a in here if verdict(a.frame, "correct").mean() >= natural - NEAR]
    ranked = sorted(kept, key=lambda a: -a.robust.mean())
    listed = ", ".join(f"{a.entry.name} {100 * a.robust.mean():.1f}" for a in ranked)
    return (
        f"Within {100 * NEAR:g} points of the core's natural accuracy, attacked robust accuracy "
        f"at {eps} in percent: {listed}."
    )


def write_all(
    todo: Mapping[str, list[Deployed]], tables: Tables, attacks: Path, out: Path, work: Path
) -> Page:
    """The report, its figures as files, its tables as Markdown and numbers as JSON."""
    found = list(attacked(todo, tables, attacks))
    candidates = {eps: candidates_at(tables, eps) for eps in todo}
    flattery, wrong = flattery_figure(tables)
    violations = sum(int(a.violations.sum()) for a in found)
    judged = sum(len(a.rows) for a in found if a.sound is not None)
    page = Page(
        "Ways to abstain, side by side",
        (
            "CIFAR-10, a standard ResNet-56 as core, published and fine-tuned robust networks as "
            "stages, 1,017 lossless test images; every composition is attacked as a whole on "
            f"{len(found[0].rows)} of them.",
            f"The sound bound rests on attacks here, not on proofs: of {judged} bounds on attacked "
            f"images, the adversary contradicted {violations}. Where it refuted the core alone, "
            "the core's verdicts were corrected first.",
            *(headline(found, eps) for eps in todo),
        ),
        (
            Section(
                "Under the adaptive adversary", (adversary_table(found), difference_table(found))
            ),
            Section(
                "What thresholds can reach",
                (front_figure(candidates, found), split_table(tables, candidates)),
            ),
            Section("Softmax response needs its own adversary", (flattery, wrong)),
            Section("Parts", (single_table(tables), paper_table(tables), selection_table(tables))),
        ),
        subtitle="CIFAR-10, linf:1/255 and linf:2/255",
    )
    write_html(page, work / "report.html")
    save_figures(page, out, ("svg",))
    write_atomically(out / "README.md", markdown(page).encode())
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
    parts = [
        f"# {page.title}",
        "`python experiments/selectors_study.py attack`, then `tables`, makes all of this; it "
        "resumes.",
        *page.summary,
        *(f"![{figure.title}]({figure.name}.svg)\n\n{figure.caption}" for figure in page.figures()),
    ]
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
