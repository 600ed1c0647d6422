"""Compositions: what holds for every possible verdict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.analysis.accounting import (
    CoreVerdicts,
    StageVerdicts,
    attacked_account,
    expected_cost,
    explain,
    paper_account,
    sound_account,
)
from recuse.analysis.mechanisms import confidence_stage, indicator_stage

N = 24


def bools(n: int = N):
    return st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)


cores = st.builds(CoreVerdicts, bools(), bools())


@st.composite
def indicators(draw, *, monotone: bool = True) -> StageVerdicts:
    """A robustness indicator of radius eps, its verdicts at eps and 2 eps."""
    accurate, robust, doubled = draw(bools()), draw(bools()), draw(bools())
    if monotone:
        doubled = doubled & robust
    return indicator_stage(accurate, robust, robust, doubled)


chains = st.lists(indicators(), min_size=1, max_size=4)


@given(chains, cores)
def test_sound_implies_paper_once_verdicts_are_monotone(chain, core) -> None:
    assert not (sound_account(chain, core).robust & ~paper_account(chain, core).robust).any()


def test_without_monotone_verdicts_sound_can_exceed_paper() -> None:
    """Robust at 2 eps though broken at eps: the sound count believes the first."""
    yes, no = np.array([True]), np.array([False])
    stage = indicator_stage(yes, robust=no, selects=no, surely_selects=yes)
    core = CoreVerdicts(no, no)
    assert sound_account([stage], core).robust.all()
    assert not paper_account([stage], core).robust.any()


@given(chains, cores)
def test_sound_robust_is_also_right_at_x(chain, core) -> None:
    account = sound_account(chain, core)
    assert not (account.robust & ~account.natural).any()


@given(indicators(), cores)
def test_one_stage_is_the_printed_formula(stage, core) -> None:
    account = sound_account([stage], core)
    a, r2, c = stage.accurate, stage.surely_selects, core.accurate & core.robust
    np.testing.assert_array_equal(account.robust, a & (r2 | c))
    np.testing.assert_array_equal(account.natural, np.where(stage.robust, a, core.accurate))
    paper = paper_account([stage], core)
    np.testing.assert_array_equal(paper.natural, np.where(r2, a, core.accurate))
    np.testing.assert_array_equal(paper.robust, np.where(r2, a & stage.robust, c))


@given(chains, cores, bools(), bools())
def test_a_stage_that_never_selects_changes_nothing(chain, core, accurate, robust) -> None:
    never = np.zeros(N, bool)
    idle = StageVerdicts(accurate, robust, never, never, accurate, may_select=never)
    for place in range(len(chain) + 1):
        longer = [*chain[:place], idle, *chain[place:]]
        for count in (paper_account, sound_account):
            with_idle, without = count(longer, core), count(chain, core)
            np.testing.assert_array_equal(with_idle.natural, without.natural)
            np.testing.assert_array_equal(with_idle.robust, without.robust)
    alone = sound_account([idle], core)
    np.testing.assert_array_equal(alone.natural, core.accurate)
    np.testing.assert_array_equal(alone.robust, core.accurate & core.robust)


@given(cores, bools(), bools(), chains)
def test_a_stage_that_always_selects_is_all_there_is(core, accurate, robust, later) -> None:
    always = np.ones(N, bool)
    eager = confidence_stage(accurate, robust, always, always)
    for count in (paper_account, sound_account):
        account = count([eager, *later], core)
        np.testing.assert_array_equal(account.natural, accurate)
        np.testing.assert_array_equal(account.robust, accurate & robust)
    stable = indicator_stage(accurate, always, always, always)
    np.testing.assert_array_equal(sound_account([stable, *later], core).robust, accurate)


@given(cores)
def test_no_stage_is_the_core(core) -> None:
    for count in (paper_account, sound_account):
        np.testing.assert_array_equal(count([], core).natural, core.accurate)
        np.testing.assert_array_equal(count([], core).robust, core.accurate & core.robust)


def brute_force_worst_case(models, points: int, eps: int, target) -> np.ndarray:
    """Is every answer of the deployed cascade within eps of x right? All points of a ring."""
    *stages, core = models

    def ball(x: int, radius: int) -> list[int]:
        return [(x + d) % points for d in range(-radius, radius + 1)]

    def stable(labels, x: int, radius: int) -> bool:
        return all(labels[p] == labels[x] for p in ball(x, radius))

    def answer(x: int) -> int:
        for labels in stages:
            if stable(labels, x, eps):
                return labels[x]
        return core[x]

    return np.array([all(answer(p) == target[x] for p in ball(x, eps)) for x in range(points)])


@given(
    st.integers(1, 3).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(0, 2), min_size=16, max_size=16), min_size=k + 1, max_size=k + 1
        )
    ),
    st.lists(st.integers(0, 2), min_size=16, max_size=16),
    st.integers(1, 2),
)
def test_the_sound_count_bounds_the_true_worst_case(models, target, eps: int) -> None:
    """On a world small enough to try every perturbation, with exact verdicts."""
    points = 16

    def robust(labels, radius: int) -> np.ndarray:
        return np.array(
            [
                all(labels[(x + d) % points] == labels[x] for d in range(-radius, radius + 1))
                for x in range(points)
            ]
        )

    y = np.array(target)
    stages = [
        indicator_stage(np.array(m) == y, robust(m, eps), robust(m, eps), robust(m, 2 * eps))
        for m in models[:-1]
    ]
    core = CoreVerdicts(np.array(models[-1]) == y, robust(models[-1], eps))
    truth = brute_force_worst_case(models, points, eps, target)
    assert not (sound_account(stages, core).robust & ~truth).any()


@given(chains, cores)
def test_the_hidden_samples_explain_the_whole_difference(chain, core) -> None:
    paper, sound = paper_account(chain, core), sound_account(chain, core)
    hidden = explain(paper, sound)
    rebuilt = (paper.robust & ~hidden.robust_unproven) | hidden.robust_gained
    np.testing.assert_array_equal(rebuilt, sound.robust)
    rebuilt = (paper.natural & ~hidden.natural_gained) | hidden.natural_lost
    np.testing.assert_array_equal(rebuilt, sound.natural)
    assert not (hidden.wrong_at_x & ~hidden.robust_unproven).any()


@given(bools(), bools())
def test_an_attack_only_lowers(natural, broken) -> None:
    account = attacked_account(natural, broken)
    assert not (account.robust & ~natural).any()
    assert not (account.robust & broken).any()


def test_cost_is_paid_for_what_is_left() -> None:
    half = np.array([True, True, False, False])
    stage = indicator_stage(half, half, half, half)
    assert expected_cost([10.0, 4.0], [stage]) == 12
    assert expected_cost([10.0, 6.0, 4.0], [stage, stage]) == 15
    with pytest.raises(ValueError, match="2 costs"):
        expected_cost([1.0, 2.0], [])
