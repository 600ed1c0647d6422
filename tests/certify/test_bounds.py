"""Bounds on a probability: their definitions, their coverage, what they refuse."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from recuse.certify import bounds
from recuse.errors import CertificationError


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.floats(1e-6, 0.5))
def test_clopper_pearson_inverts_the_binomial_tail(n, share, alpha):
    k = round(share * n)
    votes = torch.tensor([k])
    lower = float(bounds.clopper_pearson_lower(votes, n, alpha=alpha)[0])
    upper = float(bounds.clopper_pearson_upper(votes, n, alpha=alpha)[0])
    assert 0 <= lower <= k / n <= upper <= 1
    if k:
        assert stats.binom.sf(k - 1, n, lower) == pytest.approx(alpha, rel=1e-6)
    if k < n:
        assert stats.binom.cdf(k, n, upper) == pytest.approx(alpha, rel=1e-6)


def test_clopper_pearson_agrees_with_scipy():
    test = stats.binomtest(83, 100).proportion_ci(0.998, method="exact")
    votes = torch.tensor([83])
    assert float(bounds.clopper_pearson_lower(votes, 100, alpha=0.001)[0]) == pytest.approx(
        test.low, rel=1e-9
    )
    assert float(bounds.clopper_pearson_upper(votes, 100, alpha=0.001)[0]) == pytest.approx(
        test.high, rel=1e-9
    )


def test_radius_of_all_votes_is_the_published_cap():
    radius = bounds.certified_radius(torch.tensor([100_000]), 100_000, alpha=0.001, sigma=0.12)
    p = 0.001 ** (1 / 100_000)
    assert float(radius[0]) == pytest.approx(0.12 * stats.norm.ppf(p), rel=1e-9)
    assert float(radius[0]) == pytest.approx(3.81 * 0.12, rel=1e-3)


def test_false_bounds_are_as_rare_as_alpha_says():
    # Exact: the probability that the bound exceeds the truth, summed over all counts.
    n, alpha = 200, 0.05
    votes = torch.arange(n + 1)
    lower = bounds.clopper_pearson_lower(votes, n, alpha=alpha).numpy()
    for p in (0.3, 0.5, 0.84, 0.9999):
        assert stats.binom.pmf(np.arange(n + 1), n, p)[lower > p].sum() <= alpha


@pytest.mark.parametrize("p0", [0.5, 0.8413, 0.98])
def test_wealth_is_a_fair_game_at_the_null_and_shrinks_below_it(p0):
    n = 60
    k = np.arange(n + 1)
    wealth = bounds.betting_log_wealth(torch.from_numpy(k), n, p0).exp().numpy()
    assert float(stats.binom.pmf(k, n, p0) @ wealth) == pytest.approx(1, rel=1e-8)
    assert float(stats.binom.pmf(k, n, p0 - 0.05) @ wealth) < 1
    assert float(stats.binom.pmf(k, n, 0.999) @ wealth) > 1


def test_wealth_is_the_mixture_of_bets_it_claims_to_be():
    hits, misses, p0 = 30, 3, 0.8
    prior = stats.beta(0.5, 0.5)

    def bet(q):
        return prior.pdf(q) * (q / p0) ** hits * ((1 - q) / (1 - p0)) ** misses

    mixture = integrate.quad(bet, p0, 1, limit=200)[0] / prior.sf(p0)
    ours = float(bounds.betting_log_wealth(torch.tensor([hits]), hits + misses, p0)[0])
    assert ours == pytest.approx(math.log(mixture), rel=1e-4)


def test_betting_interval_ends_where_the_stake_is_multiplied():
    votes, n, alpha = torch.tensor([0, 40, 97, 100]), 100, 0.01
    lower, upper = bounds.betting_interval(votes, n, alpha=alpha)
    assert ((lower <= votes / n) & (votes / n <= upper)).all()
    assert lower[0] == 0
    assert upper[3] == 1
    k, p = 40, float(lower[1])
    bet = stats.betabinom.logpmf(k, n, 0.5, 0.5) - stats.binom.logpmf(k, n, p)
    assert float(bet) == pytest.approx(-math.log(alpha), rel=1e-6)
    at_once = bounds.clopper_pearson_lower(votes, n, alpha=alpha / 2)
    assert (lower <= at_once).all()


@pytest.mark.types_checked_elsewhere
def test_betting_interval_holds_at_every_n_at_once():
    generator = np.random.default_rng(0)
    alpha, p, horizon, runs = 0.05, 0.8, 500, 1500
    votes = np.cumsum(generator.random((runs, horizon)) < p, axis=1)
    missed = np.zeros(runs, dtype=bool)
    for n in range(1, horizon + 1):
        lower, upper = bounds.betting_interval(torch.from_numpy(votes[:, n - 1]), n, alpha=alpha)
        missed |= ((lower > p) | (upper < p)).numpy()
    # Ville's inequality; three standard deviations of the simulation.
    assert missed.mean() <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert missed.any()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bounds.certified_radius(torch.tensor([5]), 10, alpha=0.001, sigma=0.0), "sigma"),
        (lambda: bounds.certified_radius(torch.tensor([5]), 10, alpha=0.001, sigma=-1.0), "sigma"),
        (
            lambda: bounds.certified_radius(torch.tensor([5]), 10, alpha=0.1, sigma=math.nan),
            "sigma",
        ),
        (lambda: bounds.clopper_pearson_lower(torch.tensor([5]), 10, alpha=0.0), "alpha"),
        (lambda: bounds.clopper_pearson_lower(torch.tensor([5]), 10, alpha=1.0), "alpha"),
        (lambda: bounds.clopper_pearson_upper(torch.tensor([5]), 0, alpha=0.1), "noise sample"),
        (lambda: bounds.clopper_pearson_lower(torch.tensor([11]), 10, alpha=0.1), "11 votes"),
        (lambda: bounds.betting_interval(torch.tensor([-1]), 10, alpha=0.1), "-1 votes"),
        (lambda: bounds.betting_log_wealth(torch.tensor([1]), 2, 1.0), "p0"),
    ],
)
def test_what_is_no_bound_is_refused_in_one_sentence(call, words):
    with pytest.raises(CertificationError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
