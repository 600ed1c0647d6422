"""The page of the comparison of losses: alone against inside ERA, paired, per data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recuse.analysis.loss_comparison import (
    Cell,
    Estimate,
    Group,
    cells,
    chosen,
    difference,
    gain,
    groups,
    losses,
    mean,
)
from recuse.records.layout import PAGE, RATES_ONLY
from recuse.records.run_folder import read_json, read_run
from recuse.records.store import write_atomically
from recuse.report.charts.marks import Axes, Mark, scatter
from recuse.report.charts.style import FRAME, RING
from recuse.report.page.blocks import Figure
from recuse.report.page.figures import save_figure
from recuse.report.study.markdown import table

NETWORKS = {"small": "ConvNet", "resnet20": "ResNet-20"}
DATASETS = {"cifar10": "CIFAR-10", "gtsrb": "GTSRB"}
QUANTITIES = {
    "natural": "natural",
    "robust": "robust",
    "robust_inaccurate": "robust inaccuracy",
    "composed_natural": "composed natural",
    "composed_robust": "composed robust (sound)",
}
COMPARED = {
    "composed_robust": "composed robust",
    "composed_natural": "composed natural",
    "robust_inaccurate": "robust inaccuracy",
}
COMPOSED, BY_ITSELF = "in front of the core", "by itself"
SHAPES = {
    f"alone, {COMPOSED}": "circle",
    f"inside ERA, {COMPOSED}": "square",
    f"alone, {BY_ITSELF}": RING,
    f"inside ERA, {BY_ITSELF}": FRAME,
    "core alone": "diamond",
}
FIGURE = "trade-off"
INTRODUCTION = """# Robust losses alone and inside ERA

`recuse report` makes this page from the records beside it ({networks} networks on {images} test
images of each data set); `recuse run losses` trains the networks and attacks them anew.

**Setting.** Fine-tuning for one epoch, at most 10,000 images, five-step PGD in training. {small}
ConvNets: {losses}, each alone and as the robust half of ERA (β = 1), on {datasets}, at {radii};
seeds: {seeds}; they start from a moderately robust network. All means and differences are of
these. {large} ResNet-20s, at the end, stand apart.

**Adversary.** APGD-40 with cross entropy at ε and 2ε: what is robust here is what it did not break.
Where other attacks met the core, what any of them broke is broken here.

**Composed.** The network behind its robustness indicator, in front of a standard core (ResNet-56
on CIFAR-10, LeNet on GTSRB), robust accuracy by the sound accounting: nothing attacked the
compositions as a whole.

**Chosen.** Nothing: no threshold, no weight. Where a loss is called the highest it is so on the
images whose rates are printed. Rates are percentages, means over the seeds; ± is a 95 % interval
over test images and says nothing about other seeds.

A network that always gives the same answer is robust and mostly wrong: read robust accuracy beside
*robust inaccuracy*.
"""
WITHOUT_ROWS = """## CIFAR-10, ResNet-20, Linf 2/255: rates alone

Three losses, from a standard network after one epoch of adversarial training. Of these networks
nothing but their rates was kept (`resnet20.json`), so there are no intervals and no paired
differences: read no order into them. 700 test images, two seeds.
"""


def write_losses(rows: Path, out: Path) -> None:
    """Write the page of the comparison of losses, and its figure."""
    found = cells(read_run(rows))
    save_figure(trade_off(found), out, ("svg",))
    write_atomically(out / PAGE, page(found, read_json(rows / RATES_ONLY) or []).encode())


def page(found: Sequence[Cell], older: Sequence[Mapping[str, Any]]) -> str:
    """The whole text."""
    small = [c for c in found if c.network == "small"]
    parts = {DATASETS[d] + f" {eps}": part for (d, _, eps), part in groups(small).items()}
    seeds = {
        f"seed {s}": [c for c in small if c.seed == s] for s in sorted({c.seed for c in small})
    }
    counts = {
        "networks": len(found),
        "images": min(len(c.values["natural"]) for c in found),
        "small": len(small),
        "large": len(found) - len(small) + len(older),
        "losses": ", ".join(losses(small)),
        "datasets": " and ".join(DATASETS[d] for d in dict.fromkeys(c.dataset for c in small)),
        "radii": " and ".join(dict.fromkeys(c.eps for c in small)),
        "seeds": len(seeds),
    }
    lines = [
        *(INTRODUCTION.format(**counts), f"## Alone against inside ERA: the {len(small)} ConvNets"),
        *("", *against_alone(small)),
        *(f"- {verdict(small, quantity)}" for quantity in COMPARED),
        *("", inside_against_best(small), "", against_itself(small), ""),
        *("Robustly inaccurate answers, ERA minus the loss alone, where they come from:", ""),
        *gains(small, parts, "robust_inaccurate"),
        *("Composed robust accuracy, ERA minus the loss alone:", ""),
        *gains(small, parts, "composed_robust"),
        *("The same by seed:", "", *gains(small, seeds, "composed_robust")),
        *(f"![natural against robust accuracy, composed and by itself]({FIGURE}.svg)", ""),
    ]
    for group, part in groups(found).items():
        lines += section(group, part)
    return "\n".join([*lines, *without_rows(older)])


def against_alone(found: Sequence[Cell]) -> list[str]:
    """Each loss alone, inside ERA, and the paired difference, in what a composition is worth."""
    heads = [f"{name}: alone | in ERA | ERA − alone" for name in COMPARED.values()]
    rows = []
    for loss in losses(found):
        texts = [loss]
        for quantity in COMPARED:
            both = (mean(chosen(found, loss, inside=i), quantity) for i in (False, True))
            texts += [f"{100 * rate.mean:.1f}" for rate in both]
            texts.append(percent(gain(found, loss, quantity), sign=True))
        rows.append(texts)
    return table([head for text in ("loss", *heads) for head in text.split(" | ")], rows)


def verdict(found: Sequence[Cell], quantity: str) -> str:
    """In words: what ERA did to a rate of each loss, where the interval excludes 0."""
    sides: dict[str, list[str]] = {"lower": [], "higher": [], "not told apart": []}
    for loss in losses(found):
        more = gain(found, loss, quantity)
        sides["not told apart" if not more.apart else "lower" if more.mean < 0 else "higher"] += [
            loss
        ]
    said = "; ".join(f"{side} for {', '.join(names)}" for side, names in sides.items() if names)
    return f"{COMPARED[quantity].capitalize()}, inside ERA against the same loss alone: {said}."


def inside_against_best(found: Sequence[Cell]) -> str:
    """Every loss inside ERA against the one whose composition is most robust there."""
    inside = {loss: chosen(found, loss, inside=True) for loss in losses(found)}
    best, *others = sorted(inside, key=lambda loss: -mean(inside[loss], "composed_robust").mean)
    texts = (
        f"{loss} {percent(difference(inside[loss], inside[best], 'composed_robust'), sign=True)}"
        for loss in others
    )
    return f"Inside ERA, {best} composes most robustly; against it: {'; '.join(texts)}."


def against_itself(found: Sequence[Cell]) -> str:
    """When a network by itself is the better choice than the same one in front of a core."""
    mine = [c for c in found if not c.inside_era]
    texts = (
        f"{percent(difference(mine, mine, f'composed_{kind}', kind), sign=True)} points of {kind} "
        "accuracy"
        for kind in ("natural", "robust")
    )
    return (
        "A network trained by a robust loss alone, in front of the core against the same network "
        f"by itself: {' and '.join(texts)}, in the mean over all {len(mine)}. Where robust "
        "accuracy counts most, the robust network by itself is the better choice."
    )


def gains(found: Sequence[Cell], columns: Mapping[str, Sequence[Cell]], quantity: str) -> list[str]:
    """ERA minus alone per loss, one column a part of the networks."""
    rows = [
        [loss, *(percent(gain(part, loss, quantity), sign=True) for part in columns.values())]
        for loss in losses(found)
    ]
    return table(["loss", *columns], rows)


def section(group: Group, found: Sequence[Cell]) -> list[str]:
    """The part of the page about one data set, network and radius."""
    dataset, network, eps = group
    rows = []
    for loss in losses(found):
        for inside in (False, True):
            mine = chosen(found, loss, inside=inside)
            name = f"{'ERA + ' if inside else ''}{loss}"
            rows.append([name, *(percent(mean(mine, q)) for q in QUANTITIES)])
    title = f"## {DATASETS[dataset]}, {NETWORKS[network]}, Linf {eps}"
    return [title, "", *table(["loss", *QUANTITIES.values()], rows)]


def without_rows(older: Sequence[Mapping[str, Any]]) -> list[str]:
    """The networks of which nothing but rates was kept."""
    rows = []
    for loss in dict.fromkeys(str(row["loss"]) for row in older):
        mine = [row for row in older if row["loss"] == loss]
        texts = [f"{100 * np.mean([float(row[q]) for row in mine]):.1f}" for q in QUANTITIES]
        rows.append([loss, str(len(mine)), *texts])
    return [WITHOUT_ROWS, *table(["loss", "seeds", *QUANTITIES.values()], rows)] if rows else []


def trade_off(found: Sequence[Cell]) -> Figure:
    """Natural against robust accuracy of the compositions, and of every network by itself."""
    marks = []
    for (dataset, network, eps), part in groups(found).items():
        panel = f"{DATASETS[dataset]}, {NETWORKS[network]}, {eps}"
        for loss in losses(part):
            for inside in (False, True):
                mine = chosen(part, loss, inside=inside)
                kind = "inside ERA" if inside else "alone"
                trail = (f"{panel} {loss}", float(inside))
                x, y = (mean(mine, f"composed_{q}").mean for q in ("natural", "robust"))
                marks.append(Mark(x, y, loss, f"{kind}, {COMPOSED}", panel, *trail))
                x, y = (mean(mine, q).mean for q in ("natural", "robust"))
                marks.append(Mark(x, y, loss, f"{kind}, {BY_ITSELF}", panel))
        x, y = (float(part[0].core[kind].mean()) for kind in ("natural", "robust"))
        marks.append(Mark(x, y, "core", "core alone", panel))
    axes = Axes(
        *("natural accuracy", "robust accuracy, sound", 320, 250),
        series_title="robust loss",
        kind_title="trained",
        shapes=SHAPES,
    )
    return Figure(FIGURE, "Every loss before the same core", scatter(marks, axes))


def percent(found: Estimate, *, sign: bool = False) -> str:
    """A rate or a difference with its interval, in percent."""
    return f"{100 * found.mean:{'+' if sign else ''}.1f} ± {100 * found.half:.1f}"


__all__ = ["write_losses"]
