"""Ways to abstain at their operating points, and what an adversary of each as a whole left."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from recuse.analysis.operating_points import CORE, EPS, NEAR, ROBUST, Setting, halves
from recuse.analysis.sweeps import Tables, verdict
from recuse.analysis.verdicts import Mask
from recuse.radius import parse_radius


@dataclass(frozen=True, eq=False)
class AttackedSetting:
    """One composition under the adversary, its rows aligned with the sample tables.

    Attributes:
        setting: What was attacked.
        rows: Index into the sample tables of each attacked row.
        frame: What came of it.
        near: It keeps the core's natural accuracy up to ``NEAR`` on the choosing half.
    """

    setting: Setting
    rows: npt.NDArray[np.int64]
    frame: pl.DataFrame
    near: bool

    @property
    def natural(self) -> Mask:
        """Right without an attack, per row."""
        return verdict(self.frame, "correct")

    @property
    def robust(self) -> Mask:
        """Right, and no adversary changed that, per row."""
        left, point = verdict(self.frame, "attacked"), self.setting.point
        # Of a network alone every attack that ever met it counts.
        if point.mechanism != "alone" or point.sound is None:
            return left
        return left & point.sound[self.rows]

    @property
    def promised(self) -> Mask | None:
        """What the sound accounting promises, before the adversary is asked."""
        sound = self.setting.point.sound
        return None if sound is None else sound[self.rows]

    @property
    def sound(self) -> Mask | None:
        """The promise, less what an adversary has refuted."""
        return None if self.promised is None else self.promised & self.robust

    @property
    def violations(self) -> int:
        """Rows that the bound calls safe and an adversary broke."""
        left = verdict(self.frame, "attacked")
        return 0 if self.promised is None else int((self.promised & ~left).sum())


def attacked(
    settings: Sequence[Setting], tables: Tables, rows: pl.DataFrame
) -> list[AttackedSetting]:
    """Everything that was attacked."""
    index = {name: row for row, name in enumerate(tables[CORE].ids)}
    chosen_on, _ = halves(len(index))
    least = tables[CORE].accurate()[chosen_on].mean() - NEAR
    found = []
    for setting in settings:
        frame = rows.filter(eps=setting.eps, mechanism=setting.name, setting=setting.words).sort(
            "sample_id"
        )
        where = np.array([index[name] for name in frame["sample_id"].to_list()])
        near = bool(setting.point.natural[chosen_on].mean() >= least)
        found.append(AttackedSetting(setting, where, frame, near))
    return found


def leader(found: Sequence[AttackedSetting]) -> AttackedSetting:
    """The highest sound bound on the choosing half among those near the core's accuracy."""
    chosen_on, _ = halves(len(found[0].setting.point.natural))

    def promised(a: AttackedSetting) -> float:
        sound = a.setting.point.sound
        return -1.0 if sound is None else float(sound[chosen_on].mean())

    return max((a for a in found if a.near), key=promised)


def refuted(tables: Tables, rows: pl.DataFrame) -> Tables:
    """The tables, networks no longer robust where the adversary has changed their answer.

    Thresholds are chosen on other rows than those attacked, so no choice depends on this.
    """
    found = dict(tables.networks)
    for mechanism, name in (("core alone", CORE), ("robust alone", ROBUST)):
        for eps in EPS:
            broken = rows.filter(
                pl.col("correct"), ~pl.col("attacked"), eps=eps, mechanism=mechanism
            )
            hit = pl.col("sample_id").is_in(broken["sample_id"].implode())
            wider = [r for r in EPS if parse_radius(r) >= parse_radius(eps)]
            frame = found[name].frame.with_columns(pl.col(f"robust@{r}") & ~hit for r in wider)
            found[name] = replace(found[name], frame=frame)
    return replace(tables, networks=found)
