"""The search finds what trying everything finds, and says so when it did not try enough."""

from dataclasses import fields
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts, sound_account
from recuse.analysis.bits import count, pack
from recuse.analysis.cascade_search import best_cascade
from recuse.analysis.mechanisms import indicator_stage
from recuse.analysis.searchable import Searchable, Stacked


def world(seed: int, models: int, samples: int = 90) -> tuple[list[StageVerdicts], CoreVerdicts]:
    """Models that share what is hard, as real ones do."""
    rng = np.random.default_rng(seed)
    hard = rng.random(samples)
    stages = []
    for _ in range(models):
        own = np.clip(hard + 0.25 * rng.standard_normal(samples), 0, 1)
        robust = own < rng.uniform(0.4, 0.9)
        accurate = own < rng.uniform(0.6, 0.95)
        stages.append(indicator_stage(accurate, robust, robust, robust & (own < 0.5)))
    return stages, CoreVerdicts(hard < 0.93, hard < 0.15)


def everything(
    stages: list[StageVerdicts],
    core: CoreVerdicts,
    floor: int,
    most: int,
    deviations: float = 0.0,
) -> tuple[int, int]:
    best = (-1, -1)
    for length in range(most + 1):
        for chain in permutations(stages, length):
            account = sound_account(list(chain), core)
            natural, robust = int(account.natural.sum()), int(account.robust.sum())
            apart = int((account.natural != core.accurate).sum())
            if natural >= floor + deviations * apart**0.5:
                best = max(best, (robust, natural))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3), st.integers(0, 12))
def test_the_search_equals_trying_every_cascade(
    seed: int, models: int, most: int, loss: int
) -> None:
    stages, core = world(seed, models)
    floor = int(core.accurate.sum()) - loss
    found = best_cascade(Searchable.of(stages, core), floor=floor, max_stages=most)
    assert found.optimal
    assert found.sound == everything(stages, core, floor, most)[0]
    account = sound_account([stages[i] for i in found.stages], core)
    assert (found.natural, found.sound) == (account.natural.sum(), account.robust.sum())
    assert found.natural >= floor
    assert len(found.stages) <= most


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3), st.floats(0.1, 3))
def test_who_asks_to_be_sure_finds_the_best_of_those_that_are(
    seed: int, models: int, most: int, deviations: float
) -> None:
    stages, core = world(seed, models)
    floor, pool = int(core.accurate.sum()) - 6, Searchable.of(stages, core)
    found = best_cascade(pool, floor=floor, max_stages=most, deviations=deviations)
    assert found.optimal
    assert found.sound == everything(stages, core, floor, most, deviations)[0]
    assert found.sound <= best_cascade(pool, floor=floor, max_stages=most).sound


@pytest.mark.parametrize("seed", range(5))
def test_a_half_of_a_packed_pool_is_the_pool_of_that_half(seed: int) -> None:
    stages, core = world(seed, 12, samples=150)
    half = np.random.default_rng(seed).random(150) < 0.5
    cut = [
        StageVerdicts(*(getattr(s, f.name)[half] for f in fields(s) if f.name != "may_select"))
        for s in stages
    ]
    rest = CoreVerdicts(core.accurate[half], core.robust[half])
    floor = int(rest.accurate.sum()) - 5
    whole = Stacked.of(stages, core, [core])
    found = best_cascade(whole.on(half), floor=floor, max_stages=2)
    assert found == best_cascade(Searchable.of(cut, rest), floor=floor, max_stages=2)
    other = CoreVerdicts(~core.accurate | (core.robust & half), core.robust)
    right, robust, apart = Stacked.of(stages, core, [core, other]).mixed(half)
    assert (right[0], robust[0], apart[0]) == (rest.accurate.sum(), rest.robust.sum(), 0)
    assert apart[1] == (half & (other.accurate != core.accurate)).sum()


def test_more_stages_are_never_worse_and_the_bound_is_honest() -> None:
    stages, core = world(3, 30, samples=2000)
    pool, floor = Searchable.of(stages, core), int(core.accurate.sum()) - 40
    found = [best_cascade(pool, floor=floor, max_stages=k) for k in (1, 2, 3)]
    assert [f.sound for f in found] == sorted(f.sound for f in found)
    hasty = best_cascade(pool, floor=floor, max_stages=3, budget=5)
    assert hasty.sound <= found[-1].sound <= hasty.bound
    # What it found is the best, as more tries prove; its own few did not.
    assert not hasty.optimal
    assert hasty.bound > found[-1].sound


def test_the_core_alone_is_an_answer() -> None:
    stages, core = world(0, 3)
    found = best_cascade(Searchable.of(stages, core), floor=90, max_stages=2)
    assert found.stages == ()
    assert found.sound == np.count_nonzero(core.accurate & core.robust)


def test_a_cascade_without_stages_is_refused() -> None:
    stages, core = world(0, 3)
    with pytest.raises(ValueError, match="at least 1 stage"):
        best_cascade(Searchable.of(stages, core), floor=0, max_stages=0)


@given(st.lists(st.booleans(), max_size=300).map(lambda v: np.array(v, dtype=bool)))
def test_packing_keeps_the_count(mask) -> None:
    assert int(count(pack(mask))) == np.count_nonzero(mask)
    if mask.size:
        both = pack(np.stack([mask, ~mask]))
        assert count(both).tolist() == [np.count_nonzero(mask), np.count_nonzero(~mask)]
