"""Pages of the small runs: every network alone and in front of the core, paired, with intervals."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recuse.analysis.composing import compose_records
from recuse.analysis.compositions import Composition
from recuse.analysis.measured import gathered
from recuse.analysis.networks import SOURCE
from recuse.analysis.verdicts import Verdicts, add_radii, verdicts
from recuse.radius import parse_radius
from recuse.records.layout import PAGE
from recuse.records.run_folder import RunFolder, read_run
from recuse.records.store import write_atomically
from recuse.report.page.figures import save_figure
from recuse.report.run.advice_text import advice_rule
from recuse.report.study.attacked_systems import attacked, systems_met
from recuse.report.study.by_name import by_name
from recuse.report.study.each_attack import each_attack
from recuse.report.study.markdown import table
from recuse.report.study.network_tables import (
    Networks,
    beside_core,
    differences,
    networks,
    right,
    selection,
    wrong,
)

Chains = dict[str, list[Composition]]
MADE = "`recuse report` makes this page from the records beside it, which"
CIFAR = f"""# CIFAR-10, a small robust network

{MADE}
`recuse run cifar10_small` wrote: a published, adversarially trained network (*adversarial*)
fine-tuned on the JPEG training images by TRADES and by ERA at several β.
"""
DIGITS = f"""# Digits, the demo

{MADE}
`recuse run digits` wrote: a small network on 8×8 digits, trained by the standard loss (*core*),
by TRADES, and by ERA at several β from there.
"""
GTSRB = f"""# GTSRB, a core and robust networks trained here

{MADE}
`recuse run gtsrb` wrote: a core, a network trained adversarially in one step an image
(*adversarial*), and that fine-tuned by TRADES and by ERA at several β at equal cost. The number at
the end of a name is the training radius in 255ths; the penalty of *far* sees twice that.
"""
GTSRB_TRANSFERRED = f"""# GTSRB, from a robust network of CIFAR-10

{MADE}
`recuse run gtsrb_transferred` wrote: networks that start from `recuse:cifar10-longer-adversarial`
with a new last layer: a core, and two trained adversarially in one step an image, at 1/255
(*adversarial-1*) and at 4/255 (*adversarial*), the latter fine-tuned by TRADES and by ERA at equal
cost (*era-at* holds AT). The number at the end of a name is the training radius in 255ths.
"""
CIFAR_TRAINED = f"""# CIFAR-10, robust networks trained here

{MADE}
`recuse run cifar10` wrote: a published core, a network trained adversarially in one step an image
(*adversarial*), and that fine-tuned by TRADES and by ERA at several β at equal cost. The number at
the end of a name is the training radius in 255ths; the penalty of *far* sees twice that.
"""
# Only of runs that hold them; most by how a network's name begins.
HARD = """The penalty of *hard* is on wrong answers alone; that of the others weighs every answer by
its soft miss, 1 − p(x)_y.
"""
NAMED = {
    "at-": """AT continued for as many steps (*at*) and ERA that holds AT (*era-at*) stand beside
TRADES and ERA that holds TRADES.
""",
    "longer-": """*longer-adversarial* is the adversarial network trained on for 20 epochs; the
other *longer* ones start from it.
""",
    "longer-seed": """Those whose names begin with *longer-seed* saw the images in another order.
""",
}
COMPOSED_BY = frozenset({"apgd-ce", "apgd"})  # the same, of older records
COMPOSED = """
**Adversary.** APGD-40 with cross entropy on each network at {radii}.
{more}Compositions are counted by the sound accounting{apart}.

**Images.** The {images} test images. **Chosen.** Nothing: every network that was trained is
listed; what is recommended is chosen on the images it is printed of. Rates in percent with 95 %
Wilson intervals, differences in points, paired on the same images, with 95 % bootstrap intervals.
"""
GAUSSIANS = """# Three Gaussians

{made}
`recuse run gaussians` wrote: three clusters in the plane, one network a draw and loss.

**Adversary.** PGD-100 at ε∞ = {radii}. **Points.** The {points} points a network was *trained*
on, as in the paper's Figure 1: these numbers show what a loss aims at, not how it generalises.
**Chosen.** Nothing. Percent, mean ± standard deviation over the draws.
"""


def write_cifar10_small(rows: Path, out: Path) -> None:
    """Write the page of the CIFAR-10 run."""
    _write(out, compositions(read_run(rows), CIFAR))


def write_cifar10(rows: Path, out: Path) -> None:
    """Write the page of the CIFAR-10 networks trained here, and its figures."""
    _write_trained(rows, out, CIFAR_TRAINED)


def write_gtsrb(rows: Path, out: Path) -> None:
    """Write the page of the traffic signs, and its figures."""
    _write_trained(rows, out, GTSRB)


def write_gtsrb_transferred(rows: Path, out: Path) -> None:
    """Write the page of the traffic signs learnt from CIFAR-10, and its figures."""
    _write_trained(rows, out, GTSRB_TRANSFERRED)


def _write_trained(rows: Path, out: Path, introduction: str) -> None:
    run = read_run(rows)

    def more(found: Networks, chains: Chains) -> list[str]:
        lines, figures = by_name(found, chains)
        for figure in figures:
            save_figure(figure, out, ("svg",))
        return [*each_attack(found, run.records), *attacked(systems_met(run)), *lines]

    _write(out, compositions(run, introduction, more))


def write_digits(rows: Path, out: Path) -> None:
    """Write the page of the demo."""
    _write(out, compositions(read_run(rows), DIGITS))


def write_gaussians(rows: Path, out: Path) -> None:
    """Write the page of the plane."""
    _write(out, gaussians(read_run(rows)))


def compositions(
    run: RunFolder,
    introduction: str,
    more: Callable[[Networks, Chains], list[str]] = lambda found, chains: [],
) -> str:
    """The page of a run whose robust networks stand in front of a core.

    Args:
        run: The run.
        introduction: Title and first words.
        more: Lines for the end, given the networks by name and the compositions by radius.
    """
    judged = gathered([verdicts(record) for record in run.records], run.attacks)
    # Of several records of one network, which know the same, one of the most images.
    largest = sorted(judged, key=lambda model: model.samples)
    known = {model.meta.model: model for model in largest if model.radii()}
    planned = [str(plan["name"]) for plan in run.config["models"]]
    found = {name: known[name] for name in planned if name in known}
    for beginning, words in NAMED.items():
        introduction += words if any(name.startswith(beginning) for name in found) else ""
    introduction += HARD if any("penalty" in m.meta.tags for m in found.values()) else ""
    lines = [introduction + _conditions(run, found["core"])]
    chains = {
        eps: compose_records(run.records, eps=eps, attacks=run.attacks)
        for eps in sorted(run.eps, key=parse_radius)
    }
    for eps, each in chains.items():
        lines += [*networks(found, each, eps), *differences(found, eps)]
        lines += [*beside_core(each, eps), *selection(found, eps)]
        doubled = add_radii(eps, eps)
        if doubled not in run.eps and found["core"].has("robust", doubled):
            lines += differences(found, doubled)
    # Every network alone, and every one but the core in front of it.
    return "\n".join([*lines, advice_rule(2 * len(found) - 1), "", *more(found, chains)])


def _conditions(run: RunFolder, core: Verdicts) -> str:
    searched = (r for r in run.records if verdicts(r).radii())
    others = sorted({record.meta.method for record in searched} - COMPOSED_BY)
    others += sorted(
        {f"those of {r.meta.settings[SOURCE]}" for r in run.records if SOURCE in r.meta.settings}
    )
    systems = list(dict.fromkeys(record.meta.model for record in run.attacks))
    met = [f"other searches ({', '.join(others)})"] if others else []
    met += [f"an adversary of whole systems ({', '.join(systems)})"] if systems else []
    more = f"They met {' and '.join(met)} too:\nwhat any of them broke is broken here.\n"
    return COMPOSED.format(
        radii=", ".join(core.meta.radii),
        more=more if met else "",
        apart="" if systems else ", not attacked as a whole",
        images=core.samples,
    )


def gaussians(run: RunFolder) -> str:
    """The page of the plane."""
    radii = run.records[0].meta.radii
    rows = []
    for loss in ("standard", "trades", "era"):
        models = [verdicts(r) for r in run.records if r.meta.tags["loss"] == loss]
        rates = [[float(m.accurate().mean()) for m in models]]
        rates += [[float(kind(m, radii[0]).mean()) for m in models] for kind in (right, wrong)]
        rows.append([loss, str(len(models)), *map(_spread, rates)])
    heads = ["training", "draws", "natural", "robust", "robust inaccuracy"]
    words = {"radii": " and ".join(radii), "points": run.records[0].frame.height}
    return "\n".join([GAUSSIANS.format(made=MADE, **words), *table(heads, rows)])


def _spread(rates: Sequence[float]) -> str:
    mean = f"{100 * np.mean(rates):.1f}"
    return f"{mean} ± {100 * np.std(rates, ddof=1):.1f}" if len(rates) > 1 else mean


def _write(out: Path, text: str) -> None:
    write_atomically(out / PAGE, text.encode())


__all__ = [
    "write_cifar10",
    "write_cifar10_small",
    "write_digits",
    "write_gaussians",
    "write_gtsrb",
    "write_gtsrb_transferred",
]
