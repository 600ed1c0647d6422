"""Intervals: closed forms, coverage by simulation, and agreement with scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recuse.analysis.intervals import paired_difference, wilson, wilson_of


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(counts: tuple[int, int]) -> None:
    k, n = counts
    ours = wilson(k, n, confidence=0.9)
    theirs = stats.binomtest(k, n).proportion_ci(0.9, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert ours.low <= ours.estimate <= ours.high


def test_wilson_over_nothing_says_nothing() -> None:
    empty = wilson_of(np.zeros(3, bool), np.zeros(3, bool))
    assert np.isnan(empty.estimate)
    assert (empty.low, empty.high) == (0, 1)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        wilson(k, n)


def test_paired_difference_is_tight_where_the_models_agree() -> None:
    first = np.arange(1000) % 3 == 0
    same = paired_difference(first, first)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_paired_difference_has_the_spread_of_the_disagreements() -> None:
    """For rates the bootstrap variance is that of the per-sample differences over n."""
    rng = np.random.default_rng(0)
    shared = rng.random(4000) < 0.7
    first = shared ^ (rng.random(4000) < 0.05)
    second = shared ^ (rng.random(4000) < 0.02)
    found = paired_difference(first, second, resamples=40_000)
    d = first.astype(float) - second
    half = stats.norm.ppf(0.975) * d.std() / np.sqrt(d.size)
    assert found.estimate == pytest.approx(d.mean())
    assert found.high - found.estimate == pytest.approx(half, rel=0.05)
    assert found.estimate - found.low == pytest.approx(half, rel=0.05)


def test_paired_difference_of_conditional_rates_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        kept = rng.random(400) < 0.6
        first = rng.random(400) < 0.9
        second = rng.random(400) < 0.8
        found = paired_difference(first, second, first_among=kept, resamples=400, seed=trial)
        hits += found.low <= 0.1 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_paired_difference_needs_the_same_samples() -> None:
    with pytest.raises(ValueError, match="same"):
        paired_difference(np.ones(3, bool), np.ones(4, bool))
