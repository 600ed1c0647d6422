"""The tables of compositions in a report: what they gain, and how the ways of counting differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recuse.analysis.accounting import Account, explain
from recuse.analysis.advice import Advice
from recuse.analysis.intervals import paired_difference
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Mask, Verdicts
from recuse.report.composed import Composed
from recuse.report.measured import Judged
from recuse.report.page import Cell, Column, Rate, Table
from recuse.report.tables import Lead, interval_points

_SHOWN_IDS = 4


@dataclass(frozen=True)
class _Said:
    """What the composition table says of the verdicts behind it."""

    title: str
    bound: str
    system: str
    limit: str


_SAID: dict[Kind, _Said] = {
    "robust": _Said(
        "Compositions",
        "lower bound, as strong as the attack",
        "A robust model answers where no attack within ε changes its answer; the core answers "
        "the rest.",
        "",
    ),
    "certified": _Said(
        "Certified compositions",
        "lower bound, proven",
        "A certified model answers where its answer is proven constant within ε; the core answers "
        "the rest.",
        " It needs certificates at 2ε, which cover every point that an attacker of budget ε can "
        "reach; a core without certificates of its own counts as never robust. Smoothing proves "
        "each image up to its error probability α, and the count takes a selector that knows the "
        "certified radius: a test may lack votes where a moved image's radius hardly exceeds ε, "
        "and the core then answers.",
    ),
}


def composition_table(compositions: Sequence[Composed], advice: Sequence[Advice]) -> Table:
    """Compositions by the sound, the attacked and the paper's accounting, their members first.

    Args:
        compositions: All of the report.
        advice: What to set off.
    """
    lead = Lead([c.stage for c in compositions])
    attacked = any(c.attacked is not None for c in compositions)
    said = _SAID[compositions[0].kind]
    columns: tuple[Column, ...] = (
        *lead.columns("system"),
        Column("natural", "%", "as deployed: the selector decides at ε", best="high"),
        Column("less the core's", "points", "difference, paired bootstrap, 95 %"),
        Column("robust, sound", "%", said.bound, best="high"),
        Column("less the core's", "points", "difference, paired bootstrap, 95 %"),
        *((Column("robust, attacked", "%", "attack on the composition itself"),) * attacked),
        Column("natural, paper", "%", "by the paper's way of counting"),
        Column("robust, paper", "%", "by the paper's way of counting"),
        Column("stage answers", "%", "share of the samples that the robust model answers"),
    )
    rows: list[tuple[Cell, ...]] = []
    emphasis = []
    taken = {(_members(entry.taken.models), entry.eps) for entry in advice}
    for group in _by_radius(compositions):
        for judged, account in _alone(group):
            if (_members([judged.verdicts]), group[0].eps) in taken:
                emphasis.append(len(rows))
            rows.append(_alone_row(lead, judged, account, group[0], attacked))
        for c in group:
            if (_members(c.chain.members), c.eps) in taken:
                emphasis.append(len(rows))
            rows.append(_composition_row(lead, c, attacked))
    caption = (
        f"{said.system} Sound: natural accuracy is that of this system, and an image counts as "
        f"robust only if no stage that an attacker can make answer is wrong.{said.limit} The "
        "paper's count takes natural accuracy from a selector of radius 2ε and counts some images "
        "as robust that the system can be made to get wrong. Shaded: what is recommended."
    )
    emphasised = frozenset(emphasis)
    return Table(said.title, columns, tuple(rows), caption, emphasised, within=("data", "ε"))


def accounting_table(compositions: Sequence[Composed]) -> Table:
    """How many samples explain the difference between the two ways of counting."""
    lead = Lead([c.stage for c in compositions])
    columns: tuple[Column | str, ...] = (
        *lead.columns("composition"),
        Column("robust by the paper's count only", "samples", "an attacker may still win there"),
        Column("of those wrong without any attack", "samples"),
        Column("right by the paper's count only", "samples", "natural accuracy"),
        Column("right as deployed only", "samples", "natural accuracy"),
        Column("of", "samples"),
        "for example",
    )
    rows = []
    for c in compositions:
        hidden = explain(c.paper, c.sound)
        counts = (
            hidden.robust_unproven,
            hidden.wrong_at_x,
            hidden.natural_gained,
            hidden.natural_lost,
        )
        numbers = tuple(int(mask.sum()) for mask in counts)
        examples = _some(c, hidden.robust_unproven | hidden.natural_gained)
        rows.append((*lead.cells(c.stage, c.name, c.eps), *numbers, c.samples, examples))
    return Table("What the paper's accounting hides", columns, tuple(rows), folded=True)


def _members(models: Sequence[Verdicts]) -> tuple[int, ...]:
    """Which records stand behind a system, whoever holds them."""
    return tuple(id(model) for model in models)


def _by_radius(compositions: Sequence[Composed]) -> list[list[Composed]]:
    """Compositions of one data set, norm and radius, in their order."""
    groups: dict[tuple[str, str, str], list[Composed]] = {}
    for c in compositions:
        meta = c.stage.meta
        groups.setdefault((meta.dataset, meta.norm, c.eps), []).append(c)
    return list(groups.values())


def _alone(group: Sequence[Composed]) -> list[tuple[Judged, Account]]:
    """The members of these compositions by themselves, each once, cores first."""
    cores = {id(c.core.verdicts): (c.core, c.core_alone) for c in group}
    stages = {id(c.stage.verdicts): (c.stage, c.stage_alone) for c in group}
    return [*cores.values(), *stages.values()]


def _alone_row(
    lead: Lead, judged: Judged, account: Account, beside: Composed, attacked: bool
) -> tuple[Cell, ...]:
    """A model by itself; its differences are those to the core of the first composition."""
    name = f"{judged.meta.model} alone"
    core = beside.core_alone
    is_core = judged.verdicts is beside.core.verdicts
    natural, robust = rate(account.natural), rate(account.robust)
    proven = beside.kind == "robust" or judged.verdicts.proves(beside.eps)
    return (
        *lead.cells(judged, name, beside.eps),
        Rate(natural),
        None if is_core else interval_points(paired_difference(account.natural, core.natural)),
        Rate(robust) if proven else None,
        None if is_core else interval_points(paired_difference(account.robust, core.robust)),
        *((None,) if attacked else ()),
        None,
        None,
        None,
    )


def _composition_row(lead: Lead, c: Composed, attacked: bool) -> tuple[Cell, ...]:
    broken: tuple[Cell, ...] = (None if c.attacked is None else Rate(c.attacked),)
    return (
        *lead.cells(c.stage, c.name, c.eps),
        Rate(c.natural.estimate),
        interval_points(c.cost),
        Rate(c.robust.estimate),
        interval_points(c.gain),
        *(broken if attacked else ()),
        Rate(float(c.paper.natural.mean())),
        Rate(float(c.paper.robust.mean())),
        Rate(float(c.selects.mean())),
    )


def _some(c: Composed, mask: Mask) -> str:
    """The first sample ids of a mask."""
    ids = [str(c.stage.verdicts.ids[int(i)]) for i in np.flatnonzero(mask)[: _SHOWN_IDS + 1]]
    return ", ".join(ids[:_SHOWN_IDS]) + (" …" if len(ids) > _SHOWN_IDS else "")
