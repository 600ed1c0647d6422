"""What a record leaves open counts as neither robust nor broken; attacks are told apart."""

import numpy as np
import polars as pl
import pytest

from recuse.analysis import mechanism_pool
from recuse.analysis.cascade_pool import build_pool
from recuse.analysis.networks import worst_case
from recuse.analysis.searches import searches
from recuse.analysis.verdicts import verdicts
from recuse.errors import RecordError
from recuse.records.schema import RecordMeta, make_record

RADII = ("1/255", "2/255")
APGD = {"attack": {"kind": "Apgd", "steps": 40, "loss": {"kind": "CrossEntropy"}}}
SHORT = {"attack": {"kind": "Apgd", "steps": 10, "loss": {"kind": "CrossEntropy"}}}


def judged(near, far, flat=None, *, model="m", attack="apgd-ce", settings=APGD, **tags):
    columns = {
        "sample_id": [f"s{i}" for i in range(len(near))],
        "accurate": [True] * len(near),
        "robust@1/255": near,
        "robust@2/255": far,
    }
    meta = RecordMeta(model, "d/test", attack, "linf", RADII, settings=settings, tags=tags)
    return make_record(meta, columns | ({} if flat is None else {"flat": flat}))


def test_what_is_not_judged_is_neither_robust_nor_broken():
    found = verdicts(
        judged([True, None, None, False], [True, None, False, False], [False, True, True, False])
    )
    np.testing.assert_array_equal(found.robust("1/255"), [1, 0, 0, 0])
    np.testing.assert_array_equal(found.broken("1/255"), [0, 0, 0, 1])
    np.testing.assert_array_equal(found.not_judged("1/255"), [False, True, True, False])
    np.testing.assert_array_equal(found.not_judged("2/255"), [0, 1, 0, 0])
    np.testing.assert_array_equal(found.broken("2/255"), [0, 0, 1, 1])


@pytest.mark.parametrize("flat", [None, [False, False], [None, True]])
def test_a_gap_that_is_not_explained_is_still_refused(flat):
    found = verdicts(judged([None, True], [None, True], flat))
    for ask in (found.robust, found.broken, found.not_judged):
        with pytest.raises(RecordError, match="missing for 1 samples"):
            ask("1/255")


def test_another_attack_breaks_what_was_not_judged_and_never_makes_it_robust():
    blind = verdicts(judged([None, None, True], [None, None, True], [True, True, False]))
    other = verdicts(judged([False, True, True], [False, True, True], attack="square"))
    both = worst_case([blind, other])
    np.testing.assert_array_equal(both.robust("2/255"), [0, 0, 1])
    np.testing.assert_array_equal(both.not_judged("2/255"), [0, 1, 0])
    np.testing.assert_array_equal(both.broken("2/255"), [1, 0, 0])
    swapped = worst_case([other, blind])
    np.testing.assert_array_equal(swapped.broken("2/255"), [1, 0, 0])


def test_an_attack_with_other_settings_is_another_attack():
    core = judged([True] * 4, [False] * 4, model="core", role="core")
    like = judged([True] * 4, [True] * 4, model="like", role="robust")
    weak = judged([True] * 4, [True] * 4, model="weak", role="robust", settings=SHORT)
    dlr = judged([True] * 4, [True] * 4, model="dlr", role="robust", attack="apgd-dlr")
    pool = build_pool([core, like, weak, dlr], dataset="d", eps="1/255")
    assert pool.names == ("like",)
    assert dict(pool.left_out) == {
        "weak": "not judged by apgd-ce with the settings that the core was judged with",
        "dlr": "not judged by apgd-ce",
    }


def test_attacks_of_one_name_are_told_apart_by_what_differs():
    metas = [judged([True], [True], settings=s).meta for s in (APGD, SHORT)]
    other = judged([True], [True], attack="square", settings={}).meta
    named = searches([*metas, other, metas[0]])
    assert list(named.values()) == ["apgd-ce (steps 40)", "apgd-ce (steps 10)", "square"]
    assert list(searches(metas[:1]).values()) == ["apgd-ce"]


def test_what_a_search_for_the_worst_margin_broke_is_broken():
    """The attack of the verdicts had stopped short of it; what it had broken stays broken."""
    record = judged([True, True, True, None, False], [True, True, False, None, False], [False] * 5)
    record.frame.insert_column(
        4, pl.Series("stable_margin@1/255", [0.1, -0.2, 0.0, -0.1, 0.3], dtype=pl.Float32)
    )
    record.frame.insert_column(
        5, pl.Series("stable_margin@2/255", [-0.1, -0.2, None, -0.1, 0.3], dtype=pl.Float32)
    )
    found = verdicts(record)
    np.testing.assert_array_equal(found.broken("1/255"), [0, 1, 0, 1, 1])
    np.testing.assert_array_equal(found.robust("1/255"), [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.broken("2/255"), [1, 1, 1, 1, 1])
    # A smaller ball alone was searched: what broke there breaks in the larger one too.
    near = make_record(record.meta, record.frame.drop("stable_margin@2/255").to_dict())
    np.testing.assert_array_equal(verdicts(near).broken("2/255"), [0, 1, 1, 1, 1])
    # The true class alone was searched: of an answer that is wrong already it says nothing.
    right = record.frame.drop("stable_margin@1/255", "stable_margin@2/255").to_dict()
    right |= {"worst_margin@1/255": [-0.1, -0.1, None, 0.1, 0.1]}
    right |= {"accurate": [True, False, True, True, True]}
    right |= {"flat": [False, False, False, True, False]}
    np.testing.assert_array_equal(
        verdicts(make_record(record.meta, right)).broken("1/255"), [1, 0, 0, 0, 1]
    )


@pytest.mark.parametrize("kind", ["robust_margin", "robust_softmax"])
def test_a_stage_never_surely_answers_where_any_attack_changed_it(kind):
    """The searches for the worst margin found nothing there."""
    columns = {
        f"stable_{name}@{radius}": [0.9] * 3
        for name in ("margin", "confidence")
        for radius in RADII
    }
    record = judged([True, True, False], [True, False, False])
    found = verdicts(make_record(record.meta, record.frame.to_dict() | columns))
    stage = getattr(mechanism_pool, kind)(found, "1/255")(threshold=0.7)
    assert stage.selects.tolist() == [True, True, False]
    assert stage.surely_selects.tolist() == [True, False, False]
