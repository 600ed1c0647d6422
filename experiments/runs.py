"""Pages of the runs whose records are kept: what their numbers say, paired, with intervals.

    python experiments/runs.py            (writes results/runs/<run>/README.md from its records)

``recuse run <name> --out runs/<name>`` made the records, the training curves and the config that
lie beside each page; they are kept as it wrote them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recuse.analysis.compositions import ChainRates, compose_records
from recuse.analysis.intervals import Interval, paired_difference, wilson_of
from recuse.analysis.verdicts import Mask, Verdicts, verdicts
from recuse.records.schema import Record
from recuse.records.store import read_records, write_atomically

START, BASELINE = "adversarial", "trades"
CIFAR = """# CIFAR-10, a small robust network

`python experiments/runs.py` makes this page from the records beside it, which
`recuse run cifar10_small` wrote: a published, adversarially trained network (*adversarial*)
fine-tuned for two epochs on the JPEG training images by TRADES and by ERA at three β, at
ε∞ = 2/255.

**Adversary.** APGD-40 with cross entropy on each network at 1/255, 2/255 and 4/255; the
compositions are counted by the sound accounting, not attacked as a whole.

**Images.** The {images} lossless test images. **Chosen.** Nothing: every β that was trained is
listed. Rates in percent with 95 % Wilson intervals, differences in points, paired on the same
images, with 95 % bootstrap intervals.
"""
GAUSSIANS = """# Three Gaussians

`python experiments/runs.py` makes this page from the records beside it, which
`recuse run gaussians` wrote: three clusters in the plane, five draws, one network a draw and loss.

**Adversary.** PGD-100 at ε∞ = 0.1 and 0.2. **Points.** The {points} points a network was *trained*
on, as in the paper's Figure 1: these numbers show what a loss aims at, not how it generalises.
**Chosen.** Nothing. Percent, mean ± standard deviation over the five draws.
"""


def share(found: Interval, *, sign: bool = False) -> str:
    """An estimate in percent with its interval."""
    low, high = 100 * found.low, 100 * found.high
    if sign:
        return f"{100 * found.estimate:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"{100 * found.estimate:.1f} ({low:.1f} to {high:.1f})"


def right(model: Verdicts, eps: str) -> Mask:
    """Right and unchanged within eps."""
    return model.accurate() & model.robust(eps)


def wrong(model: Verdicts, eps: str) -> Mask:
    """Wrong and unchanged within eps."""
    return ~model.accurate() & model.robust(eps)


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def networks(found: dict[str, Verdicts], records: list[Record], eps: str) -> list[str]:
    """Each network alone, and in front of the core."""
    rates = [ChainRates.of(chain) for chain in compose_records(records, eps=eps)]
    whole = {c.name.partition(" → ")[0]: c for c in rates}
    heads = ["network", "natural", "robust", "robustly wrong", "before the core: natural"]
    rows = []
    for name, model in found.items():
        alone = (model.accurate(), right(model, eps), wrong(model, eps))
        cells = [name, *(share(wilson_of(mask)) for mask in alone)]
        if name in whole:
            cells += [f"{100 * whole[name].natural:.1f}", f"{100 * whole[name].sound:.1f}"]
        rows.append(cells if name in whole else [*cells, "–", "–"])
    return [f"## {eps}", "", *table([*heads, "before the core: robust (sound)"], rows)]


def differences(found: dict[str, Verdicts], eps: str) -> list[str]:
    """Fine-tuned networks against the one they started from and against TRADES."""
    rows = []
    for name in found:
        for other in (START, BASELINE):
            if name not in ("core", START, other):
                pairs = [
                    (rate(found[name], eps), rate(found[other], eps)) for rate in (right, wrong)
                ]
                cells = [share(paired_difference(*pair), sign=True) for pair in pairs]
                rows.append([f"{name} − {other}", *cells])
    return table(["difference", "robust", "robustly wrong"], rows)


def cifar10_small(records: list[Record]) -> str:
    """The page of the CIFAR-10 run."""
    order = ("core", START, BASELINE, "era-1", "era-0.3", "era-0.1")
    judged = {record.meta.model: verdicts(record) for record in records}
    found = {name: judged[name] for name in order}
    lines = [CIFAR.format(images=records[0].frame.height)]
    for eps in ("1/255", "2/255"):
        lines += [*networks(found, records, eps), *differences(found, eps)]
    return "\n".join(lines)


def gaussians(records: list[Record]) -> str:
    """The page of the plane."""
    (eps,) = {record.meta.radii[0] for record in records}
    rows = []
    for loss in ("standard", "trades", "era"):
        models = [verdicts(r) for r in records if r.meta.tags["loss"] == loss]
        rates = [[m.accurate().mean() for m in models]]
        rates += [[kind(m, eps).mean() for m in models] for kind in (right, wrong)]
        cells = [f"{100 * np.mean(r):.1f} ± {100 * np.std(r, ddof=1):.1f}" for r in rates]
        rows.append([loss, str(len(models)), *cells])
    heads = ["training", "draws", "natural", "robust", "robustly wrong"]
    return "\n".join([GAUSSIANS.format(points=records[0].frame.height), *table(heads, rows)])


PAGES: dict[str, Callable[[list[Record]], str]] = {
    "cifar10_small": cifar10_small,
    "gaussians": gaussians,
}


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("results/runs"))
    out = parser.parse_args().out
    for name, page in PAGES.items():
        write_atomically(out / name / "README.md", page(list(read_records(out / name))).encode())


if __name__ == "__main__":
    main()
