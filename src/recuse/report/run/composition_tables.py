"""The tables of compositions in a report: what they gain, and how the ways of counting differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recuse.analysis.accounting import difference, explain
from recuse.analysis.advice import Advice, System, systems
from recuse.analysis.compositions import Composition
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Mask
from recuse.analysis.winners import Outcome, winners
from recuse.report.page.blocks import Cell, Column, Rate, Table
from recuse.report.run.tables import BOLD, IdentifyingColumns, interval_points

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


def composition_table(compositions: Sequence[Composition], advice: Sequence[Advice]) -> Table:
    """Compositions by the sound, the attacked and the paper's accounting, their members first.

    Args:
        compositions: All of the report.
        advice: What to set off.
    """
    lead = IdentifyingColumns([c.stage for c in compositions])
    attacked = any(c.attacked is not None for c in compositions)
    said, proven = _SAID[compositions[0].kind], compositions[0].kind == "certified"
    columns: tuple[Column, ...] = (
        *lead.columns("system"),
        Column("natural", "%", "as deployed: the selector decides at ε"),
        Column("natural, minus the core's", "points", "difference, paired bootstrap, 95 %"),
        Column("robust, sound", "%", said.bound),
        Column("robust, minus the core's", "points", "difference, paired bootstrap, 95 %"),
        *((Column("fails", "α + β", "probability per image, of votes"),) * proven),
        *((Column("robust, attacked", "%", "attack on the composition itself"),) * attacked),
        Column("natural, paper", "%", "by the paper's way of counting"),
        Column("robust, paper", "%", "by the paper's way of counting"),
        Column("stage answers", "%", "share of the samples that the robust model answers"),
    )
    found = [row for group in _by_radius(compositions) for row in _rows(group)]
    taken = {(_members(entry.taken), entry.eps) for entry in advice}
    emphasised = frozenset(
        place for place, row in enumerate(found) if (_members(row.system), row.beside.eps) in taken
    )
    rows = tuple(_cells(lead, row, attacked) for row in found)
    caption = (
        f"Rates in percent of the samples, differences in points. {said.system} "
        "Sound: natural accuracy is that of this system, and an image counts as "
        f"robust only if no stage that an attacker can make answer is wrong.{said.limit} The "
        "paper's count takes natural accuracy from a selector of radius 2ε and counts some images "
        "as robust that the system can be made to get wrong. Shaded: what is recommended. "
        f"{BOLD}"
    )
    place = len(lead.columns("system"))
    bold = _winners(found, natural=place, robust=place + 2)
    return Table(said.title, columns, rows, caption, emphasised, within=("data", "ε"), winners=bold)


def accounting_table(compositions: Sequence[Composition]) -> Table:
    """How many samples explain the difference between the two ways of counting."""
    lead = IdentifyingColumns([c.stage for c in compositions])
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
class _Row:
    """A model alone, or a composition.

    Attributes:
        system: Either.
        core: The core alone, which it is compared with.
        beside: A composition of the same radius and kind.
    """

    system: System
    core: System
    beside: Composition

    @property
    def is_core(self) -> bool:
        return _members(self.system) == _members(self.core)


def _members(system: System) -> tuple[int, ...]:
    """Which records stand behind a system, whoever holds them."""
    return tuple(id(model) for model in system.models)


def _by_radius(compositions: Sequence[Composition]) -> list[list[Composition]]:
    """Compositions of one data set, norm and radius, in their order."""
    groups: dict[tuple[str, str, str], list[Composition]] = {}
    for c in compositions:
        meta = c.stage.meta
        groups.setdefault((meta.dataset, meta.norm, c.eps), []).append(c)
    return list(groups.values())


def _rows(group: Sequence[Composition]) -> list[_Row]:
    """The members of these compositions by themselves, each once, cores first; then these."""
    cores, stages, composed = systems(group)
    return [_Row(system, cores[0], group[0]) for system in (*cores, *stages, *composed)]


def _cells(lead: IdentifyingColumns, row: _Row, attacked: bool) -> tuple[Cell, ...]:
    system, account, c = row.system, row.system.account, row.system.composition
    over = difference(system.account, row.core.account)
    shown: tuple[Cell, ...] = (None, None, None)
    if c is not None:
        shown = tuple(Rate(rate(mask)) for mask in (c.paper.natural, c.paper.robust, ~c.left))
    broken = None if c is None or c.attacked is None else Rate(c.attacked)
    fails = f"{system.promised.failure:g}" if system.supported else None
    return (
        *lead.cells(system.models[0], system.title, row.beside.eps),
        Rate(rate(account.natural)),
        None if row.is_core else interval_points(over.natural),
        Rate(rate(account.robust)) if system.supported else None,
        interval_points(over.robust) if system.supported and not row.is_core else None,
        *((fails,) if row.beside.kind == "certified" else ()),
        *((broken,) if attacked else ()),
        *shown,
    )


def _winners(rows: Sequence[_Row], *, natural: int, robust: int) -> frozenset[tuple[int, int]]:
    """Bold cells; the arguments are their columns."""
    groups, right, stays = [], list[Outcome | None](), list[Outcome | None]()
    for row in rows:
        model, account = row.system.models[0], row.system.account
        groups.append((model.meta.dataset, model.meta.norm, row.beside.eps))
        right.append(Outcome(model.ids, account.natural))
        stays.append(Outcome(model.ids, account.robust) if row.system.supported else None)
    found = ((natural, winners(right, groups)), (robust, winners(stays, groups)))
    return frozenset((row, place) for place, rows in found for row in rows)


def _some(c: Composition, mask: Mask) -> str:
    """The first sample ids of a mask."""
    ids = [str(c.stage.ids[int(i)]) for i in np.flatnonzero(mask)[: _SHOWN_IDS + 1]]
    return ", ".join(ids[:_SHOWN_IDS]) + (" …" if len(ids) > _SHOWN_IDS else "")
