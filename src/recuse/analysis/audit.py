"""What an audit reads off one network's record: trust, selection, what a core adds, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recuse.analysis.accounting import Account, CoreVerdicts, Difference, difference, sound_account
from recuse.analysis.advice import ALLOWED_LOSS, Advice, advise
from recuse.analysis.compositions import Composition, core_of, count_composition, stage_of
from recuse.analysis.intervals import Interval, wilson_of
from recuse.analysis.masking import hides_gradient
from recuse.analysis.measured import Measured, rates_at
from recuse.analysis.networks import gather
from recuse.analysis.verdicts import Verdicts, add_radii, verdicts
from recuse.records.schema import Record

Finding = Literal[
    "guessing",  # no better than chance
    "hidden",  # the attack cannot be trusted on this network
    "composition",  # before the core it was audited with, it pays
    "alone",  # it is better without that core
    "core",  # that core is better without it
    "enough",  # right and robust nearly everywhere
    "fragile",  # an attack takes most right answers
    "stubborn",  # most mistakes are stable, so that no indicator catches them
    "stage",  # worth putting before a core
]


@dataclass(frozen=True, eq=False)
class Audit:
    """One network, judged at the attacker's radius and at its double.

    Attributes:
        near: Rates at the attacker's radius.
        far: Rates at twice the radius.
        ceiling: The network before a core that is never wrong and cannot be attacked.
        classes: How many there are to guess among.
        core: The core it was audited with, or None.
        advice: What to take of the two and their composition; None without a core.
        composition: The two, counted.
    """

    near: Measured
    far: Measured
    ceiling: Account
    classes: int
    core: Verdicts | None = None
    advice: Advice | None = None
    composition: Composition | None = None

    @property
    def network(self) -> Verdicts:
        """The verdicts of the network."""
        return self.near.model

    @property
    def at_most(self) -> Difference:
        """What that unbeatable core adds to the network alone."""
        alone = core_of(self.network, self.near.eps)
        return difference(self.ceiling, Account(alone.accurate, alone.accurate & alone.robust))

    @property
    def finding(self) -> Finding:
        """What weighs most, in the order in which a reader should hear it."""
        natural, robust, parts = self.near.natural, self.near.robust, self.near.splits
        assert natural is not None
        assert robust is not None
        assert parts is not None
        members = [self.network] if self.core is None else [self.network, self.core]
        if natural.low <= 1 / self.classes:
            return "guessing"
        if any(hides_gradient(model, self.near.eps) for model in members):
            return "hidden"
        if self.advice is not None:
            taken = self.advice.taken
            composed = taken.composition is not None
            return "composition" if composed else "core" if taken is self.advice.core else "alone"
        if robust.estimate >= 1 - ALLOWED_LOSS:
            return "enough"
        if robust.estimate < natural.estimate / 2:
            return "fragile"
        return "stubborn" if parts.robust_inaccurate > parts.fragile_inaccurate else "stage"


def audit(
    network: Record,
    eps: str,
    *,
    classes: int,
    core: Record | None = None,
    records: Sequence[Record] = (),
    attacks: Sequence[Record] = (),
) -> Audit:
    """Read an audit off records.

    Args:
        network: Labelled, judged at eps and twice eps.
        eps: The attacker's radius.
        classes: Of the data.
        core: An accurate network judged on the same samples.
        records: Others of the same run: what any attack on one of the two broke is broken.
        attacks: Of the same run, on whole compositions.

    Raises:
        RecordError: Without labels, not judged at these radii, or on different samples.
    """
    named = [network] if core is None else [network, core]
    judged = [verdicts(record) for record in (*named, *records)]
    model, *others = gather(judged, attacks)[: len(named)]
    ideal = np.ones_like(model.accurate())
    ceiling = sound_account([stage_of(model, eps)], CoreVerdicts(ideal, ideal))
    near, far = rates_at(model, eps), rates_at(model, add_radii(eps, eps))
    if not others:
        return Audit(near, far, ceiling, classes)
    counted = count_composition([model, *others], eps, "robust", attacks)
    return Audit(near, far, ceiling, classes, others[0], advise([counted]), counted)


@dataclass(frozen=True)
class ClassRates:
    """Rates over the images of one class.

    Attributes:
        label: The class.
        samples: Number of its images.
        natural: Natural accuracy.
        robust: Robust accuracy.
        robust_inaccuracy: Robust inaccuracy.
    """

    label: int
    samples: int
    natural: Interval
    robust: Interval
    robust_inaccuracy: Interval


def by_class(model: Verdicts, eps: str) -> list[ClassRates]:
    """Rates of every class that occurs, the least robust first.

    Raises:
        RecordError: Without labels, or not judged at eps.
    """
    labels = model.values("label").astype(np.int64)
    right, robust = model.accurate(), model.robust(eps)
    found = [
        ClassRates(
            int(label),
            int(mine.sum()),
            wilson_of(right, mine),
            wilson_of(right & robust, mine),
            wilson_of(~right & robust, mine),
        )
        for label in np.unique(labels)
        for mine in [labels == label]
    ]
    return sorted(found, key=lambda c: (c.robust.estimate, c.natural.estimate, c.label))


__all__ = ["Audit", "ClassRates", "Finding", "audit", "by_class"]
