"""Systems that an adversary met as a whole: what it left of them, and of what was promised."""

from collections.abc import Sequence

from recuse.analysis.contradictions import Met, met
from recuse.analysis.elsewhere import own
from recuse.analysis.intervals import wilson_of
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Mask, verdicts
from recuse.records.run_folder import RunFolder
from recuse.report.study.markdown import share, table

TOLD = (
    "By an adversary that knows members, selectors and order; promised from attacks on each "
    "member by itself, on the same images. A promise that broke is counted as broken above."
)
STEPS = (
    " *Adversary*: gradient steps towards each goal of the whole, how many of the likeliest wrong "
    "classes are goals of their own, and the attacks on each network that come before."
)


def systems_met(run: RunFolder) -> list[Met]:
    """Attacked systems of several networks, or of one behind a selector."""
    found = met(run.attacks, gather([verdicts(record) for record in own(run.records)]))
    return [one for one in found if (" → " in one.name or "(" in one.name) and one.natural.size]


def attacked(systems: Sequence[Met], more: str = "") -> list[str]:
    """The table, by lines; none where nothing was attacked.

    Args:
        systems: From :func:`systems_met`.
        more: Said after the explanation.
    """
    if not systems:
        return []
    apart = len({one.adversary for one in systems}) > 1
    rows = [
        [
            one.name,
            one.eps,
            str(one.natural.size),
            *([one.adversary] if apart else []),
            *(share(wilson_of(mask)) for mask in (one.natural, one.promised, one.survived)),
            str(one.contradictions),
            "; ".join(f"{name} {_both(right, robust)}" for name, right, robust in one.alone),
        ]
        for one in systems
    ]
    heads = ["system", "ε", "images", *(["adversary"] if apart else [])]
    heads += ["natural", "sound", "attacked", "promises broken"]
    heads.append("each member alone, natural / robust")
    said = TOLD + (STEPS if apart else "") + more
    return ["## Attacked as a whole", "", said, "", *table(heads, rows)]


def _both(right: Mask, robust: Mask) -> str:
    return f"{100 * right.mean():.1f} / {100 * robust.mean():.1f}"


__all__ = ["attacked", "systems_met"]
