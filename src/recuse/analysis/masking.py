"""What a second look at answers that an attack called robust says of the network."""

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


def masking_warning(judged: Verdicts) -> str:
    """One sentence where the second look broke what had been called robust; else empty.

    A gradient that misleads the attack makes every verdict of the record too kind, not only those
    that were looked at twice. So does, a little, an attack that is too short.
    """
    if RECHECK not in judged.frame.columns:
        return ""
    looked = judged.frame[RECHECK].drop_nulls()
    counts = {sign: int((looked == sign).sum()) for sign in _WORDS}
    told = [_WORDS[sign].format(count=count) for sign, count in counts.items() if count]
    if not told:
        return ""
    surely = wilson(sum(counts.values()), len(looked)).low > _CHANCE
    meaning = (
        "the network hides its gradient or is random, so that its other robust answers are not to "
        "be trusted"
        if surely or counts[Recheck.RANDOM]
        else "the attack leaves some that a stronger one would break"
    )
    return (
        f"{judged.meta.model}: of {len(looked)} robust answers that were searched again, "
        f"{' and '.join(told)}: {meaning}; attack it by ensemble"
    )


__all__ = ["RECHECK", "masking_warning"]
