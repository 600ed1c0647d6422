"""What a stage with finitely many votes accepts: exact, simulated, and as it is deployed."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from recuse.certify import Cohen, Crown, GroupSequential, Ibp, certified_radius
from recuse.certify.decision import SequentialState
from recuse.certify.power import needed_radius
from recuse.certify.sequential import make_plan
from recuse.certify.tables import draws_needed, needed_probability
from recuse.errors import CertificationError
from recuse.random import SampleNoise, fresh_noise

SIGMA, EPS = 0.12, 0.06
SMALL = GroupSequential(SIGMA, n_max=400, alpha=0.02)


def simulated(test, p, *, guess, runs, classes=3, seed=0):
    """How often class 0 is certified when it has vote probability p and one rival the rest."""
    draw = np.random.default_rng(seed)
    run = SequentialState(make_plan(test, (EPS,), classes), np.full(runs, guess))
    while len(rows := run.undecided()):
        missing = run.missing(rows)
        mine = draw.binomial(missing, p)
        run.add(rows, missing, np.stack([mine, missing - mine, 0 * mine], axis=1))
    found = run.result(torch.device("cpu"))
    return float(((found.prediction == 0) & found.certified[:, 0]).double().mean())


@pytest.mark.parametrize("p", [0.70, 0.75, 0.78, 0.82, 0.9])
def test_acceptance_is_what_the_worse_guess_leaves(p):
    runs = 20_000
    seen = [simulated(SMALL, p, guess=guess, runs=runs) for guess in (0, 1)]
    promised = SMALL.acceptance(EPS, p, classes=3)
    noise = 4 * (0.25 / runs) ** 0.5
    assert promised <= min(seen) + noise
    assert promised >= min(seen) - noise - 1e-3
    assert seen[0] >= seen[1] - noise  # an attacker has the network answer otherwise


def test_acceptance_by_counting_every_path():
    """The tables' recursion against plain sums over binomial counts, look by look."""
    test, p = GroupSequential(SIGMA, n_max=60, alpha=0.05, growth=1.6), 0.9
    plan = make_plan(test, (EPS,), 2)
    chances = []
    for mine in (0, 1):
        open_, before, claimed = {0: 1.0}, 0, 0.0
        for k, look in enumerate(plan.looks.tolist()):
            after: dict[int, float] = {}
            for votes, mass in open_.items():
                for more in range(look - before + 1):
                    part = mass * stats.binom.pmf(more, look - before, p)
                    after[votes + more] = after.get(votes + more, 0.0) + part
            accept, reject = plan.accept[0, mine, k], plan.reject[0, mine, k]
            claimed += sum(mass for votes, mass in after.items() if votes >= accept)
            open_ = {v: m for v, m in after.items() if reject < v < accept}
            before = look
        chances.append(claimed)
    # A rival with a tenth of the votes never reaches a threshold, so that nothing comes off.
    assert test.acceptance(EPS, p, classes=2) == pytest.approx(min(chances), abs=1e-9)
    assert 0.05 < min(chances) < 0.99


def test_acceptance_of_a_fixed_number_of_draws():
    test = Cohen(SIGMA, n=500, n0=20, alpha=0.02)
    draw, p, runs = np.random.default_rng(0), 0.76, 40_000
    votes = torch.from_numpy(draw.binomial(test.n, p, runs))
    wide = certified_radius(votes, test.n, alpha=test.alpha, sigma=SIGMA) >= EPS
    first = torch.from_numpy(draw.binomial(test.n0, p, runs)) > test.n0 // 2
    seen = float((wide & first).double().mean())
    assert test.acceptance(EPS, p, classes=10) == pytest.approx(seen, abs=4 * (0.25 / runs) ** 0.5)
    assert Cohen(SIGMA, n=15).acceptance(EPS, 1.0, classes=10) == 0.0


@pytest.mark.parametrize(
    ("test", "beta"),
    [(SMALL, 0.001), (SMALL, 0.05), (Cohen(SIGMA, n=2000), 0.001), (Cohen(SIGMA), 0.05)],
)
def test_the_needed_radius_is_the_smallest_that_is_enough(test, beta):
    needed = needed_radius(test, EPS, classes=10, beta=beta)
    assert needed > 2 * EPS

    def accepted(radius):
        return test.acceptance(EPS, needed_probability(radius - EPS, SIGMA), classes=10)

    assert accepted(needed) >= 1 - beta > accepted(needed - 2e-4)
    # The doubled radius is the null of the deployed test.
    assert accepted(2 * EPS) <= test.alpha
    assert needed_radius(test, EPS, classes=10, beta=beta, radius=2 * EPS) > needed


def test_where_no_certificate_is_enough():
    # All of alpha on the clean prediction, which the attacker chooses.
    assert needed_radius(GroupSequential(SIGMA, guess_weight=1.0), EPS, classes=10) is None
    few = draws_needed(EPS, SIGMA, 0.001) - 1
    assert needed_radius(GroupSequential(SIGMA, n_max=few), EPS, classes=10) is None
    with pytest.raises(CertificationError, match=r"beta is 1\.0"):
        needed_radius(SMALL, EPS, classes=10, beta=1.0)


def test_interval_bounds_need_the_two_radii_together():
    assert needed_radius(Ibp(), 0.25, classes=10) == 0.5
    assert needed_radius(Ibp(), 0.25, classes=10, radius=0.5) == 0.75


def test_linear_bounds_may_be_looser_on_a_smaller_ball():
    """Proven on the ball of 2 eps at 0.425, and not on the ball of eps at 0.325 inside it."""
    net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    values = (
        [[-2], [-2], [-3]], [-2, -3, 1],
        [[2, -2, 1], [-3, 0, 2], [2, -1, 2]], [0, -1, 1],
        [[3, 0, 3], [-2, 2, -2]], [-1, 0],
    )  # fmt: skip
    with torch.no_grad():
        for parameter, value in zip(net.double().parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    x, eps, noise = torch.tensor([[0.425]], dtype=torch.float64), 0.1, SampleNoise(0, ("a",))
    assert Crown().decide(net.eval(), x, (2 * eps,), noise=noise).certified.all()
    assert not Crown().decide(net, x - eps, (eps,), noise=noise).certified.any()
    assert needed_radius(Crown(), eps, classes=2) is None


class HalfSpace(nn.Module):
    """The boundary lies at distance 0 of ``line``; one vote probability for every distance."""

    def forward(self, x):
        score = x.flatten(1).sum(dim=1) / 4 - 1.0
        return torch.stack([-score, score], dim=1)


def line(distance, count):
    return torch.full((count, 1, 4, 4), (distance + 1) / 4)


@pytest.mark.parametrize("proven", [True, False])
def test_a_deployed_stage_at_the_worst_point_of_the_ball(proven):
    """Certified for R it answers at distance R - eps; certified for 2 eps it hardly ever does."""
    test = GroupSequential(SIGMA, n_max=600)
    needed = needed_radius(test, EPS, classes=2, beta=0.01)
    radius = needed if proven else 2 * EPS
    x = line(radius - EPS, 200)
    found = test.decide(HalfSpace().eval(), x, (EPS,), noise=SampleNoise(1, fresh_ids(200)))
    answered = int((found.certified[:, 0] & (found.prediction == 1)).sum())
    if proven:
        assert answered >= stats.binom.ppf(1e-6, 200, 0.99)
    else:
        assert answered <= stats.binom.ppf(1 - 1e-6, 200, test.alpha)


def fresh_ids(count):
    return tuple(str(i) for i in range(count))


def test_fresh_noise_is_never_the_same():
    x = torch.zeros(3, 5)
    first, second = fresh_noise(3).normal(x), fresh_noise(3).normal(x)
    assert not bool((first == second).any())
    assert len({*first[:, 0].tolist()}) == 3
