"""What a second look at answers that an attack called robust says of the network."""

from collections.abc import Mapping
from dataclasses import dataclass

from recuse.analysis.intervals import wilson
from recuse.analysis.verdicts import Verdicts
from recuse.records.schema import Recheck

RECHECK = "recheck"
# Even an honest gradient leaves some answers to another search; a share surely above this one is
# no chance.
_CHANCE = 0.05
_WORDS = {
    Recheck.BLACK_BOX: "a search without gradients broke {count}",
    Recheck.FEWER_STEPS: "a search of fewer steps broke {count}",
    Recheck.RANDOM: "the network answered {count} differently twice",
}


@dataclass(frozen=True)
class SecondLook:
    """What further searches found of answers that had been called robust.

    Attributes:
        looked: How many answers were searched again.
        counts: How many of them show each sign of a hidden gradient.
    """

    looked: int
    counts: Mapping[Recheck, int]

    @property
    def hides(self) -> bool:
        """Whether the signs are too many for chance."""
        surely = wilson(sum(self.counts.values()), self.looked).low > _CHANCE
        return surely or self.counts[Recheck.RANDOM] > 0


def second_look(judged: Verdicts) -> SecondLook:
    """The signs that a record holds; of no answers where none was searched again."""
    if RECHECK not in judged.frame.columns:
        return SecondLook(0, dict.fromkeys(_WORDS, 0))
    looked = judged.frame[RECHECK].drop_nulls()
    return SecondLook(len(looked), {sign: int((looked == sign).sum()) for sign in _WORDS})


def hides_gradient(judged: Verdicts, eps: str) -> bool:
    """Whether verdicts are not to be trusted: broken by another search, or never searched.

    Raises:
        RecordError: Not judged at eps.
    """
    unknown = int(judged.not_judged(eps).sum())
    return second_look(judged).hides or wilson(unknown, judged.samples).low > _CHANCE


def masking_warning(judged: Verdicts) -> str:
    """One sentence where the second look broke what had been called robust; else empty.

    A gradient that misleads the attack makes every verdict of the record too kind, not only those
    that were looked at twice. So does, a little, an attack that is too short.
    """
    seen = second_look(judged)
    told = [_WORDS[sign].format(count=count) for sign, count in seen.counts.items() if count]
    if not told:
        return ""
    meaning = (
        "the network hides its gradient or is random, so that its other robust answers are not to "
        "be trusted"
        if seen.hides
        else "the attack leaves some that a stronger one would break"
    )
    return (
        f"{judged.meta.model}: of {seen.looked} robust answers that were searched again, "
        f"{' and '.join(told)}: {meaning}; attack it by ensemble"
    )


__all__ = ["RECHECK", "SecondLook", "hides_gradient", "masking_warning", "second_look"]
