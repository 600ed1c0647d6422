"""The comparison of losses from its records: rates, compositions, paired differences."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recuse.analysis.accounting import Core, sound_account
from recuse.analysis.compositions import stage_of
from recuse.analysis.fronts import pareto
from recuse.analysis.verdicts import Mask, verdicts
from recuse.records.schema import Record
from recuse.records.store import read_records, write_atomically
from recuse.report.figures import save_figure
from recuse.report.marks import Axes, Mark, scatter
from recuse.report.page import Figure

Values = npt.NDArray[np.float64]
CELLS = 80 + 12
NETWORKS = {"small": "ConvNet", "resnet20": "ResNet-20"}
QUANTITIES = ("natural", "robust", "robust_inaccurate", "composed_natural", "composed_robust")
HEADINGS = ("natural", "robust", "robustly wrong", "composed natural", "composed robust (sound)")
SHAPES = {"alone": "circle", "inside ERA": "triangle-up", "core alone": "diamond"}


@dataclass(frozen=True)
class Judged:
    """One network of the comparison, one number per quantity and test image."""

    dataset: str
    network: str
    eps: str
    seed: int
    loss: str
    values: dict[str, Values]
    core: dict[str, Values]


def read_cells(records: Path) -> list[Judged]:
    """Every finished cell, composed with the core of its data set."""
    cells = []
    for folder in sorted(path for path in records.glob("*/*") if path.is_dir()):
        found = list(read_records(folder))
        core = next((r for r in found if r.meta.tags["role"] == "core"), None)
        if core is not None:
            robust = [r for r in found if r.meta.tags["role"] == "robust"]
            cells += [judged(r, core) for r in robust if r.frame.height == core.frame.height]
    return cells


def judged(record: Record, core: Record) -> Judged:
    """A network's rates per image, alone and as the stage before the core."""
    tags, mine, last = record.meta.tags, verdicts(record), verdicts(core)
    eps = str(tags["eps"])
    accurate, robust = mine.accurate(), mine.robust(eps)
    core_right, core_robust = last.accurate(), last.accurate() & last.robust(eps)
    composed = sound_account([stage_of(mine, eps)], Core(core_right, last.robust(eps)))
    masks = {
        "natural": accurate,
        "robust": accurate & robust,
        "robust_inaccurate": ~accurate & robust,
        "composed_natural": composed.natural,
        "composed_robust": composed.robust,
    }
    return Judged(
        str(tags["dataset"]),
        str(tags.get("network", "small")),
        eps,
        int(tags["seed"]),
        ("ERA + " if tags["era"] else "") + str(tags["loss"]).upper(),
        floats(masks),
        floats({"composed_natural": core_right, "composed_robust": core_robust}),
    )


def floats(masks: dict[str, Mask]) -> dict[str, Values]:
    """Masks as numbers."""
    return {name: np.asarray(mask, dtype=np.float64) for name, mask in masks.items()}


def interval(per_image: Values) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over images."""
    return float(per_image.mean()), float(1.96 * per_image.std(ddof=1) / np.sqrt(len(per_image)))


def seed_mean(cells: Iterable[Judged], quantity: str) -> Values:
    """Mean over seeds, per image."""
    return np.mean([cell.values[quantity] for cell in cells], axis=0)


Groups = dict[tuple[str, str, str], dict[str, list[Judged]]]


def groups(cells: list[Judged]) -> Groups:
    """Cells by (data set, network, eps), then by loss."""
    found: Groups = {}
    for cell in cells:
        found.setdefault((cell.dataset, cell.network, cell.eps), {}).setdefault(
            cell.loss, []
        ).append(cell)
    return found


def percent(value: float, half: float, *, sign: bool = False) -> str:
    """A rate with its interval, in percent."""
    return f"{100 * value:{'+' if sign else ''}.1f} ± {100 * half:.1f}"


def table(losses: dict[str, list[Judged]]) -> list[str]:
    """Every loss of one data set and radius; intervals over test images, means over seeds."""
    lines = [f"| loss | seeds | {' | '.join(HEADINGS)} |", "|---|---|" + "---|" * len(HEADINGS)]
    for loss, cells in losses.items():
        numbers = [percent(*interval(seed_mean(cells, q))) for q in QUANTITIES]
        lines.append(f"| {loss} | {len(cells)} | {' | '.join(numbers)} |")
    return lines


def gains(losses: dict[str, list[Judged]], quantity: str) -> dict[str, tuple[float, float]]:
    """Paired difference ERA minus alone of each loss, over images."""
    found = {}
    for loss, cells in losses.items():
        if not loss.startswith("ERA") and f"ERA + {loss}" in losses:
            inside = losses[f"ERA + {loss}"]
            found[loss] = interval(seed_mean(inside, quantity) - seed_mean(cells, quantity))
    return found


def against_best(losses: dict[str, list[Judged]], quantity: str) -> dict[str, tuple[float, float]]:
    """Paired difference of each ERA variant to the best one."""
    inside = {k: seed_mean(v, quantity) for k, v in losses.items() if k.startswith("ERA")}
    best = max(inside, key=lambda loss: inside[loss].mean())
    return {loss: interval(values - inside[best]) for loss, values in inside.items()}


def pooled_values(found: Groups, loss: str, quantity: str) -> Values:
    """One number per image of every data set and radius, those without the loss left out."""
    parts = [seed_mean(losses[loss], quantity) for losses in found.values() if loss in losses]
    return np.concatenate(parts) if parts else np.empty(0)


def overall(cells: list[Judged]) -> list[str]:
    """Each robust half inside ERA over the ConvNet's data sets and radii, images weighted equally.

    *ERA's part* is the paired difference to the same loss alone, in robustly wrong answers.
    """
    found = groups([cell for cell in cells if cell.network == "small"])
    lines = [
        "| robust half of ERA | composed robust | against the best | composed natural "
        "| robustly wrong | ERA's part |",
        "|---|---|---|---|---|---|",
    ]
    names = sorted({c.loss for c in cells if c.loss.startswith("ERA")})
    complete = [n for n in names if all(n in losses for losses in found.values())]
    pooled = {name: pooled_values(found, name, "composed_robust") for name in complete}
    if not pooled:
        return []
    best = max(pooled, key=lambda name: pooled[name].mean())
    for name in sorted(pooled, key=lambda n: -pooled[n].mean()):
        difference = interval(pooled[name] - pooled[best])
        text = "best" if name == best else percent(*difference, sign=True)
        wrong, alone = (pooled_values(found, n, "robust_inaccurate") for n in (name, name[6:]))
        part = percent(*interval(wrong - alone), sign=True) if len(alone) == len(wrong) else "-"
        natural = percent(*interval(pooled_values(found, name, "composed_natural")))
        robust = percent(*interval(pooled[name]))
        numbers = [robust, text, natural, percent(*interval(wrong)), part]
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    others = {n: interval(pooled[n] - pooled[best]) for n in complete if n != best}
    level = [n for n, (mean, half) in others.items() if mean + half >= 0]
    beaten = [n for n in others if n not in level]
    lines += ["", f"{best} is highest" + (f", ahead of {', '.join(beaten)}" if beaten else "")]
    lines[-1] += f"; not told apart from {', '.join(level)}." if level else "."
    natural = {n: pooled_values(found, n, "composed_natural").mean() for n in complete}
    front = pareto(
        np.array([natural[n] for n in complete]), np.array([pooled[n].mean() for n in complete])
    )
    kept = [complete[i] for i in front]
    lines[-1] += f" Robust and natural accuracy together leave a front of {', '.join(kept)}"
    dominated = [n for n in complete if n not in kept]
    lines[-1] += f"; behind on both: {', '.join(dominated)}." if dominated else "."
    return lines


def trade_off(cells: list[Judged]) -> Figure:
    """Natural against robust accuracy of the compositions."""
    marks = []
    for (dataset, network, eps), losses in groups(cells).items():
        panel = f"{dataset}, {NETWORKS[network]}, {eps}"
        for loss, found in losses.items():
            kind = "inside ERA" if loss.startswith("ERA") else "alone"
            x, y = (interval(seed_mean(found, q)) for q in QUANTITIES[3:])
            name = loss.removeprefix("ERA + ")
            marks.append(Mark(x[0], y[0], name, kind, panel, f"{panel} {name}", kind == "alone"))
        core = next(iter(losses.values()))[0].core
        x, y = (interval(core[q]) for q in QUANTITIES[3:])
        marks.append(Mark(x[0], y[0], "core", "core alone", panel))
    axes = Axes(
        "composed natural accuracy",
        "composed robust accuracy, sound",
        320,
        250,
        series_title="robust loss",
        kind_title="trained",
        shapes=SHAPES,
    )
    return Figure("trade-off", "Every loss before the same core", scatter(marks, axes))


def section(group: tuple[str, str, str], losses: dict[str, list[Judged]]) -> list[str]:
    """The part of the report about one data set, network and radius."""
    dataset, network, eps = group
    wrong = gains(losses, "robust_inaccurate")
    composed = against_best(losses, "composed_robust")
    lines = [f"## {dataset}, {NETWORKS[network]}, Linf {eps}", "", *table(losses), ""]
    lines += ["ERA minus the loss alone, robustly wrong: "]
    lines += ["; ".join(f"{k} {percent(*v, sign=True)}" for k, v in wrong.items()) + ".", ""]
    lines += ["Composed robust accuracy against the best ERA variant: "]
    lines += ["; ".join(f"{k} {percent(*v, sign=True)}" for k, v in composed.items()) + ".", ""]
    return lines


def write_report(records: Path, out: Path) -> None:
    """Write ``README.md`` and ``cells.json``."""
    cells = read_cells(records)
    lines = [
        "# Robust losses alone and inside ERA",
        "",
        "The small ConvNet, fine-tuned for one epoch on 10,000 images from a moderately robust",
        "network; five-step PGD in training, APGD-40 at eps and 2 eps in judgement, "
        f"{max(len(c.values['natural']) for c in cells)} test images or fewer.",
        "Rates in percent: mean over seeds, 95 % interval over test images. *Composed*: the",
        "network behind its robustness indicator, then a standard core (ResNet-56 on CIFAR-10,",
        "LeNet on GTSRB); robust accuracy by the sound accounting, as strong as the attack.",
        "The ResNet-20 starts from a standard network after one epoch of adversarial training.",
        "",
        *(
            []
            if len(cells) == CELLS
            else [f"So far {len(cells)} of {CELLS} networks are finished."]
        ),
        "The table over everything is about the ConvNet and the losses that are finished wherever",
        "any is. A network that always gives the same answer is robust and mostly wrong: read",
        "robust accuracy beside *robustly wrong*.",
        "",
        "Made by `experiments/losses.py`; `cells.json` holds every network's rates.",
        "",
        "## Over everything",
        "",
        "*ERA's part*: robustly wrong answers, ERA minus the same loss alone, paired.",
        "",
        *overall(cells),
        "",
        "![natural against robust accuracy of the compositions](trade-off.png)",
        "",
    ]
    for group, losses in groups(cells).items():
        lines += section(group, losses)
    rows = [
        {"dataset": c.dataset, "network": c.network, "eps": c.eps, "seed": c.seed, "loss": c.loss}
        | {q: round(float(v.mean()), 5) for q, v in c.values.items()}
        for c in cells
    ]
    save_figure(trade_off(cells), out, ("svg", "png"))
    write_atomically(out / "README.md", "\n".join(lines).encode())
    write_atomically(out / "cells.json", (json.dumps(rows, indent=1) + "\n").encode())
