"""The page of networks that may reject: accuracy with rejection, by how far it may be caused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recuse.analysis.intervals import wilson_of
from recuse.analysis.networks import gather, of_its_own
from recuse.analysis.rejection import Rejecting, rejecting
from recuse.analysis.verdicts import verdicts
from recuse.errors import RecordError
from recuse.records.layout import NETWORK_ATTACKS, PAGE, RECORDS
from recuse.records.schema import Record
from recuse.records.store import holds_records, read_records, write_atomically
from recuse.report.charts.marks import Axes, Mark, scatter
from recuse.report.page.blocks import Figure
from recuse.report.page.figures import save_figure
from recuse.report.study.markdown import data_name, difference, share, table

FIGURE = "rejection"
INTRODUCTION = """# Networks that may reject, as CPR judges them

`recuse report` makes this page from the records beside it, which `recuse run rejection` wrote.

**Setting.** A network answers where an attack of radius ρ around the image finds no other class
(the robustness indicator) and rejects the rest; nobody answers after it. *Accuracy with rejection*
at ε₀ (Chen et al., ICML 2023) counts an image where no point within ε₀ is rejected and no point
within ε is accepted with a wrong answer: at ε₀ = 0 only a rejection of the clean image is an
error, at ε₀ = ε every rejection is. **Adversary.** Within ε₀ two searches of {steps} steps for an
unsure and for another answer, and an ascent of {goal_steps} steps on what the indicator itself
looks for (consistency); within ε a search of {steps} steps for each of the {targets} likeliest
wrong classes and an ascent towards a wrong class that is accepted. What each finds is judged by
the system as deployed. **Chosen.** Nothing: every radius that was judged is listed.
"""
READ = """Accepted wrongly: images that the network answers rightly by itself, and for which a wrong
answer within ε was accepted. An indicator with ρ ≥ ε promises none (as far as its attack can be
trusted), a narrower one promises nothing.
"""
SOUND = """**Sound.** Lower bounds, as strong as the attack on the network alone ({attack} in
`config.json`) and whatever search its indicator has: right, and unchanged within ε and within
ρ + ε₀. *Promises broken* counts images that an attack on the system took from them, over all ε₀."""
PAIRED = "**Against ρ = ε**, on the same images, paired, in points:"


def write_rejection(rows: Path, out: Path) -> None:
    """Write the page and its figure.

    Raises:
        RecordError: No rows.
    """
    folder = rows / NETWORK_ATTACKS
    if not holds_records(folder):
        raise RecordError(f"{rows} holds no rows of networks that may reject")
    records = list(read_records(folder))
    alone = list(read_records(rows)) if holds_records(rows / RECORDS) else []
    found = rejecting(records, of_its_own(gather([verdicts(record) for record in alone])))
    save_figure(figure(found), out, ("svg",))
    how = {**records[0].meta.settings["rejection"], "attack": _attacks(alone)}
    write_atomically(out / PAGE, page(found, how).encode())


def _attacks(alone: Sequence[Record]) -> str:
    return " and ".join(sorted({record.meta.method for record in alone}))


def page(found: Sequence[Rejecting], how: Mapping[str, Any]) -> str:
    """The whole text."""
    lines = [INTRODUCTION.format(**how), f"![Accuracy with rejection]({FIGURE}.svg)", "", READ]
    for title, members in _groups(found).items():
        heads = ["indicator", "right, accepted at x", *_heads(members[0])]
        body = [
            [
                _name(one),
                f"{100 * one.right.mean():.1f}",
                *map(share, one.rates),
                f"{int(np.count_nonzero(one.broken))} of {one.broken.size}",
            ]
            for one in members
        ]
        lines += [f"## {title}", "", f"**Images.** {members[0].right.size} test images.", ""]
        lines += table([*heads, "accepted wrongly"], body)
        lines += [*_sound(members, how["attack"]), *_paired(members)]
    return "\n".join(lines)


def _sound(members: Sequence[Rejecting], attack: str) -> list[str]:
    """What is promised of each indicator; nothing where its network was not judged so far."""
    body = [
        [_name(one), *map(share, map(wilson_of, one.promised)), str(one.contradictions)]
        for one in members
        if one.promised
    ]
    heads = ["indicator", *_heads(members[0]), "promises broken"]
    return [SOUND.format(attack=attack), "", *table(heads, body)] if body else []


def _paired(members: Sequence[Rejecting]) -> list[str]:
    """What each indicator has over that of the attacker's radius."""
    usual = next((one for one in members if one.radius == 1), None)
    if usual is None:
        return []
    body = [[_name(o), *map(difference, o.over(usual))] for o in members if o is not usual]
    return [PAIRED, "", *table(["indicator", *_heads(usual)], body)]


def _heads(one: Rejecting) -> list[str]:
    return [f"ε₀ = {s:g} ε" for s in one.shares]


def figure(found: Sequence[Rejecting]) -> Figure:
    """Accuracy with rejection against ε₀ / ε, a line an indicator."""
    marks = [
        Mark(at, rate.estimate, _name(one), panel=title, trail=_name(one), order=at)
        for title, members in _groups(found).items()
        for one in members
        for at, rate in zip(one.shares, one.rates, strict=True)
    ]
    axes = Axes("ε₀ / ε", "accuracy with rejection", series_title="indicator")
    return Figure(FIGURE, "Rejections count as errors up to ε₀", scatter(marks, axes))


def _groups(found: Sequence[Rejecting]) -> dict[str, list[Rejecting]]:
    groups: dict[str, list[Rejecting]] = {}
    for one in found:
        data = data_name(one.dataset.partition("/")[0])
        groups.setdefault(f"{data}, {one.eps}, {one.name}", []).append(one)
    return groups


def _name(one: Rejecting) -> str:
    return f"ρ = {one.radius:g} ε, {one.steps} steps"


__all__ = ["write_rejection"]
