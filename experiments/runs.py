"""Pages of the runs whose records are kept: what their numbers say, paired, with intervals.

    python experiments/runs.py            (writes results/runs/<run>/README.md from its records)

``recuse run <name> --out runs/<name>`` made the records, the training curves and the config that
lie beside each page; they are kept as it wrote them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recuse.analysis.advice import advise
from recuse.analysis.composing import compose_records
from recuse.analysis.intervals import Interval, paired_difference, wilson_of
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Mask, Verdicts, verdicts
from recuse.radius import parse_radius
from recuse.records.run_folder import RunFolder, read_run
from recuse.records.store import write_atomically
from recuse.report.run.advice_text import advice_in_full, advice_rule

START, BASELINE = "adversarial", "trades"
CIFAR = """# CIFAR-10, a small robust network

`python experiments/runs.py` makes this page from the records beside it, which
`recuse run cifar10_small` wrote: a published, adversarially trained network (*adversarial*)
fine-tuned for two epochs on the JPEG training images by TRADES and by ERA at three β, at
ε∞ = 2/255.

**Adversary.** On each network at 1/255, 2/255 and 4/255 APGD-40 with cross entropy, as the run
does it, and APGD-40 with cross entropy and with DLR together, from the study of selectors, which
used the same networks and images; its adversary of whole systems met the core, the adversarial
network, and the one in front of the other, on every other image (`compositions`). What any of
them broke is broken here. The run's own attack alone had left a little more: TRADES in front of
the core 47.6 at 2/255. Compositions are counted by the sound accounting.

**Images.** The {images} lossless test images. **Chosen.** Nothing: every β that was trained is
listed. Rates in percent with 95 % Wilson intervals, differences in points, paired on the same
images, with 95 % bootstrap intervals.
"""
DIGITS = """# Digits, the demo

`python experiments/runs.py` makes this page from the records beside it, which
`recuse run digits` wrote: a small network on 8×8 digits, trained by the standard loss (*core*),
by TRADES, and by ERA at three β from there, at ε∞ = 0.1.

**Adversary.** APGD-40 with cross entropy on each network at 0.05, 0.1 and 0.2; the compositions
are counted by the sound accounting, not attacked as a whole.

**Images.** The {images} test images. **Chosen.** Nothing: every network that was trained is
listed; what is recommended is chosen on the images it is printed of. Rates in percent with 95 %
Wilson intervals, differences in points, paired on the same images, with 95 % bootstrap intervals.
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


def networks(found: dict[str, Verdicts], run: RunFolder, eps: str) -> list[str]:
    """Each network alone, and in front of the core; which system to take."""
    chains = compose_records(run.records, eps=eps, attacks=run.attacks)
    whole = {c.name.partition(" → ")[0]: c for c in (chain.rates for chain in chains)}
    heads = ["network", "natural", "robust", "robustly wrong", "before the core: natural"]
    rows = []
    for name, model in found.items():
        alone = (model.accurate(), right(model, eps), wrong(model, eps))
        cells = [name, *(share(wilson_of(mask)) for mask in alone)]
        if name in whole:
            cells += [f"{100 * whole[name].natural:.1f}", f"{100 * whole[name].sound:.1f}"]
        rows.append(cells if name in whole else [*cells, "–", "–"])
    lines = [f"## {eps}", "", *table([*heads, "before the core: robust (sound)"], rows)]
    return [*lines, advice_in_full(advise(chains)), ""]


def differences(found: dict[str, Verdicts], eps: str) -> list[str]:
    """Robust networks against those they are compared with: the start, if any, and TRADES."""
    rows = []
    references = [name for name in (START, BASELINE) if name in found]
    for name in found:
        for other in references:
            if name not in ("core", references[0], other):
                pairs = [
                    (rate(found[name], eps), rate(found[other], eps)) for rate in (right, wrong)
                ]
                cells = [share(paired_difference(*pair), sign=True) for pair in pairs]
                rows.append([f"{name} − {other}", *cells])
    return table(["difference", "robust", "robustly wrong"], rows)


def compositions(run: RunFolder, introduction: str, order: tuple[str, ...]) -> str:
    """The page of a run whose robust networks stand in front of a core."""
    judged = gather([verdicts(record) for record in run.records], run.attacks)
    known = {model.meta.model: model for model in judged}
    found = {name: known[name] for name in order}
    lines = [introduction.format(images=found["core"].samples)]
    for eps in sorted(run.eps, key=parse_radius):
        lines += [*networks(found, run, eps), *differences(found, eps)]
    # Every network alone, and every one but the core in front of it.
    return "\n".join([*lines, advice_rule(2 * len(found) - 1), ""])


def cifar10_small(run: RunFolder) -> str:
    """The page of the CIFAR-10 run."""
    return compositions(run, CIFAR, ("core", START, BASELINE, "era-1", "era-0.3", "era-0.1"))


def digits(run: RunFolder) -> str:
    """The page of the demo."""
    return compositions(run, DIGITS, ("core", BASELINE, "era-3", "era-1", "era-0.3"))


def gaussians(run: RunFolder) -> str:
    """The page of the plane."""
    records = run.records
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


PAGES: dict[str, Callable[[RunFolder], str]] = {
    "cifar10_small": cifar10_small,
    "digits": digits,
    "gaussians": gaussians,
}


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("results/runs"))
    out = parser.parse_args().out
    for name, page in PAGES.items():
        write_atomically(out / name / "README.md", page(read_run(out / name)).encode())


if __name__ == "__main__":
    main()
