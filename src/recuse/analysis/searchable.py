"""A pool of stages as packed bits, counted on the samples that choose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts
from recuse.analysis.bits import Numbers, Words, count, pack
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
        return Stacked.of(stages, core).on(np.ones(core.accurate.size, dtype=np.bool_))


@dataclass(frozen=True)
class Stacked:
    """A pool packed once, from which any half of its samples is counted.

    Attributes:
        whole: Of all samples.
        mixed_right: Mixtures that stand beside the stages: right at x.
        mixed_robust: ... and in the whole ball.
    """

    whole: Searchable
    mixed_right: Words
    mixed_robust: Words

    @classmethod
    def of(
        cls,
        stages: Sequence[StageVerdicts],
        core: CoreVerdicts,
        mixtures: Sequence[CoreVerdicts] = (),
    ) -> "Stacked":
        """Pack stages, a core, and what always answers."""
        whole = Searchable(
            selects=_stack([stage.selects for stage in stages]),
            accurate=_stack([stage.accurate for stage in stages]),
            open=_stack([s.right_where_selecting & ~s.surely_selects for s in stages]),
            wins=_stack([s.right_where_selecting & s.surely_selects for s in stages]),
            core_right=pack(core.accurate),
            core_robust=pack(core.accurate & core.robust),
        )
        right = _stack([mixed.accurate for mixed in mixtures])
        return cls(whole, right, _stack([mixed.robust for mixed in mixtures]))

    def on(self, half: Mask) -> Searchable:
        """The pool where a mask is set: elsewhere nobody is right, so that nothing is counted."""
        kept = pack(half)
        return replace(
            self.whole,
            accurate=self.whole.accurate & kept,
            wins=self.whole.wins & kept,
            core_right=self.whole.core_right & kept,
            core_robust=self.whole.core_robust & kept,
        )

    def mixed(self, half: Mask) -> tuple[Numbers, Numbers, Numbers]:
        """Samples of a half on which each mixture is right, is robust, is not as the core is."""
        kept, apart = pack(half), self.mixed_right ^ self.whole.core_right
        masks = (self.mixed_right, self.mixed_robust, apart)
        right, robust, other = (count(mask & kept) for mask in masks)
        return right, robust, other


def _stack(masks: Sequence[Mask]) -> Words:
    return np.stack([pack(mask) for mask in masks]) if masks else np.zeros((0, 1), dtype=np.uint64)


__all__ = ["Searchable", "Stacked"]
