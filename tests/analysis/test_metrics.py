"""Rates: identities that hold for all verdicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.analysis import metrics

masks = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)] * 3)
)


@given(masks)
def test_the_four_splits_sum_to_one_and_hold_the_rates(rows) -> None:
    accurate, robust, _ = rows
    parts = metrics.splits(accurate, robust)
    total = (
        parts.robust_accurate
        + parts.robust_inaccurate
        + parts.fragile_accurate
        + parts.fragile_inaccurate
    )
    assert math.isclose(total, 1)
    assert parts.robust_accurate == metrics.robust_accuracy(accurate, robust)
    assert parts.robust_inaccurate == metrics.robust_inaccuracy(accurate, robust)
    natural = parts.robust_accurate + parts.fragile_accurate
    assert math.isclose(natural, metrics.natural_accuracy(accurate))


@given(masks)
def test_risk_and_accuracy_of_the_selected_are_complements(rows) -> None:
    accurate, robust, selected = rows
    risk, right = (
        metrics.selective_risk(accurate, selected),
        metrics.selective_accuracy(accurate, selected),
    )
    if selected.any():
        assert math.isclose(risk + right, 1)
        both = metrics.selective_robust_accuracy(
            accurate, robust, selected
        ) + metrics.selective_robust_inaccuracy(accurate, robust, selected)
        assert math.isclose(both, np.mean(robust[selected]))
    else:
        assert math.isnan(risk)
        assert math.isnan(right)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50).map(np.array),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_coverage_never_grows_with_the_threshold(scores, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert metrics.coverage(scores >= low) >= metrics.coverage(scores >= high)
    assert metrics.coverage(scores >= 0) == 1


def test_false_abstention_is_a_share_of_the_right_answers() -> None:
    accurate = np.array([True, True, True, False])
    selected = np.array([True, False, False, False])
    assert metrics.false_abstention(accurate, selected) == pytest.approx(2 / 3)


def test_masks_of_different_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        metrics.share(np.ones(3, bool), np.ones(4, bool))
