"""Figures and tables of the paper by their numbers, as a run of networks trained here has them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from recuse.analysis.compositions import Composition
from recuse.analysis.measured import Measured, measure, rates_at
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Verdicts
from recuse.report.charts.marks import Mark
from recuse.report.charts.plots import (
    ATTACKED,
    PAPER,
    SINGLE,
    SOUND,
    natural_against_robust,
    robust_against_inaccuracy,
    selective_accuracy,
)
from recuse.report.page.blocks import Figure
from recuse.report.run.model_figures import composition_marks, inaccuracy_marks, selective_marks
from recuse.report.study.markdown import table

FIRST = 2
INTRODUCTION = """## The paper's Figures 2, 3 and 4, Tables 4 and 8
"""
OTHERS = """The paper's Figures 3 and 4 also show softmax response and selection networks, which
were not judged here (`results/selectors` and `results/frontier` have them on CIFAR-10), and all
three figures networks trained without augmentation, of which there are none.
"""
TABLE_4 = """**Table 4**, what a core gains. Of the compositions with ERA the one with the largest
sum of natural and sound robust accuracy on these images; intervals of the differences, and of all
compositions, stand above.
"""
TABLE_8 = """**Table 8**, the four parts of the images in percent: wrong and not robust / wrong and
robust / right and not robust / right and robust.
"""


def by_name(
    found: Mapping[str, Verdicts], chains: Mapping[str, Sequence[Composition]]
) -> tuple[list[str], list[Figure]]:
    """The lines of the section, and its figures.

    Args:
        found: The networks by name, the core under ``core``.
        chains: By radius, each network before the core.
    """
    models = list(found.values())
    wanted = frozenset(chains)
    rates = [m for model in models for m in measure(model, wanted)]
    drawn = figures(rates, models, [chain for each in chains.values() for chain in each])
    shown = [
        f"![{f.title}]({f.name}.svg)\n\n**Figure {number}**, {f.caption}\n"
        for number, f in enumerate(drawn, FIRST)
    ]
    lines = [INTRODUCTION, *shown, OTHERS, *composed(chains), TABLE_8, *parts(found)]
    return lines, drawn


def figures(
    rates: Sequence[Measured], models: Sequence[Verdicts], chains: Sequence[Composition]
) -> list[Figure]:
    """Figures 2, 3 and 4, every network under its name."""
    drawn = (
        (
            "robust accuracy against robust inaccuracy: up and to the left is better. A line joins "
            "networks that differ in β alone, thin lines are 95 % intervals.",
            robust_against_inaccuracy(_named(inaccuracy_marks(rates))),
        ),
        (
            "robust accuracy of what the indicator selects robustly, against how much that is: up "
            "and to the right is better.",
            selective_accuracy(_named(selective_marks(rates, models))),
        ),
        (
            "natural and robust accuracy: up and to the right is better. A line leads from a "
            "network alone to it before the core, counted soundly, and on to the paper's count.",
            natural_against_robust(_led(composition_marks(rates, chains))),
        ),
    )
    return [
        Figure(f"figure-{number}", f"Figure {number} of the paper", chart, caption)
        for number, (caption, chart) in enumerate(drawn, FIRST)
    ]


def _named(marks: Sequence[Mark]) -> list[Mark]:
    """Marks with the names of their networks; a line joins those alike but for β."""
    named = []
    for mark in marks:
        name, beta = mark.hover["model"], mark.hover.get("β")
        family = f"{mark.panel} {name.replace(f'-{beta}', '', 1)}" if beta else ""
        named.append(replace(mark, label=name, trail=family))
    return named


def _led(marks: Sequence[Mark]) -> list[Mark]:
    """Networks with their names, joined with their compositions.

    What an adversary of a whole system left of a few images is on the page, and no mark here.
    """
    led = []
    for mark in marks:
        name = mark.hover["model"].partition(" → ")[0]
        if mark.kind in (SINGLE, SOUND, PAPER):
            order = float((SINGLE, SOUND, PAPER).index(mark.kind))
            label = name if mark.kind == SINGLE else ""
            mark = replace(mark, trail=f"{mark.panel} {name}", order=order, label=label)
        led += [mark] * (mark.kind != ATTACKED)
    return led


def composed(chains: Mapping[str, Sequence[Composition]]) -> list[str]:
    """Table 4: the core's accuracies, and those of a composition with ERA."""
    rows = []
    for eps, each in chains.items():
        stages = [chain for chain in each if chain.stage.tag("loss") == "era"]
        if stages:
            best = max(stages, key=lambda c: rate(c.sound.natural) + rate(c.sound.robust))
            core = best.alone[-1]
            gains = [
                f"{100 * rate(before):.1f} → {100 * rate(after):.1f}"
                for counted in (best.sound, best.paper)
                for before, after in (
                    (core.natural, counted.natural),
                    (core.robust, counted.robust),
                )
            ]
            rows.append([eps, best.name, *gains])
    heads = ["ε", "composition", "natural", "robust (sound)"]
    heads += [f"{name} (the paper's count)" for name in ("natural", "robust")]
    return [TABLE_4, *table(heads, rows)] if rows else []


def parts(found: Mapping[str, Verdicts]) -> list[str]:
    """Table 8: every network at every radius at which all were judged."""
    radii = [r for r in found["core"].radii() if all(m.has("robust", r) for m in found.values())]
    rows = [[name, *(_four(model, eps) for eps in radii)] for name, model in found.items()]
    return table(["network", *radii], rows)


def _four(model: Verdicts, eps: str) -> str:
    split = rates_at(model, eps).splits
    assert split is not None  # the networks are judged on labelled images
    shares = (
        split.fragile_inaccurate,
        split.robust_inaccurate,
        split.fragile_accurate,
        split.robust_accurate,
    )
    return " / ".join(f"{100 * share:.1f}" for share in shares)


__all__ = ["by_name"]
