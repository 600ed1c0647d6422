"""Every composition of the logs by the paper's count and by the sound one, and their fronts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import polars as pl

from recuse.analysis.accounting import Account, explain
from recuse.analysis.fronts import area_under_front, most_robust, pareto
from recuse.analysis.intervals import Interval, paired_difference
from recuse.analysis.metrics import rate
from recuse.analysis.published.points import Abstaining
from recuse.analysis.verdicts import Mask
from recuse.radius import parse_radius

# Losses that fine-tune for abstention; the others are what Tables 1 and 8 report.
ABSTENTION_LOSSES = frozenset({"era", "dga", "cra"})
# The largest loss of natural accuracy that the paper accepts in Table 6.
ACCEPTED_LOSS = 0.002
_RESAMPLES = 2_000
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

    def over(self, other: Account) -> tuple[Interval, Interval | None]:
        """What it has, as deployed, over ``other``: natural and sound robust accuracy, paired."""
        robust = None if self.sound is None else _paired(self.sound, other.robust)
        return _paired(self.natural, other.natural), robust

    def hidden(self, reason: str) -> Mask | None:
        """Samples that explain ``published`` against what is sound, for one of the reasons.

        None where telling takes a bound and there is none.
        """
        robust = self.published.robust & self.natural if self.sound is None else self.sound
        mask: Mask = getattr(explain(self.published, Account(self.natural, robust)), reason)
        return None if self.sound is None and reason in _OF_THE_BOUND else mask

    def number(self, reason: str) -> int | None:
        """How many samples that are; None where telling takes a bound and there is none."""
        mask = self.hidden(reason)
        return None if mask is None else int(np.count_nonzero(mask))

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


def _paired(first: Mask, second: Mask) -> Interval:
    return paired_difference(first, second, resamples=_RESAMPLES)


@dataclass(frozen=True)
class Front:
    """Compositions of one data set, base model and radius with abstention-trained models.

    Attributes:
        dataset: Data set and split.
        base: Base model.
        eps: Radius.
        members: All compositions.
    """

    dataset: str
    base: str
    eps: str
    members: tuple[Counted, ...]

    @property
    def natural(self) -> list[float]:
        """Natural accuracy as printed."""
        return [rate(c.published.natural) for c in self.members]

    @property
    def robust(self) -> list[float]:
        """Robust accuracy as printed."""
        return [rate(c.published.robust) for c in self.members]

    @property
    def core(self) -> Account:
        """The core alone, on verdicts as published."""
        core = self.members[0].model.core
        assert core is not None  # what is counted has a core
        return Account(core.accurate, core.accurate & core.robust)

    @property
    def undominated(self) -> frozenset[int]:
        """Places of the members that no other one beats."""
        return frozenset(pareto(self.natural, self.robust))

    @property
    def picked(self) -> int | None:
        """The most robust that loses no more natural accuracy than the paper accepts."""
        floor = rate(self.core.natural)
        return most_robust(self.natural, self.robust, core=floor, loss=ACCEPTED_LOSS)

    @property
    def area(self) -> float:
        """Share of the unit square below the front, as printed."""
        return area_under_front(self.natural, self.robust)

    @property
    def sound_area(self) -> float:
        """The same of what is deployed, by the sound count."""
        natural = [rate(c.natural) for c in self.members]
        return area_under_front(natural, [c.sound_rate for c in self.members])


def fronts(counted: Sequence[Counted]) -> Iterator[Front]:
    """The compositions with abstention-trained models, by data set, base model and radius."""
    chosen = [
        c
        for c in counted
        if c.model.published.method == "RI" and c.model.entry.tag("loss") in ABSTENTION_LOSSES
    ]

    def key(c: Counted) -> tuple[str, str, float, str]:
        eps = c.model.published.eps
        return c.model.entry.data, c.model.entry.tag("base"), parse_radius(eps), eps

    for (dataset, base, _, eps), members in groupby(sorted(chosen, key=key), key=key):
        yield Front(dataset, base, eps, tuple(members))


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
            **{reason: c.number(reason) for reason in REASONS},
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
