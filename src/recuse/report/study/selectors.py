"""The page of the comparison of ways to abstain: figures, tables, and who leads by which count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recuse.analysis.attacked_settings import AttackedSetting, leader
from recuse.analysis.fronts import pareto
from recuse.analysis.intervals import paired_difference
from recuse.analysis.operating_points import CORE, EPS, NEAR
from recuse.analysis.selector_study import Study, read_study
from recuse.analysis.sweeps import Point, Tables, column, verdict
from recuse.records.layout import CONFIG, PAGE
from recuse.records.run_folder import read_mapping
from recuse.records.store import write_atomically
from recuse.report.charts.marks import Axes, Mark, scatter
from recuse.report.page.blocks import Figure, Page, Rate, Section, Table
from recuse.report.page.figures import save_figures
from recuse.report.study.markdown import page_lines
from recuse.report.study.selector_tables import (
    adversary_table,
    difference_table,
    paper_table,
    selection_table,
    single_table,
    split_table,
)

MADE = (
    "`recuse report` makes this page from `records` (what attacks and bounds say of each network) "
    "and `attacked.parquet` (what the adversary did to each composition), one row an image; "
    "`recuse run selectors` trains, measures and attacks all of it anew."
)
# From one half upwards a class of such probability is the answer.
TAUS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())
ALONE = "network alone"
DRAWN = {
    "indicator": "indicator",
    "robust margin": "robust margin",
    "cascade of two": "cascade of two",
    "softmax response": "softmax response",
    "selection network": "selection network",
    "selection network (ACE-IBP)": "selection network (ACE-IBP)",
    "entropy response": "entropy response",
    "mixture": "mixture",
    "robust alone": ALONE,
    "core alone": ALONE,
}
STEPS = (40, 20)
LOWEST, APART = 0.75, 0.012


def front_figure(
    points: Mapping[str, Mapping[str, list[Point]]], found: Sequence[AttackedSetting]
) -> Figure:
    """Natural against robust accuracy: fronts of the sound bound, points under attack."""
    marks = [mark for eps, kinds in points.items() for mark in sound_marks(eps, kinds, found[0])]
    for a in found:
        if a.setting.name in DRAWN:
            at = (float(a.natural.mean()), float(a.robust.mean()))
            series = DRAWN[a.setting.name]
            kind, label = (ALONE, a.setting.name) if series == ALONE else ("attacked", "")
            marks.append(Mark(*at, series, kind, a.setting.eps, label=label))
    chart = scatter(
        marks,
        Axes(
            "natural accuracy",
            "robust accuracy",
            420,
            340,
            series_title="mechanism",
            kind_title="accounting",
            shapes={"sound": "circle", "attacked": "diamond", ALONE: "square"},
        ),
    )
    return Figure(
        "fronts",
        "Natural against robust accuracy",
        chart,
        "Lines: what each mechanism can reach by its threshold, sound accounting; drawn after the "
        "fact, nothing was chosen there. Diamonds: operating points under the adaptive adversary. "
        "Squares: both networks alone. All on the attacked images.",
    )


def sound_marks(eps: str, kinds: Mapping[str, list[Point]], any_of: AttackedSetting) -> list[Mark]:
    """The fronts of one radius, thinned so that marks do not cover one another."""
    marks = []
    for name, points in kinds.items():
        if name not in DRAWN:
            continue
        natural, sound = (
            np.array([getattr(p, kind)[any_of.rows].mean() for p in points])
            for kind in ("natural", "sound")
        )
        last = np.inf
        for order, i in enumerate(pareto(natural, sound)):
            if natural[i] >= LOWEST and abs(natural[i] - last) >= APART:
                last, at = natural[i], (float(natural[i]), float(sound[i]))
                marks.append(Mark(*at, DRAWN[name], "sound", eps, f"{eps} {name}", float(order)))
    return marks


def flattery_figure(tables: Tables) -> tuple[Figure, Table]:
    """Softmax response judged by two attacks, as the threshold and the radius grow."""
    t, marks, rows = tables.confident, [], []
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


def headline(found: Sequence[AttackedSetting], eps: str) -> list[str]:
    """The mechanisms that keep the core's natural accuracy, by each count."""
    kept = [a for a in found if a.setting.eps == eps and a.near]
    counts = {
        "sound": [(a.sound, a) for a in kept if a.sound is not None],
        "attacked": [(a.robust, a) for a in kept],
    }
    lines = []
    for count, masks in counts.items():
        ranked = sorted(masks, key=lambda pair: -pair[0].mean())
        listed = ", ".join(f"{a.setting.name} {100 * mask.mean():.1f}" for mask, a in ranked)
        (first, best), *others = ranked
        level = [a.setting.name for m, a in others if paired_difference(first, m).low <= 0]
        apart = f"not told apart from {' and '.join(level)}" if level else "ahead of every other"
        lines.append(f"{eps}, by the {count} count: {listed}. {best.setting.name}: {apart}.")
    return lines


def robust_alone(found: Sequence[AttackedSetting], eps: str) -> str:
    """When the robust network by itself is the better choice, against the best sound bound."""
    here = [a for a in found if a.setting.eps == eps]
    (mine,) = (a for a in here if a.setting.name == "robust alone")
    first = leader(here)
    natural = paired_difference(mine.natural, first.natural)
    robust = paired_difference(mine.robust, first.robust if first.sound is None else first.sound)
    lost, won = (f"{100 * abs(d.estimate):.1f}" for d in (natural, robust))
    return (
        f"{eps}: the robust network alone is right on {100 * mine.natural.mean():.1f} and robust "
        f"on {100 * mine.robust.mean():.1f}; against {first.setting.name} it gives up {lost} "
        f"points of natural accuracy and is {won} points more robust."
    )


def summary(study: Study, config: Mapping[str, Any]) -> tuple[str, ...]:
    """What was done, and who leads by which count."""
    found = study.found
    steps, goals = config.get("steps", STEPS[0]), config.get("adversary_steps", STEPS[1])
    judged = sum(len(a.rows) for a in found if a.promised is not None)
    violations = sum(a.violations for a in found)
    return (
        f"**Images.** {study.tables[CORE].samples:,} lossless CIFAR-10 test images; on every other "
        f"one thresholds and weights are chosen, on the other {len(found[0].rows)} everything is "
        "reported and every composition attacked as a whole. **Networks.** A standard ResNet-56 "
        "as core, published and fine-tuned robust networks as stages.",
        f"**Adversary.** Plain APGD on every network, then {goals} gradient steps towards each "
        "joint goal (a stage selects and errs, or all abstain and the core errs), every point "
        f"judged by the composition as deployed.{again(found)}",
        f"The sound bound rests on attacks on each network (APGD-{steps} without an early stop), "
        f"not on proofs: of {judged} bounds on attacked images, the adversary contradicted "
        f"{violations}, and what it refuted is not counted. Where it refuted a network alone, that "
        "network's verdicts were corrected first.",
        f"Percent, among those that keep the core's natural accuracy within {100 * NEAR:g} points "
        "on the choosing half, in the order of the printed images themselves; two are told apart "
        "where the 95 % interval of their paired difference excludes 0:",
        *(f"- {line}" for eps in EPS for line in headline(found, eps)),
        "Where that much natural accuracy does not matter, the robust network alone, without any "
        "selector or core, is the better choice:",
        *(f"- {robust_alone(found, eps)}" for eps in EPS),
    )


def again(found: Sequence[AttackedSetting]) -> str:
    """What met which adversary; nothing where every row met the present one."""
    rows = pl.concat([a.frame for a in found])
    stand = rows.filter(pl.col("attacked"))
    first = stand.filter(pl.col("adversary") < 2).height
    if not first:
        return ""
    late = rows.filter(pl.col("correct"), ~pl.col("attacked"), pl.col("adversary") > 1)
    names = ", ".join(
        f"{name} at {eps} {count}"
        for eps, name, count in late.group_by("eps", "mechanism", maintain_order=True).len().rows()
    )
    return (
        " A first version of it ignored the threshold of a margin. An image counts as broken if "
        "either version broke it; the mended one met what the first had left standing, and broke "
        f"{late.height} more ({names or 'none'}); {first} of {stand.height} rows that stand have "
        "met the first alone."
    )


def write_selectors(rows: Path, out: Path) -> None:
    """Write the page of the comparison of ways to abstain, and its figures."""
    page = page_of(read_study(rows), read_mapping(rows / CONFIG).get("abstention", {}))
    save_figures(page, out, ("svg",))
    write_atomically(out / PAGE, "\n\n".join(page_lines(page)).encode() + b"\n")


def page_of(study: Study, config: Mapping[str, Any]) -> Page:
    """The page as a value.

    Args:
        study: What was found.
        config: How many steps attacks and adversary had; absent, as many as by default.
    """
    found, tables = study.found, study.tables
    flattery, wrong = flattery_figure(tables)
    return Page(
        "Ways to abstain, side by side",
        (MADE, *summary(study, config)),
        (
            Section("By both counts", (adversary_table(found), difference_table(found))),
            Section(
                "What thresholds can reach",
                (front_figure(study.points, found), split_table(tables, study.points)),
            ),
            Section("Softmax response needs its own adversary", (flattery, wrong)),
            Section("Parts", (single_table(tables), paper_table(tables), selection_table(tables))),
        ),
        subtitle="CIFAR-10, linf:1/255 and linf:2/255",
    )
