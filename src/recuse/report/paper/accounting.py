"""What the accounting hides: every composition by the paper's count and by the sound one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recuse.analysis.accounting import Account, explain
from recuse.analysis.intervals import paired_difference
from recuse.analysis.metrics import rate
from recuse.analysis.published.points import Abstaining
from recuse.analysis.verdicts import Mask
from recuse.report.page.blocks import Cell, Column, Points, Rate, Section, Table, Text

_SHOWN_IDS = 6
_METHODS = {
    "RI": "Robustness indicator",
    "SN": "Selection network",
    "SR": "Softmax response",
}
REASONS = {
    "natural_gained": "right by the paper's count, wrong as deployed",
    "natural_lost": "wrong by the paper's count, right as deployed",
    "robust_unproven": "robust by the paper's count only",
    "robust_gained": "robust by the sound count only",
    "wrong_at_x": "robust by the paper's count, answered wrongly without any attack",
}
# Reasons that compare with the bound itself.
_OF_THE_BOUND = frozenset({"robust_unproven", "robust_gained"})


@dataclass(frozen=True)
class Counted:
    """One composition, counted both ways.

    Attributes:
        model: The abstaining model before its data set's core.
        published: The paper's count on verdicts as published: the printed number.
        paper: The paper's count on verdicts made monotone.
        natural: Right answers as deployed.
        sound: Robust by the sound count on verdicts made monotone; None where the logs hold no
            column that supports a bound.
    """

    model: Abstaining
    published: Account
    paper: Account
    natural: Mask
    sound: Mask | None

    @property
    def sound_rate(self) -> float:
        """Sound robust accuracy; NaN where there is no bound."""
        return float("nan") if self.sound is None else rate(self.sound)

    @property
    def over_alone(self) -> tuple[Points, Points | None]:
        """What the composition has over the model alone, in natural and sound robust accuracy."""
        sound, alone = self.sound, self.model.alone
        robust = None if sound is None else _over(sound, alone.robust)
        return _over(self.natural, alone.natural), robust

    def hidden(self, reason: str) -> Mask | None:
        """Samples that explain ``published`` against what is sound, for one of the reasons.

        None where telling takes a bound and there is none.
        """
        robust = self.published.robust & self.natural if self.sound is None else self.sound
        mask: Mask = getattr(explain(self.published, Account(self.natural, robust)), reason)
        return None if self.sound is None and reason in _OF_THE_BOUND else mask

    def ids(self, reason: str) -> list[str]:
        """Sample ids of one reason."""
        mask = self.hidden(reason)
        return [] if mask is None else self.model.entry.raw.ids.filter(pl.Series(mask)).to_list()


def count_all(models: Sequence[Abstaining]) -> list[Counted]:
    """Count every abstaining model that has a core."""
    return list(_counted(models))


def _counted(models: Sequence[Abstaining]) -> Iterator[Counted]:
    for model in models:
        if model.core is None or model.core_repaired is None:
            continue
        yield Counted(
            model,
            published=model.published.paper(model.core),
            paper=model.repaired.paper(model.core_repaired),
            natural=model.repaired.natural(model.core_repaired),
            sound=model.repaired.sound(model.core_repaired),
        )


def accounting_section(counted: Sequence[Counted]) -> Section:
    """The page "what the accounting hides"."""
    blocks: list[Table | Text] = [Text(_EXPLANATION, tone="note")]
    for dataset in dict.fromkeys(c.model.entry.data for c in counted):
        for method, title in _METHODS.items():
            rows = [
                c
                for c in counted
                if c.model.entry.data == dataset and c.model.published.method == method
            ]
            if rows:
                blocks.append(_table(f"{title}, {dataset}", rows, folded=method == "SR"))
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
        Column("natural", "%", "Paper's formula, verdicts as published"),
        Column("deployed", "%", "Natural accuracy of the deployed selector"),
        Column("Δ natural", "points", "Deployed minus printed, 95 % paired bootstrap"),
        Column("robust", "%", "Paper's formula, verdicts as published"),
        Column("repaired", "%", "Paper's formula; broken by any attack, and carried outward"),
        Column("sound", "%", "Lower bound; broken by any attack, and carried outward"),
        Column("Δ robust", "points", "Sound minus printed, 95 % paired bootstrap"),
        Column("alone, natural", "%", "The model alone, without a core"),
        Column("alone, robust", "%", "The model alone; broken by any attack, and carried outward"),
        Column("moved", meaning="Right by the paper only / as deployed only"),
        Column("unproven", meaning="Robust by the paper's count only"),
        Column("wrong at x", meaning="Of these, answered wrongly without any attack"),
        "samples",
    )
    return Table(title, columns, tuple(_row(c) for c in rows), folded=folded)


def _row(counted: Counted) -> tuple[Cell, ...]:
    published, sound = counted.published, counted.sound
    return (
        counted.model.name,
        counted.model.published.eps,
        Rate(rate(published.natural), decimals=2),
        Rate(rate(counted.natural), decimals=2),
        _over(counted.natural, published.natural),
        Rate(rate(published.robust), decimals=2),
        Rate(rate(counted.paper.robust), decimals=2),
        None if sound is None else Rate(rate(sound), decimals=2),
        None if sound is None else _over(sound, published.robust),
        Rate(rate(counted.model.alone.natural), decimals=2),
        Rate(rate(counted.model.alone.robust), decimals=2),
        f"{_number(counted, 'natural_gained')} / {_number(counted, 'natural_lost')}",
        _number(counted, "robust_unproven"),
        _number(counted, "wrong_at_x"),
        _some(counted.ids("robust_unproven")),
    )


def _over(first: Mask, second: Mask) -> Points:
    found = paired_difference(first, second, resamples=2000)
    return Points(found.estimate, found.low, found.high, decimals=2)


def _number(counted: Counted, reason: str) -> int | None:
    mask = counted.hidden(reason)
    return None if mask is None else int(np.count_nonzero(mask))


def _some(ids: list[str]) -> str:
    shown = [i.lstrip("0") or "0" for i in ids[:_SHOWN_IDS]]
    return ", ".join(shown) + (" …" if len(ids) > _SHOWN_IDS else "")


def accounting_csv(counted: Sequence[Counted]) -> bytes:
    """One row a composition: rates both ways (shares) and the number of samples per reason.

    What would take a bound is empty where the logs support none.
    """
    rows = [
        {
            "dataset": c.model.entry.data,
            "model": c.model.entry.name,
            "method": c.model.published.method,
            "tau": c.model.published.tau,
            "eps": c.model.published.eps,
            "natural_paper": rate(c.published.natural),
            "natural_sound": rate(c.natural),
            "robust_paper": rate(c.published.robust),
            "robust_paper_repaired": rate(c.paper.robust),
            "robust_sound": None if c.sound is None else rate(c.sound),
            "natural_alone": rate(c.model.alone.natural),
            "robust_alone": rate(c.model.alone.robust),
            **{reason: _number(c, reason) for reason in REASONS},
        }
        for c in counted
    ]
    return pl.DataFrame(rows, infer_schema_length=None).write_csv().encode()


def samples_csv(counted: Sequence[Counted]) -> bytes:
    """The samples behind every difference of the thresholdless compositions, one row each."""
    rows = [
        (c.model.entry.data, c.model.entry.name, c.model.published.eps, reason, sample)
        for c in counted
        if c.model.published.method != "SR"
        for reason in REASONS
        for sample in c.ids(reason)
    ]
    schema = ["dataset", "model", "eps", "reason", "sample_id"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String), orient="row")
    return frame.write_csv().encode()
