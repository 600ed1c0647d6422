"""The tables of compositions in a report: what they gain, and how the ways of counting differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recuse.analysis.accounting import Account, explain
from recuse.analysis.advice import Advice
from recuse.analysis.deployed import Promise, promise_alone
from recuse.analysis.intervals import paired_difference
from recuse.analysis.measured import Judged
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Mask, Verdicts
from recuse.analysis.winners import Outcome, winners
from recuse.report.composed import Composed
from recuse.report.page.blocks import Cell, Column, Rate, Table
from recuse.report.run.tables import BOLD, Lead, interval_points

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
        " By certificates an image counts only where the deployed stage answers it rightly "
        "wherever an attacker moves it, with the probability of failure beside the number: α that "
        "the certificate is false, β that a stage with finitely many votes misses. Interval bounds "
        "need a certificate at 2ε; votes need more, because at 2ε they promise no more than what "
        "the deployed test accepts with probability α. A dash stands where the records do not hold "
        "what is needed. A core without certificates of its own counts as never robust.",
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
    said, proven = _SAID[compositions[0].kind], compositions[0].kind == "certified"
    columns: tuple[Column, ...] = (
        *lead.columns("system"),
        Column("natural", "%", "as deployed: the selector decides at ε"),
        Column("less the core's", "points", "difference, paired bootstrap, 95 %"),
        Column("robust, sound", "%", said.bound),
        Column("less the core's", "points", "difference, paired bootstrap, 95 %"),
        *((Column("fails", "α + β", "probability per image, of votes"),) * proven),
        *((Column("robust, attacked", "%", "attack on the composition itself"),) * attacked),
        Column("natural, paper", "%", "by the paper's way of counting"),
        Column("robust, paper", "%", "by the paper's way of counting"),
        Column("stage answers", "%", "share of the samples that the robust model answers"),
    )
    groups = _by_radius(compositions)
    systems = [system for group in groups for system in _systems(group)]
    taken = {(_members(entry.taken.models), entry.eps) for entry in advice}
    emphasised = frozenset(
        row for row, system in enumerate(systems) if (system.members, system.eps) in taken
    )
    rows = tuple(_row(lead, system, attacked) for system in systems)
    caption = (
        f"{said.system} Sound: natural accuracy is that of this system, and an image counts as "
        f"robust only if no stage that an attacker can make answer is wrong.{said.limit} The "
        "paper's count takes natural accuracy from a selector of radius 2ε and counts some images "
        "as robust that the system can be made to get wrong. Shaded: what is recommended. "
        f"{BOLD}"
    )
    place = len(lead.columns("system"))
    bold = _winners(systems, natural=place, robust=place + 2)
    return Table(said.title, columns, rows, caption, emphasised, within=("data", "ε"), winners=bold)


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


@dataclass(frozen=True, eq=False)
class _System:
    """One row: a model alone, or a composition.

    Attributes:
        judged: Whose run and data the row names.
        models: The model, or the members in order.
        account: Outcome per sample, by the sound count.
        beside: A composition of the same radius, whose core the row is compared with.
        composed: The composition; None for a model alone.
    """

    judged: Judged
    models: tuple[Verdicts, ...]
    account: Account
    beside: Composed
    composed: Composed | None = None

    @property
    def eps(self) -> str:
        return self.beside.eps

    @property
    def members(self) -> tuple[int, ...]:
        return _members(self.models)

    @property
    def is_core(self) -> bool:
        return self.members == _members([self.beside.core.verdicts])

    @property
    def promised(self) -> Promise:
        """What stands behind its proofs."""
        if self.composed is not None:
            return self.composed.chain.promised
        return promise_alone(self.models[0], self.eps)

    @property
    def judged_robust(self) -> bool:
        """Not so where proofs count and the records of what is deployed hold none."""
        return self.beside.kind == "robust" or not self.promised.lacking


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


def _systems(group: Sequence[Composed]) -> list[_System]:
    """The members of these compositions by themselves, each once, cores first; then these."""
    first = group[0]
    cores = [_System(c.core, (c.core.verdicts,), c.core_alone, first) for c in group]
    stages = [_System(c.stage, (c.stage.verdicts,), c.stage_alone, first) for c in group]
    alone = {system.members: system for system in (*cores, *stages)}
    return [*alone.values(), *(_System(c.stage, c.chain.members, c.sound, c, c) for c in group)]


def _row(lead: Lead, system: _System, attacked: bool) -> tuple[Cell, ...]:
    account, core, c = system.account, system.beside.core_alone, system.composed
    name = f"{system.judged.meta.model} alone" if c is None else c.name
    cost = paired_difference(account.natural, core.natural)
    gain = paired_difference(account.robust, core.robust)
    shown: tuple[Cell, ...] = (None, None, None)
    if c is not None:
        masks = (c.paper.natural, c.paper.robust, c.selects)
        shown = tuple(Rate(rate(mask)) for mask in masks)
    broken = None if c is None or c.attacked is None else Rate(c.attacked)
    fails = f"{system.promised.failure:g}" if system.judged_robust else None
    compared = system.judged_robust and not system.is_core
    return (
        *lead.cells(system.judged, name, system.eps),
        Rate(rate(account.natural)),
        None if system.is_core else interval_points(cost),
        Rate(rate(account.robust)) if system.judged_robust else None,
        interval_points(gain) if compared else None,
        *((fails,) if system.beside.kind == "certified" else ()),
        *((broken,) if attacked else ()),
        *shown,
    )


def _winners(
    systems: Sequence[_System], *, natural: int, robust: int
) -> frozenset[tuple[int, int]]:
    """Bold cells; the arguments are their columns."""
    metas = [system.judged.meta for system in systems]
    groups = [(m.dataset, m.norm, s.eps) for m, s in zip(metas, systems, strict=True)]
    ids = [system.models[0].ids for system in systems]
    right = [Outcome(i, s.account.natural) for i, s in zip(ids, systems, strict=True)]
    stays = [
        Outcome(i, s.account.robust) if s.judged_robust else None
        for i, s in zip(ids, systems, strict=True)
    ]
    found = ((natural, winners(right, groups)), (robust, winners(stays, groups)))
    return frozenset((row, place) for place, rows in found for row in rows)


def _some(c: Composed, mask: Mask) -> str:
    """The first sample ids of a mask."""
    ids = [str(c.stage.verdicts.ids[int(i)]) for i in np.flatnonzero(mask)[: _SHOWN_IDS + 1]]
    return ", ".join(ids[:_SHOWN_IDS]) + (" …" if len(ids) > _SHOWN_IDS else "")
