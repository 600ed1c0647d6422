"""What is recommended: never something that one model alone, or any other system, does better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recuse.analysis.accounting import Account, difference
from recuse.analysis.advice import ALLOWED_LOSS, advise, advised
from recuse.analysis.compositions import count_composition
from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Verdicts, verdicts
from recuse.errors import RecordError
from recuse.records.schema import RecordMeta, make_record

SAMPLES = 200


def account(natural: int, robust: int) -> Account:
    """Right on so many of 200 samples, and robust on so many of those."""
    places = np.arange(SAMPLES)
    return Account(places < natural, places < min(robust, natural))


counts = st.tuples(st.integers(0, SAMPLES), st.integers(0, SAMPLES)).map(lambda n: account(*n))


def rates(a: Account) -> tuple[float, float]:
    return rate(a.natural), rate(a.robust)


@settings(deadline=None)
@given(st.lists(counts, max_size=6), counts)
def test_nothing_is_recommended_that_another_system_or_the_core_beats(systems, core) -> None:
    chosen = advised(systems, core)
    taken = rates(core if chosen is None else systems[chosen])
    others = [rates(a) for a in (core, *systems)]
    if chosen is not None:
        assert not any(n >= taken[0] and r >= taken[1] and (n, r) != taken for n, r in others)
        assert taken != rates(core)
    cheap = [r for n, r in others if n >= rates(core)[0] - ALLOWED_LOSS - 1e-9]
    if chosen is not None and taken[0] >= rates(core)[0] - ALLOWED_LOSS:
        assert taken[1] == max(cheap)
    elif chosen is not None:
        assert max(cheap) <= rates(core)[1]
        assert sum(taken) == max(map(sum, others))


def test_the_digits_of_the_first_release() -> None:
    """ERA alone 97.6 / 87.3, composed 98.4 / 57.6: the composition was recommended."""
    core, era, composed = account(195, 88), account(195, 175), account(197, 115)
    assert advised([era, composed], core) == 0
    assert advised([composed], core) == 0
    # A composition that its own member beats in both is never taken, however cheap.
    assert advised([account(196, 176), account(195, 175)], core) == 0
    assert advised([account(194, 80)], core) is None


def test_a_composition_that_adds_nothing_is_not_preferred_to_its_member() -> None:
    assert advised([account(190, 150), account(190, 150)], account(195, 10)) == 0


def model(name: str, accurate, near, far, *, first: int = 0) -> Verdicts:
    ids = [f"s{i:03d}" for i in range(first, first + len(accurate))]
    columns = {"sample_id": ids, "accurate": accurate, "robust@1/255": near, "robust@2/255": far}
    meta = RecordMeta(name, "d", "apgd", "linf", ("1/255", "2/255"))
    return verdicts(make_record(meta, columns))


def members(seed: int, *names: str) -> list[Verdicts]:
    rng = np.random.default_rng(seed)
    found = []
    for name in names:
        reach = rng.integers(0, 3, SAMPLES) * (name != "core")
        right = rng.random(SAMPLES) < (0.95 if name == "core" else rng.uniform(0.6, 0.98))
        found.append(model(name, right, reach > 0, reach > 1))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_advice_holds_with_all_members_in_the_set(seed: int) -> None:
    *stages, core = members(seed, "a", "b", "core")
    chains = [count_composition([stage, core], "1/255", "robust") for stage in stages]
    advice = advise(chains)
    alone = [rates(a) for c in chains for a in c.alone]
    taken = rates(advice.taken.account)
    assert not any(n >= taken[0] and r >= taken[1] and (n, r) != taken for n, r in alone)
    assert advice.choices == 5
    for other in advice.others:
        over = difference(advice.taken.account, other.account)
        assert over.natural.estimate == pytest.approx(taken[0] - rate(other.account.natural))
        assert over.robust.low <= over.robust.estimate <= over.robust.high
    names = {other.name for other in advice.others}
    if advice.taken.composition is not None:
        assert names == {advice.taken.models[0].meta.model}
    elif advice.taken is not advice.core:
        assert names == {f"{advice.taken.name} → core"}


def test_what_the_samples_do_not_tell_apart_is_named() -> None:
    near = np.arange(SAMPLES) < 150
    twin, lead = near.copy(), near.copy()
    twin[[0, 150]] = False, True
    every, core = np.ones(SAMPLES, bool), np.zeros(SAMPLES, bool)
    found = [model("lead", every, lead, core), model("twin", every, twin, core)]
    last = model("core", every, core, core)
    advice = advise([count_composition([m, last], "1/255", "robust") for m in found])
    assert advice.taken.title == "lead alone"
    assert [s.title for s in advice.alike] == ["twin alone"]


def test_compositions_of_different_questions_are_refused() -> None:
    one = members(0, "a", "core")
    other = [
        model("b", *np.ones((3, 9), bool), first=5),
        model("c", *np.ones((3, 9), bool), first=5),
    ]
    chains = [count_composition(pair, "1/255", "robust") for pair in (one, other)]
    with pytest.raises(RecordError, match="2 compositions of different"):
        advise(chains)
    with pytest.raises(RecordError, match="0 compositions"):
        advise([])
