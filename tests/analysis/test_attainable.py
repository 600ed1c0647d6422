"""What the budget of draws could have proven, by the rule of the tables that decide."""

import pytest

from recuse.analysis.attainable import attainable
from recuse.certify import Cohen, GroupSequential, Ibp, draws_needed
from recuse.records.schema import RecordMeta
from recuse.serialize import to_plain

CERTIFIERS = [
    (GroupSequential(0.12), 0.0009, 110_000),
    (GroupSequential(0.25, 500, alpha=0.01, guess_weight=0.5), 0.005, 500),
    (Cohen(0.12, 1000), 0.001, 1000),
]


def meta(certifier):
    return RecordMeta("m", "d", "smoothing", "l2", settings={"certifier": to_plain(certifier)})


@pytest.mark.parametrize(("certifier", "level", "draws"), CERTIFIERS)
def test_the_rule_is_the_tables(certifier, level, draws):
    said = [attainable(meta(certifier), k / 100) for k in range(1, 100)]
    needed = [draws_needed(k / 100, certifier.sigma, level) <= draws for k in range(1, 100)]
    assert said == needed
    assert True in said
    assert False in said


def test_proofs_without_draws_have_no_such_limit():
    assert attainable(meta(Ibp()), 1.0)
    assert attainable(RecordMeta("m", "d", "smoothing", "l2"), 1.0)
