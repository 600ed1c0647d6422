"""What the accounting hides: every composition by the paper's count and by the sound one."""

from collections.abc import Sequence

from recuse.analysis.metrics import rate
from recuse.analysis.published.counted import Counted
from recuse.report.page.blocks import Cell, Column, Rate, Section, Table, Text
from recuse.report.paper.words import METHODS
from recuse.report.run.tables import interval_points

_SHOWN_IDS = 6


def accounting_section(counted: Sequence[Counted]) -> Section:
    """The page "what the accounting hides"."""
    blocks: list[Table | Text] = [Text(_EXPLANATION, tone="note")]
    for dataset in dict.fromkeys(c.model.entry.data for c in counted):
        for method, title in METHODS.items():
            rows = [
                c
                for c in counted
                if c.model.entry.data == dataset and c.model.published.method == method
            ]
            if rows:
                blocks.append(
                    _table(f"{title.capitalize()}, {dataset}", rows, folded=method == "SR")
                )
    return Section("What the accounting hides", tuple(blocks), _INTRO)


_INTRO = (
    "Every composition of an abstaining model with its core, by the paper's formula and by the "
    "sound one, with the samples behind the difference."
)
_EXPLANATION = (
    "The paper's formula takes natural accuracy from a selector of radius 2ε and robust accuracy "
    "from a selector of radius ε. Deployed at ε, the selector lets wrong answers through that "
    "are stable to ε but not to 2ε: natural accuracy is lower than printed.",
    "Where the robust model is not stable to 2ε the formula counts the core's verdict alone. "
    "The robust model may still be selected somewhere in the ball, even at the image itself, and "
    "be wrong there. The sound count asks both models to be right on such an image. Its verdicts "
    "are those of an attack, so it is an estimate of a lower bound, not a proof.",
    "Selection networks have no symmetry to lean on: there the sound count asks the model to be "
    "right and stable wherever it might be selected. Softmax response has no sound number here: a "
    "bound takes the smallest probability of the true class and the largest of another one within "
    "ε, and the logs hold neither.",
)


def _table(title: str, rows: Sequence[Counted], *, folded: bool) -> Table:
    columns = (
        "composition",
        "ε",
        Column("natural, printed", "%", "Paper's formula, verdicts as published"),
        Column("natural, deployed", "%", "Natural accuracy of the deployed selector"),
        Column("natural, deployed minus printed", "points", "95 % paired bootstrap"),
        Column("robust, printed", "%", "Paper's formula, verdicts as published"),
        Column("robust, repaired", "%", "Paper's formula; broken by any attack, carried outward"),
        Column("robust, sound", "%", "Lower bound; broken by any attack, and carried outward"),
        Column("robust, sound minus printed", "points", "95 % paired bootstrap"),
        Column("alone, natural", "%", "The model alone, without a core"),
        Column("alone, robust", "%", "The model alone; broken by any attack, and carried outward"),
        Column("moved", meaning="Right by the paper only / as deployed only"),
        Column("unproven", meaning="Robust by the paper's count only"),
        Column("wrong at x", meaning="Of these, answered wrongly without any attack"),
        "samples",
    )
    rows_shown = tuple(_row(c) for c in rows)
    return Table(title, columns, rows_shown, caption=_UNITS, folded=folded)


_UNITS = (
    "Rates in percent of the images; differences in points, paired, with 95 % bootstrap intervals. "
    "Sound is a lower bound as strong as the attack; a dash stands where the logs support none."
)


def _row(counted: Counted) -> tuple[Cell, ...]:
    published, sound, alone = counted.published, counted.sound, counted.model.alone
    natural, robust = counted.over(published)
    return (
        counted.model.name,
        counted.model.published.eps,
        Rate(rate(published.natural), decimals=2),
        Rate(rate(counted.natural), decimals=2),
        interval_points(natural, decimals=2),
        Rate(rate(published.robust), decimals=2),
        Rate(rate(counted.paper.robust), decimals=2),
        None if sound is None else Rate(rate(sound), decimals=2),
        None if robust is None else interval_points(robust, decimals=2),
        Rate(rate(alone.natural), decimals=2),
        Rate(rate(alone.robust), decimals=2),
        f"{counted.number('natural_gained')} / {counted.number('natural_lost')}",
        counted.number("robust_unproven"),
        counted.number("wrong_at_x"),
        _some(counted.ids("robust_unproven")),
    )


def _some(ids: list[str]) -> str:
    shown = [i.lstrip("0") or "0" for i in ids[:_SHOWN_IDS]]
    return ", ".join(shown) + (" …" if len(ids) > _SHOWN_IDS else "")
