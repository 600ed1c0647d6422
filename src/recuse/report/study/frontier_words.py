"""What the page of the frontier says of its numbers: which mechanism is ahead where, and why."""

from pathlib import Path

from recuse.analysis.frontier import ALL, ALLOWED, Frontier, dominated
from recuse.records.layout import PUBLISHED
from recuse.records.run_folder import read_mapping
from recuse.report.study.markdown import data_name, difference, table

WORDS = {
    "indicator": "robustness indicator",
    "any-radius": "indicators of other radii",
    "softmax": "softmax response",
    "entropy": "entropy response",
    "robust-margin": "robust margin",
    "robust-softmax": "softmax response over the ball",
    "network": "selection network",
    "mixture": "mixture of probabilities",
    "one-hot-mixture": "mixture with the core's bare answer",
    ALL: "all of them",
}
INTRODUCTION = """# The frontier: every mechanism that needs no training, in one search

`recuse report` makes this page from the records beside it, which `recuse run frontier` wrote.

**Setting.** The robustness indicator; softmax response, entropy and margins over the ball, each at
{thresholds} thresholds, where records hold what they need; mixtures of a network's probabilities
with the core's at as many weights, and with the core's bare answer (the decision of MixedNUTS
without its map: how far the network's class is ahead of the core's); cascades of two stages. A
stage that looks around its input must be stable within 2ε to answer surely; nothing else here asks
more than ε.

**Adversary.** {attacks} on each network at ε and 2ε; for the worst probabilities
within ε three searches of {steps} steps (cross entropy, wrong-class confidence, probability margin)
that never stop early; what other attacks broke of these networks elsewhere is broken here
(`compositions`, where there are any). Systems are counted by the *sound* accounting, a lower bound
on robust accuracy as strong as these attacks. {whole}

**Chosen.** On one half of the images, the most robust system that gives up at most so much of the
core's natural accuracy there; every number is of the *other* half, mean ± standard deviation over
{splits} random halves. The natural accuracy of a mixture is a lower bound as well. The robust
network alone is the most robust that keeps to the same loss, or of all where none does. The best
of many systems on one half gives up more on the other (*kept*); a half that asks to be sure of the
loss, one-sided, by the images on which system and core differ, gives up less.
"""
WHY = """**Why.** A stage that looks around its input (indicator, margin, softmax response over the
ball) answers surely only where it is stable within 2ε, while softmax response, entropy and
mixtures need ε alone: that is their advantage in the sound count, and it grows with ε. The
indicator has no threshold. Where its network is stable and wrong on more images than may be given
up, it has no setting, and the search falls back on the core; where the core is hardly more
accurate than the robust network, it is cheap. The probabilities that a robust network gives tell
its right answers from its wrong ones, and a threshold on them buys natural accuracy in any amount.
Of entropy only what the likeliest class leaves to the others is bounded, so that its sound number
is lower than what an attack would leave. A mixture always answers and is counted by the worst of
each network, found at different points of the ball: a bound that gives some of its accuracy away.
"""


def verdict(entry: Frontier, loss: float) -> str:
    """Which mechanism is ahead, which are level with it, what all together add, who beats them.

    Args:
        entry: The searches of one question.
        loss: The allowed loss that is spoken of.
    """
    best, found = entry.best_alone(loss), {s.mechanism: s.result for s in entry.at(loss)}
    own, over = found[best].mean, entry.over(loss, best).robust
    rivals = {m: entry.over(loss, m, by=best).robust for m in entry.mechanisms if m != best}
    level = [WORDS[m] for m, more in rivals.items() if more.low <= 0]
    behind = [WORDS[m] for m, more in rivals.items() if more.low > 0]
    said = f"**Ahead.** Of one mechanism alone, {WORDS[best]} leaves most"
    said += (
        f" ({100 * own.sound:.1f} % at {100 * own.natural:.1f} % natural; picked by this number)"
    )
    said += f"; level with it: {', '.join(level)}" * bool(level)
    said += f"; behind it: {', '.join(behind)}" * bool(behind)
    together = "ahead of that" if over.low > 0 else "behind that" if over.high < 0 else "level"
    said += f". All of them in one search are {together}: {difference(over)} points"
    return f"{said}. {_dominated(entry, loss)}"


def _dominated(entry: Frontier, loss: float) -> str:
    """Which baselines are better than all together, beyond the interval, and what comes of it."""
    every, lead = entry.at(loss)[-1].result, entry.ahead(loss)
    members = [name for name, over in entry.alone(loss).items() if dominated(over)]
    better = [*members, *([WORDS[lead]] if lead else [])]
    if not better:
        return "No baseline, member or mechanism is better than they beyond the interval."
    said = f"Better than they, beyond the interval, is {' and '.join(better)}: the one to take here"
    if members:
        halves = f"{every.better_alone} of {len(every.splits)} halves"
        said += f"; a search takes a network alone in {halves}"
    if lead:
        over = entry.over(loss, ALL, by=lead)
        said += (
            f": {difference(over.natural)} natural, {difference(over.robust)} robust. A search "
            "lists its systems and hands them on. Each of them was chosen on its half, the "
            "mechanism by all reporting halves, on which its own rates are that much too good"
        )
    return f"{said}."


def given_up(entry: Frontier) -> list[str]:
    """What all mechanisms together give up on the reporting half, by how sure the other was."""
    counted = next(s.result for s in entry.at(ALLOWED) if s.mechanism == ALL)
    rows = []
    for result in (counted, *entry.surer):
        mean, spread = result.mean, result.deviation
        rows.append(
            [
                "as counted" if result is counted else f"sure to {100 * result.sure:g} %",
                f"{100 * (mean.core_natural - mean.natural):.1f}",
                f"{result.kept} of {len(result.splits)}",
                f"{100 * mean.natural:.1f} ± {100 * spread.natural:.1f}",
                f"{100 * mean.sound:.1f} ± {100 * spread.sound:.1f}",
            ]
        )
    points = f"{100 * ALLOWED:g}"
    words = (
        f"**Kept.** Asked for at most {points} points on the choosing half, all of them together "
        "give up on the other:"
    )
    heads = ["asked for", "points given up", f"{points} or less", "natural", "robust (sound)"]
    return [words, "", *table(heads, rows)]


def published(folder: Path) -> list[str]:
    """What the same search finds in the paper's published logs; nothing where that is not at hand.

    Args:
        folder: Of files that ``recuse cascade search --json`` wrote.
    """
    rows = []
    for path in sorted((folder / PUBLISHED).glob("*.json")):
        found = read_mapping(path)
        mean = found["mean"]
        rates = (
            f"{100 * mean[natural]:.1f} / {100 * mean[robust]:.1f}"
            for natural, robust in (
                ("core_natural", "core_robust"),
                ("alone_natural", "alone_robust"),
                ("natural", "sound"),
            )
        )
        better = sum(split["better_alone"] for split in found["splits"])
        name = f"{data_name(found['dataset'].partition('/')[0])}, {found['eps']}"
        rows.append([name, f"{found['samples']:,}", *rates, f"{better} of {len(found['splits'])}"])
    if not rows:
        return []
    heads = ["logs", "samples", "core alone", "robust network alone", "indicators", "better alone"]
    words = (
        "`recuse cascade search --logs DIR --json published/NAME.json`, natural / robust (sound), "
        "two stages, chosen and reported as above. These logs hold verdicts alone: they bound the "
        "indicator, and no softmax response, margin or mixture, which have no row here. *Better "
        "alone*: choosing halves on which a network alone keeps to the loss and is more robust "
        "than every composition; with networks this accurate there is little to compose."
    )
    return ["## The paper's published logs", "", words, "", *table(heads, rows)]


ATTACKED = """ Every mechanism met one on another pair of networks (`recuse run selectors`).

![Natural against attacked robust accuracy](attacked.svg)"""

__all__ = ["ATTACKED", "INTRODUCTION", "WHY", "WORDS", "given_up", "published", "verdict"]
