"""A pool of stages as packed bits, cut to the samples that choose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts
from recuse.analysis.bits import Numbers, Words, pack
from recuse.analysis.verdicts import Mask


@dataclass(frozen=True)
class Searchable:
    """A pool and a core on one set of samples, packed for counting.

    Attributes:
        selects: The stage answers at x.
        accurate: Its answer is right.
        open: It is right and not sure to answer in the whole ball.
        wins: It is right and sure to answer in the whole ball.
        core_right: The core's answer is right.
        core_robust: ... and stays so in the whole ball.
    """

    selects: Words
    accurate: Words
    open: Words
    wins: Words
    core_right: Words
    core_robust: Words

    @classmethod
    def of(cls, stages: Sequence[StageVerdicts], core: CoreVerdicts) -> "Searchable":
        """Pack a pool; the stages' ``may_select`` is taken as always."""
        return Stacked.of(stages).on(core, np.arange(core.accurate.size))


@dataclass(frozen=True)
class Stacked:
    """The verdicts of all stages of a pool, a row each, to be cut to many sets of samples.

    Attributes:
        selects: The stage answers at x.
        accurate: Its answer is right.
        safe: It is right wherever it answers in the ball.
        sure: It answers in the whole ball.
    """

    selects: Mask
    accurate: Mask
    safe: Mask
    sure: Mask

    @classmethod
    def of(cls, stages: Sequence[StageVerdicts]) -> "Stacked":
        """Stack a pool."""
        return cls(
            np.stack([stage.selects for stage in stages]),
            np.stack([stage.accurate for stage in stages]),
            np.stack([stage.right_where_selecting for stage in stages]),
            np.stack([stage.surely_selects for stage in stages]),
        )

    def on(self, core: CoreVerdicts, rows: Numbers) -> Searchable:
        """The pool on some samples, packed.

        Args:
            core: On all samples.
            rows: Of the samples.
        """
        safe, sure = self.safe[:, rows], self.sure[:, rows]
        return Searchable(
            selects=pack(self.selects[:, rows]),
            accurate=pack(self.accurate[:, rows]),
            open=pack(safe & ~sure),
            wins=pack(safe & sure),
            core_right=pack(core.accurate[rows]),
            core_robust=pack((core.accurate & core.robust)[rows]),
        )


__all__ = ["Searchable", "Stacked"]
