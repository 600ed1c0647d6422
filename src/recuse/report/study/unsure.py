"""The page of trainings for abstention: every mechanism over each network, the core the same."""

from pathlib import Path

import numpy as np

from recuse.analysis.cascade_differences import cascade_over_cascade
from recuse.analysis.frontier import SPLITS, Frontier, frontier
from recuse.analysis.measured import gathered
from recuse.analysis.verdicts import Mask, Values, Verdicts, verdicts
from recuse.radius import parse_radius
from recuse.records.layout import PAGE
from recuse.records.run_folder import read_run
from recuse.records.store import write_atomically
from recuse.report.study.frontier_words import WORDS
from recuse.report.study.markdown import difference, table
from recuse.report.study.runs import compositions

OWN = "unsure"
LOSSES = (0.01, 0.05)
INTRODUCTION = """# Sure where right, unsure where wrong

`recuse report` makes this page from the records beside it, which `recuse run unsure` wrote: an
adversarially trained network of traffic signs (*adversarial*), and that fine-tuned by AT, TRADES,
ERA and `unsure` (β in the name) at 2/255 in as many epochs and attack steps.
`unsure` is β · L_rob + (1 − p_y) · −log(1 − w), with w the largest probability of a wrong class
that its attack finds in the ball.
"""
MET = """An adversary of whole systems met none but those that are named above: what it broke is not
known of the others, which favours them.
"""
SURE = """Mean in percent, over images, of the worst case within {eps}: how probable a wrong class
can be made where the answer is wrong, and the label where it is right and unchanged.
"""
SEARCHED = """One robust network and the core, nothing else: every mechanism that the records count,
cascades of two thresholds included. The most robust system, soundly counted, that gives up at most
{loss} of the core's natural accuracy on one half of the images, printed of the other, mean over
{splits} halves.
"""


def write_unsure(rows: Path, out: Path) -> None:
    """Write the page."""
    run = read_run(rows)
    judged = gathered([verdicts(record) for record in run.records], run.attacks)
    (core,) = (model for model in judged if model.meta.tags["role"] == "core")
    stages = {m.meta.model: m for m in judged if m is not core}
    lines = [compositions(run, INTRODUCTION), *([MET] if run.attacks else [])]
    for eps in sorted(run.eps, key=parse_radius):
        lines += [f"## How sure, {eps}", "", SURE.format(eps=eps), *sureness(stages, eps)]
        found = {
            name: frontier([core, stage], eps, attacks=run.attacks, losses=LOSSES, sure=())
            for name, stage in stages.items()
        }
        for loss in LOSSES:
            lines += [
                f"## Systems, {eps}, natural loss {100 * loss:g} %",
                "",
                *searched(found, loss),
            ]
    write_atomically(out / PAGE, "\n".join(lines).encode())


def sureness(stages: dict[str, Verdicts], eps: str) -> list[str]:
    """How sure of what is wrong, and of what is right, within the ball."""
    heads = ["network", "wrong", "surest of a wrong class", "right and unchanged", "least sure"]
    rows = []
    for name, model in stages.items():
        wrong, held = ~model.accurate(), model.accurate() & model.robust(eps)
        worst, least = (model.searched(f"{k}_confidence", eps) for k in ("worst", "least"))
        rows.append([name, *_mean(worst, wrong), *_mean(least, held)])
    return table(heads, rows)


def _mean(values: Values, of: Mask) -> tuple[str, str]:
    """How many, and their mean in percent; those that nothing could search are left out."""
    known = values[of & ~np.isnan(values)]
    return str(np.count_nonzero(of)), f"{100 * known.mean():.1f}" if known.size else "–"


def searched(found: dict[str, Frontier], loss: float) -> list[str]:
    """Every mechanism over every network, and what it has over own networks beyond others."""
    per = {name: {s.mechanism: s.result for s in one.at(loss)} for name, one in found.items()}
    own = [name for name in per if name.startswith(OWN)]
    pairs = [(one, other) for one in own for other in per if other not in own]
    rates, more = [], []
    for kind in per[own[0]]:
        means = [results[kind].mean for results in per.values()]
        rates.append(
            [WORDS[kind], *(f"{100 * m.natural:.1f} / {100 * m.sound:.1f}" for m in means)]
        )
        over = [cascade_over_cascade(per[one][kind], per[other][kind]) for one, other in pairs]
        more.append([WORDS[kind], *(difference(o.robust) for o in over)])
    words = SEARCHED.format(loss=f"{100 * loss:g} point" + "s" * (loss != 0.01), splits=SPLITS)
    heads = [f"{one} − {other}" for one, other in pairs]
    return [
        words,
        *table(["natural / robust", *per], rates),
        *table(["robust, paired", *heads], more),
    ]


__all__ = ["write_unsure"]
