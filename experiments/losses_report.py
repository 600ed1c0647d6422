"""The comparison of losses from its rows alone: alone against inside ERA, paired, per data set."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from losses_rows import Judged, Values, read_cells

from recuse.records.store import write_atomically
from recuse.report.charts.marks import Axes, Mark, scatter
from recuse.report.charts.style import RING
from recuse.report.page.blocks import Figure
from recuse.report.page.figures import save_figure

NETWORKS = {"small": "ConvNet", "resnet20": "ResNet-20"}
DATASETS = {"cifar10": "CIFAR-10", "gtsrb": "GTSRB"}
QUANTITIES = ("natural", "robust", "robust_inaccurate", "composed_natural", "composed_robust")
HEADINGS = ("natural", "robust", "robustly wrong", "composed natural", "composed robust (sound)")
COMPARED = ("composed_robust", "composed_natural", "robust_inaccurate")
COMPOSED, BY_ITSELF = "in front of the core", "by itself"
SHAPES = {
    f"alone, {COMPOSED}": "circle",
    f"inside ERA, {COMPOSED}": "triangle-up",
    f"alone, {BY_ITSELF}": RING,
    f"inside ERA, {BY_ITSELF}": "M0,-0.9L0.9,0.8H-0.9ZM0,-0.2L-0.4,0.5H0.4Z",
    "core alone": "diamond",
}
Group = tuple[str, str, str]
Estimate = tuple[float, float]

INTRODUCTION = """# Robust losses alone and inside ERA

`python experiments/losses.py report` makes this page from `rows.parquet` ({networks} networks on
{images} test images of each data set, one row a network and image); `python experiments/losses.py
run` trains the networks, attacks them and writes those rows.

**Setting.** Fine-tuning for one epoch on 10,000 images, five-step PGD in training. {small}
ConvNets: {losses} losses, each alone and as the robust half of ERA (β = 1), two data sets, two
radii, two seeds; they start from a moderately robust network. All means and differences are of
these. {large} ResNet-20s, at the end, stand apart.

**Adversary.** APGD-40 with cross entropy at ε and 2ε: what is robust here is what it did not break.
The core of CIFAR-10 met more attacks in the other studies; what any of them broke is broken here.

**Composed.** The network behind its robustness indicator, in front of a standard core (ResNet-56
on CIFAR-10, LeNet on GTSRB), robust accuracy by the sound accounting: nothing attacked the
compositions as a whole.

**Chosen.** Nothing: no threshold, no weight. Where a loss is called the highest it is so on the
images whose rates are printed. Rates are percentages, means over two seeds; ± is a 95 % interval
over test images and says nothing about other seeds.

A network that always gives the same answer is robust and mostly wrong: read robust accuracy beside
*robustly wrong*.
"""


RATES_ONLY = "resnet20.json"
WITHOUT_ROWS = """## CIFAR-10, ResNet-20, Linf 2/255: rates alone

Three losses, from a standard network after one epoch of adversarial training. Of these networks
nothing but their rates was kept (`resnet20.json`), so there are no intervals and no paired
differences: read no order into them. 700 test images, two seeds.
"""


def interval(parts: Sequence[Values]) -> Estimate:
    """Mean over data sets of the means over images, and the half-width of its 95 % interval.

    Images of one data set come as one part, whatever radii and seeds lie behind each value: the
    same image counts once.
    """
    mean = np.mean([part.mean() for part in parts])
    variance = sum(part.var(ddof=1) / len(part) for part in parts) / len(parts) ** 2
    return float(mean), float(1.96 * np.sqrt(variance))


def per_image(cells: Sequence[Judged], quantity: str) -> list[Values]:
    """Per data set the mean over radii and seeds, one number an image."""
    return [
        np.mean([c.values[quantity] for c in cells if c.dataset == dataset], axis=0)
        for dataset in sorted({c.dataset for c in cells})
    ]


def difference(first: Sequence[Judged], second: Sequence[Judged], quantity: str) -> Estimate:
    """Mean of ``first`` minus ``second``, paired by image."""
    pairs = zip(per_image(first, quantity), per_image(second, quantity), strict=True)
    return interval([one - two for one, two in pairs])


def chosen(cells: Sequence[Judged], loss: str, *, inside: bool) -> list[Judged]:
    """The networks of one loss."""
    return [c for c in cells if c.loss == loss and c.inside_era == inside]


def losses(cells: Sequence[Judged]) -> list[str]:
    """Losses, the one that alone composes most robustly first."""
    names = {c.loss for c in cells}

    def composed(loss: str) -> float:
        return interval(per_image(chosen(cells, loss, inside=False), "composed_robust"))[0]

    return sorted(names, key=composed, reverse=True)


def groups(cells: Sequence[Judged]) -> dict[Group, list[Judged]]:
    """Cells by data set, network and radius."""
    found: dict[Group, list[Judged]] = {}
    for cell in cells:
        found.setdefault((cell.dataset, cell.network, cell.eps), []).append(cell)
    return found


def percent(found: Estimate, *, sign: bool = False) -> str:
    """A rate or a difference with its interval, in percent."""
    return f"{100 * found[0]:{'+' if sign else ''}.1f} ± {100 * found[1]:.1f}"


def against_alone(cells: Sequence[Judged]) -> list[str]:
    """Each loss alone, inside ERA, and the paired difference, in what a composition is worth."""
    heads = " | ".join(f"{name}: alone | in ERA | ERA − alone" for name in _names(COMPARED))
    lines = [f"| loss | {heads} |", "|" + "---|" * (1 + 3 * len(COMPARED))]
    for loss in losses(cells):
        alone, inside = (chosen(cells, loss, inside=i) for i in (False, True))
        texts = []
        for quantity in COMPARED:
            texts += [f"{100 * interval(per_image(c, quantity))[0]:.1f}" for c in (alone, inside)]
            texts.append(percent(difference(inside, alone, quantity), sign=True))
        lines.append(f"| {loss} | {' | '.join(texts)} |")
    return lines


def verdict(cells: Sequence[Judged], quantity: str) -> str:
    """In words: what ERA did to a rate of each loss, where the interval excludes 0."""
    sides: dict[str, list[str]] = {"lower": [], "higher": [], "not told apart": []}
    for loss in losses(cells):
        alone, inside = (chosen(cells, loss, inside=i) for i in (False, True))
        mean, half = difference(inside, alone, quantity)
        side = "not told apart" if abs(mean) <= half else "lower" if mean < 0 else "higher"
        sides[side].append(loss)
    said = "; ".join(f"{side} for {', '.join(found)}" for side, found in sides.items() if found)
    return f"{_names([quantity])[0].capitalize()}, inside ERA against the same loss alone: {said}."


def by_group(cells: Sequence[Judged], quantity: str) -> list[str]:
    """ERA minus alone per loss, one column a data set and radius."""
    found = groups(cells)
    heads = [f"{DATASETS[dataset]} {eps}" for dataset, _, eps in found]
    lines = [f"| loss | {' | '.join(heads)} |", "|" + "---|" * (1 + len(heads))]
    for loss in losses(cells):
        texts = [
            percent(
                difference(*(chosen(c, loss, inside=i) for i in (True, False)), quantity), sign=True
            )
            for c in found.values()
        ]
        lines.append(f"| {loss} | {' | '.join(texts)} |")
    return lines


def by_seed(cells: Sequence[Judged], quantity: str) -> list[str]:
    """ERA minus alone per loss, one column a seed."""
    seeds = sorted({c.seed for c in cells})
    lines = [
        f"| loss | {' | '.join(f'seed {s}' for s in seeds)} |",
        "|" + "---|" * (1 + len(seeds)),
    ]
    for loss in losses(cells):
        texts = []
        for seed in seeds:
            pair = (
                chosen([c for c in cells if c.seed == seed], loss, inside=i) for i in (True, False)
            )
            texts.append(percent(difference(*pair, quantity), sign=True))
        lines.append(f"| {loss} | {' | '.join(texts)} |")
    return lines


def inside_against_best(cells: Sequence[Judged]) -> list[str]:
    """Every loss inside ERA against the one whose composition is most robust there."""
    variants = {loss: chosen(cells, loss, inside=True) for loss in losses(cells)}
    rates = {k: interval(per_image(v, "composed_robust"))[0] for k, v in variants.items()}
    best = max(rates, key=lambda loss: rates[loss])
    others = sorted((k for k in rates if k != best), key=lambda k: -rates[k])
    texts = [
        f"{k} {percent(difference(variants[k], variants[best], 'composed_robust'), sign=True)}"
        for k in others
    ]
    return [f"Inside ERA, {best} composes most robustly; against it: {'; '.join(texts)}."]


def against_itself(cells: Sequence[Judged]) -> str:
    """When a network by itself is the better choice than the same one in front of a core."""
    mine = [c for c in cells if not c.inside_era]
    texts = []
    for kind in ("natural", "robust"):
        pairs = zip(per_image(mine, f"composed_{kind}"), per_image(mine, kind), strict=True)
        found = interval([composed - itself for composed, itself in pairs])
        texts.append(f"{percent(found, sign=True)} points of {kind} accuracy")
    return (
        "A network trained by a robust loss alone, in front of the core against the same network "
        f"by itself: {' and '.join(texts)}, in the mean over all {len(mine)}. Where robust "
        "accuracy counts most, the robust network by itself is the better choice."
    )


def section(group: Group, cells: Sequence[Judged]) -> list[str]:
    """The part of the page about one data set, network and radius."""
    dataset, network, eps = group
    lines = [f"## {DATASETS[dataset]}, {NETWORKS[network]}, Linf {eps}", ""]
    lines += [f"| loss | {' | '.join(HEADINGS)} |", "|" + "---|" * (1 + len(HEADINGS))]
    for loss in losses(cells):
        for inside in (False, True):
            mine = chosen(cells, loss, inside=inside)
            texts = [percent(interval(per_image(mine, q))) for q in QUANTITIES]
            lines.append(f"| {'ERA + ' if inside else ''}{loss} | {' | '.join(texts)} |")
    return [*lines, ""]


def _names(quantities: Sequence[str]) -> list[str]:
    return [HEADINGS[QUANTITIES.index(q)].removesuffix(" (sound)") for q in quantities]


def page(cells: Sequence[Judged], older: Sequence[dict[str, Any]]) -> str:
    """The whole text."""
    small = [c for c in cells if c.network == "small"]
    lines = [
        INTRODUCTION.format(
            networks=len(cells),
            images=min(len(c.values["natural"]) for c in cells),
            small=len(small),
            large=len(cells) - len(small) + len(older),
            losses=len(losses(small)),
        ),
        f"## Alone against inside ERA: the {len(small)} ConvNets",
        "",
        *against_alone(small),
        "",
        *(f"- {verdict(small, quantity)}" for quantity in COMPARED),
        "",
        *inside_against_best(small),
        "",
        against_itself(small),
        "",
        "Robustly wrong answers, ERA minus the loss alone, where they come from:",
        "",
        *by_group(small, "robust_inaccurate"),
        "",
        "Composed robust accuracy, ERA minus the loss alone:",
        "",
        *by_group(small, "composed_robust"),
        "",
        "The same by seed:",
        "",
        *by_seed(small, "composed_robust"),
        "",
        "![natural against robust accuracy, composed and by itself](trade-off.svg)",
        "",
    ]
    for group, found in groups(cells).items():
        lines += section(group, found)
    return "\n".join([*lines, *without_rows(older)])


def without_rows(older: Sequence[dict[str, Any]]) -> list[str]:
    """The networks of which nothing but rates was kept."""
    if not older:
        return []
    lines = [WITHOUT_ROWS, f"| loss | seeds | {' | '.join(HEADINGS)} |"]
    lines.append("|" + "---|" * (2 + len(HEADINGS)))
    for loss in dict.fromkeys(row["loss"] for row in older):
        mine = [row for row in older if row["loss"] == loss]
        texts = [f"{100 * np.mean([row[q] for row in mine]):.1f}" for q in QUANTITIES]
        lines.append(f"| {loss} | {len(mine)} | {' | '.join(texts)} |")
    return [*lines, ""]


def trade_off(cells: Sequence[Judged]) -> Figure:
    """Natural against robust accuracy of the compositions, and of every network by itself."""
    marks = []
    for (dataset, network, eps), found in groups(cells).items():
        panel = f"{DATASETS[dataset]}, {NETWORKS[network]}, {eps}"
        for loss in losses(found):
            for inside in (False, True):
                mine = chosen(found, loss, inside=inside)
                kind = "inside ERA" if inside else "alone"
                x, y = (interval(per_image(mine, q))[0] for q in QUANTITIES[3:])
                trail = (f"{panel} {loss}", float(inside))
                marks.append(Mark(x, y, loss, f"{kind}, {COMPOSED}", panel, *trail))
                x, y = (interval(per_image(mine, q))[0] for q in QUANTITIES[:2])
                marks.append(Mark(x, y, loss, f"{kind}, {BY_ITSELF}", panel))
        x, y = (float(found[0].core[q].mean()) for q in QUANTITIES[3:])
        marks.append(Mark(x, y, "core", "core alone", panel))
    axes = Axes(
        "natural accuracy",
        "robust accuracy, sound",
        320,
        250,
        series_title="robust loss",
        kind_title="trained",
        shapes=SHAPES,
    )
    return Figure("trade-off", "Every loss before the same core", scatter(marks, axes))


def rates(cells: Sequence[Judged]) -> str:
    """Every network's rates as JSON."""
    rows = [
        {
            **{key: getattr(c, key) for key in ("dataset", "network", "eps", "seed")},
            "loss": ("ERA + " if c.inside_era else "") + c.loss,
            **{q: round(float(v.mean()), 5) for q, v in c.values.items()},
            "weights": c.weights,
        }
        for c in cells
    ]
    return json.dumps(rows, indent=1) + "\n"


def write_page(out: Path) -> None:
    """Write ``README.md``, ``cells.json`` and the figure beside the rows they come from."""
    cells, kept = read_cells(out), out / RATES_ONLY
    older = json.loads(kept.read_text("utf-8")) if kept.is_file() else []
    save_figure(trade_off(cells), out, ("svg",))
    write_atomically(out / "README.md", page(cells, older).encode())
    write_atomically(out / "cells.json", rates(cells).encode())
