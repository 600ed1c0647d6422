"""A winner is better than every other of its group beyond the interval of the difference."""

import numpy as np
import polars as pl
import pytest

from recuse.analysis.intervals import paired_difference
from recuse.analysis.winners import Outcome, winners

SAMPLES = 400
IDS = pl.Series([f"s{i:03d}" for i in range(SAMPLES)])


def outcome(count: int, *, shift: int = 0, ids: pl.Series = IDS) -> Outcome:
    """So many samples in a row have the property."""
    return Outcome(ids, np.roll(np.arange(len(ids)) < count, shift))


def test_a_clear_winner_is_one() -> None:
    found = [outcome(200), outcome(300), outcome(240)]
    assert winners(found, "aaa") == {1}
    assert winners(found, "aaa", smallest=True) == {0}


def test_one_whose_interval_against_the_runner_up_holds_zero_is_none() -> None:
    # Two samples more; a hundred differ, so that chance alone could have made it two fewer.
    near = [outcome(200), outcome(202, shift=50), outcome(20)]
    low, high = (
        getattr(paired_difference(near[1].holds, near[0].holds), end) for end in ("low", "high")
    )
    assert low < 0 < high
    assert winners(near, "aaa") == frozenset()
    assert winners(near, "aaa", smallest=True) == {2}


def test_pairing_tells_apart_what_two_separate_intervals_would_not() -> None:
    # Ten samples more, and none lost: the intervals of the rates overlap, that of the difference
    # leaves out 0.
    assert winners([outcome(200), outcome(210)], "aa") == {1}


def test_groups_are_decided_apart_and_gaps_take_no_part() -> None:
    found = [outcome(100), outcome(200), None, outcome(300), outcome(350), outcome(350)]
    assert winners(found, ["a", "a", "a", "b", "c", "c"]) == {1}


@pytest.mark.parametrize("other", [IDS.head(300), IDS.reverse()])
def test_nobody_wins_against_other_samples(other: pl.Series) -> None:
    assert winners([outcome(300), outcome(10, ids=other)], "aa") == frozenset()


def test_nobody_wins_over_no_samples() -> None:
    assert winners([outcome(0, ids=IDS.head(0))] * 2, "aa") == frozenset()
