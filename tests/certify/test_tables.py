"""Group-sequential tables: exact level, published numbers, coupling, what they refuse."""

import csv
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from recuse.certify import tables
from recuse.certify.tables import make_table, needed_probability, operating_point
from recuse.errors import CertificationError

BOUNDARY = needed_probability(0.12, 0.12)


def level_draw_by_draw(table, p):
    """Probability of ever claiming when nobody gives up: one Bernoulli draw at a time."""
    law, claimed = np.zeros(table.looks[-1] + 2), 0.0
    law[0] = 1.0
    thresholds = dict(zip(table.looks, table.accept, strict=True))
    for n in range(1, table.looks[-1] + 1):
        law[1 : n + 1] = law[1 : n + 1] * (1 - p) + law[:n] * p
        law[0] *= 1 - p
        if n in thresholds:
            claimed += law[thresholds[n] : n + 1].sum()
            law[thresholds[n] :] = 0
    return claimed


def random_tables(count, largest, seed):
    """Attainable tables: the budget is between the fewest draws and ``largest``."""
    generator = np.random.default_rng(seed)
    while count:
        radius, alpha = generator.uniform(0, 2.5), float(10 ** generator.uniform(-6, -0.7))
        fewest = tables.draws_needed(radius, 1.0, alpha)
        if fewest > largest:
            continue
        n_max = int(np.exp(generator.uniform(np.log(fewest), np.log(largest + 1))))
        growth = float(generator.uniform(1.03, 2.5))
        beta = float(10 ** generator.uniform(-4, -1))
        p0 = needed_probability(radius, 1.0)
        yield make_table(p0, alpha, max(n_max, fewest), beta=beta, growth=growth)
        count -= 1


@pytest.mark.types_checked_elsewhere
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_level_of_random_tables_is_exact_and_at_most_alpha(count):
    for table in random_tables(count, 4000, seed=0):
        exact = level_draw_by_draw(table, table.p0)
        assert 0 < exact <= table.alpha
        assert exact == pytest.approx(table.level, rel=1e-7)
        assert table.level <= table.alpha


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p0", "n_max"), [(BOUNDARY, 40_000), (needed_probability(0.25, 0.12), 110_000)]
)
def test_level_of_the_recommended_tables_is_exact(p0, n_max):
    table = make_table(p0, 9e-4, n_max)
    assert level_draw_by_draw(table, p0) == pytest.approx(table.level, rel=1e-7)
    assert 0.95 * 9e-4 < table.level <= 9e-4


def test_level_agrees_with_rational_arithmetic():
    p0, alpha = Fraction(7, 10), Fraction(1, 50)
    table = make_table(float(p0), float(alpha), 40, growth=1.3)
    law, claimed = {0: Fraction(1)}, Fraction(0)
    thresholds = dict(zip(table.looks, table.accept, strict=True))
    for n in range(1, 41):
        following: dict[int, Fraction] = {}
        for s, mass in law.items():
            following[s] = following.get(s, Fraction(0)) + mass * (1 - p0)
            following[s + 1] = following.get(s + 1, Fraction(0)) + mass * p0
        law = following
        if n in thresholds:
            claimed += sum((m for s, m in law.items() if s >= thresholds[n]), Fraction(0))
            law = {s: m for s, m in law.items() if s < thresholds[n]}
    assert claimed <= alpha
    assert float(claimed) == pytest.approx(table.level, rel=1e-9)
    # No threshold is larger than it must be: one vote less at the last look exceeds alpha.
    at_last = law.get(thresholds[40] - 1, Fraction(0))
    assert claimed + at_last > alpha


def test_the_boundary_is_the_worst_null():
    table = make_table(BOUNDARY, 9e-4, 2000)
    levels = [level_draw_by_draw(table, BOUNDARY - gap) for gap in (0, 0.001, 0.01, 0.1)]
    assert all(a > b for a, b in pairwise(levels))


def test_giving_up_never_changes_a_claim_and_only_costs_power():
    patient, hasty = (make_table(BOUNDARY, 1e-3, 3000, beta=beta) for beta in (1e-6, 0.2))
    assert patient.accept == hasty.accept
    assert patient.level == hasty.level
    for p in (0.7, BOUNDARY, 0.86, 0.9):
        assert operating_point(hasty, p).claim <= operating_point(patient, p).claim + 1e-12
        assert operating_point(hasty, p).samples < operating_point(patient, p).samples
    claim_at_null = operating_point(hasty, BOUNDARY).claim
    assert claim_at_null <= level_draw_by_draw(hasty, BOUNDARY)


def test_every_test_ends_at_the_last_look():
    for table in random_tables(50, 3000, seed=1):
        assert table.reject[-1] == table.accept[-1] - 1
        assert all(r < a for r, a in zip(table.reject, table.accept, strict=True))
        assert list(table.looks) == sorted(set(table.looks))
        assert all(look % tables.BLOCK == 0 for look in table.looks[:-1])


def test_operating_point_is_what_simulation_finds():
    table, p, runs = make_table(BOUNDARY, 1e-2, 800), 0.87, 20_000
    generator = np.random.default_rng(0)
    votes, drawn = np.zeros(runs, dtype=int), np.zeros(runs)
    open_, claims, before = np.ones(runs, dtype=bool), 0, 0
    for look, accept, reject in zip(table.looks, table.accept, table.reject, strict=True):
        votes[open_] += generator.binomial(look - before, p, open_.sum())
        drawn[open_] += look - before
        claims += (open_ & (votes >= accept)).sum()
        open_ &= (votes < accept) & (votes > reject)
        before = look
    point = operating_point(table, p)
    assert not open_.any()
    assert claims / runs == pytest.approx(point.claim, abs=4 * math.sqrt(0.25 / runs))
    assert drawn.mean() == pytest.approx(point.samples, abs=4 * drawn.std() / math.sqrt(runs))


def test_samples_and_certificates_on_a_published_log(shared_reference):
    with (shared_reference / "cohen_resnet110_sigma012.csv").open() as file:
        rows = list(csv.DictReader(file))
    p = np.array([0.40 if int(row["predict"]) < 0 else float(row["p_hat"]) for row in rows])
    values, counts = np.unique(p, return_counts=True)
    for eps, most, cohen_printed in ((0.12, 1250, 390.88), (0.25, 2000, 302.04)):
        p0 = needed_probability(eps, 0.12)
        fixed = stats.binom.isf(0.001, 100_000, p0) + 1
        cohen = float(stats.binom.sf(fixed - 1, 100_000, values) @ counts)
        assert cohen == pytest.approx(cohen_printed, abs=0.01)
        table = make_table(p0, 9e-4, 110_000)
        points = [operating_point(table, value) for value in values]
        samples = sum(o.samples * c for o, c in zip(points, counts, strict=True)) / len(rows)
        claims = sum(o.claim * c for o, c in zip(points, counts, strict=True))
        assert samples <= most
        assert claims >= cohen - 0.1


def test_an_easy_input_costs_few_draws_and_a_hopeless_one_fewer():
    table = make_table(BOUNDARY, 9e-4, 110_000)
    assert operating_point(table, 1.0) == tables.OperatingPoint(claim=1.0, samples=64.0)
    assert operating_point(table, 0.0).samples == 8
    assert operating_point(table, 0.4).samples < 40


def test_fewest_draws_is_where_agreement_proves_the_radius():
    needed = tables.draws_needed(0.24, 0.12, 0.001)
    p0 = needed_probability(0.24, 0.12)
    assert p0**needed <= 0.001 < p0 ** (needed - 1)
    assert make_table(p0, 0.001, needed).attainable
    assert not make_table(p0, 0.001, needed - 1).attainable
    # Twice the usual radius at the usual noise is out of reach of the usual budget.
    assert tables.draws_needed(0.5, 0.12, 0.001) > 110_000
    assert not make_table(needed_probability(0.5, 0.12), 0.001, 110_000).attainable
    # Beyond float64: p0 rounds to 1, which is unattainable and not a crash.
    assert not make_table(needed_probability(50.0, 0.12), 0.001, 110_000).attainable


def test_tables_are_computed_once():
    assert make_table(0.9, 0.01, 500) is make_table(0.9, 0.01, 500)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_table(0.9, 0.0, 100), "alpha"),
        (lambda: make_table(0.9, 1.5, 100), "alpha"),
        (lambda: make_table(1.1, 0.1, 100), "p0"),
        (lambda: make_table(0.9, 0.1, 0), "n_max"),
        (lambda: make_table(0.9, 0.1, 100, beta=0.0), "beta"),
        (lambda: make_table(0.9, 0.1, 100, growth=1.0), "growth"),
        (lambda: make_table(0.9, 0.1, 100, looks=(50, 20, 100)), "ascend"),
        (lambda: make_table(0.9, 0.1, 100, looks=(50, 99)), "n_max"),
        (lambda: needed_probability(0.1, 0.0), "sigma"),
        (lambda: operating_point(make_table(0.9, 0.1, 100), 1.2), "p is 1.2"),
    ],
)
def test_settings_that_are_no_test_are_refused(call, words):
    with pytest.raises(CertificationError, match=words):
        call()
