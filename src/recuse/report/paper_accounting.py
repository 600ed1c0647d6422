"""What the accounting hides: every composition by the paper's count and by the sound one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recuse.analysis.accounting import Account, Hidden, explain
from recuse.analysis.intervals import paired_difference
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Mask
from recuse.report.page import Column, Points, Rate, Section, Table, Text
from recuse.report.paper_points import Abstaining

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


@dataclass(frozen=True)
class Counted:
    """One composition, counted both ways.

    Attributes:
        model: The abstaining model before its data set's core.
        published: The paper's count on verdicts as published: the printed number.
        paper: The paper's count on verdicts made monotone.
        sound: The sound count on verdicts made monotone.
        hidden: Samples that explain ``published`` against ``sound``.
    """

    model: Abstaining
    published: Account
    paper: Account
    sound: Account
    hidden: Hidden

    def ids(self, reason: str) -> list[str]:
        """Sample ids of one reason."""
        mask: Mask = getattr(self.hidden, reason)
        return self.model.entry.raw.ids.filter(pl.Series(mask)).to_list()


def count_all(models: Sequence[Abstaining]) -> list[Counted]:
    """Count every abstaining model that has a core."""
    return list(_counted(models))


def _counted(models: Sequence[Abstaining]) -> Iterator[Counted]:
    for model in models:
        if model.core is None or model.core_repaired is None:
            continue
        published = model.published.paper(model.core)
        sound = model.repaired.sound(model.core_repaired)
        yield Counted(
            model,
            published,
            model.repaired.paper(model.core_repaired),
            sound,
            explain(published, sound),
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
    "Softmax response and selection networks have no symmetry to lean on: there the sound count "
    "asks the model to be right and stable wherever it might be selected.",
)


def _table(title: str, rows: Sequence[Counted], *, folded: bool) -> Table:
    columns = (
        "composition",
        "ε",
        Column("natural", "%", "Paper's formula, verdicts as published"),
        Column("deployed", "%", "Natural accuracy of the deployed selector"),
        Column("Δ natural", "points", "Deployed minus printed, 95 % paired bootstrap"),
        Column("robust", "%", "Paper's formula, verdicts as published"),
        Column("repaired", "%", "Paper's formula, broken verdicts carried outward"),
        Column("sound", "%", "Lower bound, broken verdicts carried outward"),
        Column("Δ robust", "points", "Sound minus printed, 95 % paired bootstrap"),
        Column("moved", meaning="Right by the paper only / as deployed only"),
        Column("unproven", meaning="Robust by the paper's count only"),
        Column("wrong at x", meaning="Of these, answered wrongly without any attack"),
        "samples",
    )
    return Table(title, columns, tuple(_row(c) for c in rows), folded=folded)


def _row(counted: Counted) -> tuple[str | int | Rate | Points, ...]:
    hidden = counted.hidden
    natural = paired_difference(counted.sound.natural, counted.published.natural, resamples=2000)
    robust = paired_difference(counted.sound.robust, counted.published.robust, resamples=2000)
    return (
        counted.model.name,
        counted.model.published.eps,
        Rate(rate(counted.published.natural), decimals=2),
        Rate(rate(counted.sound.natural), decimals=2),
        Points(natural.estimate, natural.low, natural.high, decimals=2),
        Rate(rate(counted.published.robust), decimals=2),
        Rate(rate(counted.paper.robust), decimals=2),
        Rate(rate(counted.sound.robust), decimals=2),
        Points(robust.estimate, robust.low, robust.high, decimals=2),
        f"{np.count_nonzero(hidden.natural_gained)} / {np.count_nonzero(hidden.natural_lost)}",
        int(np.count_nonzero(hidden.robust_unproven)),
        int(np.count_nonzero(hidden.wrong_at_x)),
        _some(counted.ids("robust_unproven")),
    )


def _some(ids: list[str]) -> str:
    shown = [i.lstrip("0") or "0" for i in ids[:_SHOWN_IDS]]
    return ", ".join(shown) + (" …" if len(ids) > _SHOWN_IDS else "")


def accounting_csv(counted: Sequence[Counted]) -> bytes:
    """One row a composition: rates both ways (shares) and the number of samples per reason."""
    rows = [
        {
            "dataset": c.model.entry.data,
            "model": c.model.entry.name,
            "method": c.model.published.method,
            "tau": c.model.published.tau,
            "eps": c.model.published.eps,
            "natural_paper": rate(c.published.natural),
            "natural_sound": rate(c.sound.natural),
            "robust_paper": rate(c.published.robust),
            "robust_paper_repaired": rate(c.paper.robust),
            "robust_sound": rate(c.sound.robust),
            **{reason: int(np.count_nonzero(getattr(c.hidden, reason))) for reason in REASONS},
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
