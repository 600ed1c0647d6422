"""What to take, in sentences: every composition beside its members alone, and what is given up."""

from collections.abc import Sequence

from recuse.analysis.accounting import Difference, difference
from recuse.analysis.advice import ALLOWED_LOSS, Advice, System
from recuse.analysis.intervals import Interval
from recuse.analysis.measured import CERTIFIED, ROBUST
from recuse.analysis.metrics import rate
from recuse.report.page.blocks import percent, points

_NAMED = 3
_BUDGETS = {
    "linf": "change every input value by up to {eps}",
    "l2": "move the input by up to {eps} in Euclidean distance",
}


def advice_in_full(advice: Advice) -> str:
    """A paragraph for a reader who meets the data and the threat for the first time.

    Its first sentence says what to take: a composition, or one of its members alone.
    """
    meta, core = advice.core.models[0].meta, advice.core
    stays = _core_stays(advice, f"when an attack may {budget_of(meta.norm, advice.eps)}")
    return (
        f"{_choice(advice)} On {core.account.natural.size:,} samples of {meta.dataset}, "
        f"{core.title} is right on {percentage(rate(core.account.natural))} and {stays}. "
        f"{_verdict(advice)} (In brackets: 95\u00a0% intervals of paired differences.)"
    )


def advice_shortly(advice: Advice) -> str:
    """The same for a further radius."""
    core = advice.core
    where = f"{core.models[0].meta.norm} {advice.eps}"
    stays = _core_stays(advice, "under attack")
    return f"{_choice(advice, f'at {where}')} There {core.title} {stays}. {_verdict(advice)}"


def _choice(advice: Advice, where: str = "here") -> str:
    """What to take, in one sentence."""
    taken = advice.taken
    rule = "" if advice.cheap or taken is advice.core else "By the sum of both accuracies, the"
    kind = (
        f"a composition, {taken.name}"
        if taken.composition is not None
        else f"the core alone, {taken.name}"
        if taken is advice.core
        else f"a robust model alone, {taken.name}, rather than a composition"
    )
    return f"{rule or 'The'} better choice {where} is {kind}."


def budget_of(norm: str, eps: str) -> str:
    """What an attacker may do, after "may"."""
    return _BUDGETS[norm].format(eps=eps)


def advice_rule(choices: int) -> str:
    """How a recommendation was chosen among so many systems, and on what."""
    return (
        f"What is recommended was chosen among {choices} systems (every model alone and every "
        "composition) on the same samples it is reported on, which favours it slightly. Of those "
        "that no other equals or beats in both natural and robust accuracy, it is the most robust "
        f"that gives up at most {100 * ALLOWED_LOSS:g} point of the core's natural accuracy, or, "
        "where none is that cheap, the one with the largest sum of both."
    )


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are.

    >>> listed(["a", "b", "c", "d"]), listed(["a"])
    ('a, b and 2 more', 'a')
    """
    most = _NAMED if len(names) > _NAMED else len(names)
    shown = list(names[: most - (len(names) > most)])
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def percentage(value: float, decimals: int = 1) -> str:
    """A share with its unit, never parted at the end of a line."""
    return f"{percent(value, decimals)}\u00a0%"


def _core_stays(advice: Advice, budget: str) -> str:
    """What an attack leaves of the core, and what is proven of it, whichever is known."""
    model = advice.core.models[0]
    if advice.kind == ROBUST:
        return f"stays right on {percentage(rate(advice.core.account.robust))} {budget}"
    known = []
    if model.has(ROBUST, advice.eps):
        left = rate(model.accurate() & model.robust(advice.eps))
        known.append(f"was found to stay right on {percentage(left)} {budget}")
    if model.proves(advice.eps):
        proven = percentage(rate(advice.core.account.robust))
        known.append(f"provably stays right on {proven}" + ("" if known else f" {budget}"))
    else:
        known.append("was not certified, so that nothing is proven of it")
    return " but ".join(known)


def _verdict(advice: Advice) -> str:
    taken, core = advice.taken, advice.core
    if taken is core:
        (other,) = advice.others
        return f"{other.name} {_stays(advice, other)}, {_over(other, core, advice)}."
    parts = [] if advice.cheap else [_DEAR]
    if taken.composition is None:
        (other,) = advice.others
        parts += [
            f"{taken.title} {_stays(advice, taken)}, {_over(taken, core, advice)}.",
            f"{other.name}, where {_how(advice, other)}, {_stays(advice, other)}, "
            f"{_over(other, taken, advice)}{_where_better(other, taken)}.",
        ]
    else:
        parts += [
            f"{taken.name}, where {_how(advice, taken)} "
            f"({percentage(rate(taken.composition.left))} of the samples), "
            f"{_stays(advice, taken)}, {_over(taken, core, advice)}.",
            *(_beside(advice, stage) for stage in advice.others),
        ]
    return " ".join([*parts, *_alike(advice)])


_DEAR = (
    f"No more robust system keeps within {100 * ALLOWED_LOSS:g} point of the core's natural "
    "accuracy."
)


def _alike(advice: Advice) -> list[str]:
    if not advice.alike:
        return []
    names = listed([system.title for system in advice.alike])
    return [f"These samples do not tell it from {names}: every interval of a difference holds 0."]


def _how(advice: Advice, system: System) -> str:
    *stages, core = (model.meta.model for model in system.models)
    proven = advice.kind == CERTIFIED
    if len(stages) == 1:
        stable = "its answer is proven constant" if proven else "no attack changes its answer"
        return f"{stages[0]} answers if {stable} and {core} answers the rest"
    stable = "is proven constant" if proven else "no attack changes"
    return f"the first of {', '.join(stages)} whose answer {stable} answers, and {core} the rest"


def _stays(advice: Advice, system: System) -> str:
    natural, robust = rate(system.account.natural), rate(system.account.robust)
    proven = "provably " if advice.kind == CERTIFIED else ""
    return f"is right on {percentage(natural)} and {proven}stays right on {percentage(robust)}"


def _beside(advice: Advice, stage: System) -> str:
    taken = advice.taken
    return (
        f"{stage.title} {_stays(advice, stage)}: the composition has "
        f"{_over(taken, stage, advice)}{_where_better(stage, taken)}."
    )


def _where_better(system: System, other: System) -> str:
    """For whom the system that was not taken would be the better one, if that is established."""
    better = only_better_in(difference(system.account, other.account))
    if not better:
        return ""
    return f"; where {better} accuracy counts most, {system.title} is the better choice"


def only_better_in(over: Difference) -> str:
    """The one accuracy, natural or robust, in which one system surely leads; else empty."""
    rates = (("natural", over.natural), ("robust", over.robust))
    better = [name for name, interval in rates if interval.low > 0]
    return better[0] if len(better) == 1 else ""


def _over(system: System, other: System, advice: Advice) -> str:
    """Differences of one system over another; of proofs only where both could be proven."""
    over = difference(system.account, other.account)
    parts = [f"{signed(over.natural)} natural"]
    if other is not advice.core or advice.kind == ROBUST or other.models[0].proves(advice.eps):
        parts.append(f"{signed(over.robust)} robust")
    return f"{' and '.join(parts)} against {other.title}"


def signed(interval: Interval) -> str:
    """A difference in points with its interval."""
    between = f"{points(interval.low)} to {points(interval.high)}"
    return f"{points(interval.estimate)} points ({between})"
