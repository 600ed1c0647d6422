"""Sequential decisions: validity by simulation at the worst null, and what draws decide."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from recuse.certify.decision import SequentialState
from recuse.certify.sequential import GroupSequential, make_plan
from recuse.certify.tables import make_table, needed_probability, operating_point
from recuse.errors import CertificationError
from recuse.random import SampleNoise
from recuse.results import Status

TEST = GroupSequential(0.12)


def simulate(test, radii, probabilities, guess, runs, seed=0):
    """Decisions of ``runs`` inputs whose votes follow ``probabilities`` exactly."""
    plan = make_plan(test, radii, len(probabilities))
    run = SequentialState(plan, np.full(runs, guess))
    generator = np.random.default_rng(seed)
    while len(rows := run.undecided()):
        draws = run.missing(rows)
        run.add(rows, draws, generator.multinomial(draws, probabilities))
    return run.result(torch.device("cpu"))


def three_sd(p, runs):
    return 3 * math.sqrt(p * (1 - p) / runs)


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "runs"), [(0.12, 1_000_000), (0.25, 300_000)])
def test_false_certificates_in_a_million_runs_at_the_worst_null(eps, runs):
    p0 = needed_probability(eps, 0.12)
    false = 0
    for seed in range(10):
        found = simulate(TEST, (eps,), [p0, 1 - p0], guess=0, runs=runs // 10, seed=seed)
        false += int(found.certified.sum())
    binding = operating_point(make_table(p0, 9e-4, 110_000), p0).claim
    assert false / runs <= TEST.alpha
    assert false / runs == pytest.approx(binding, abs=three_sd(9e-4, runs))


@pytest.mark.parametrize("guess", [0, 1])
@pytest.mark.parametrize("below", ["eps", "2 eps"])
def test_joint_claims_share_one_alpha(guess, below):
    # Worst null of the smaller radius, and of the larger one (where the smaller is true).
    test, radii, runs = replace(TEST, alpha=0.05, n_max=3000), (0.12, 0.24), 20_000
    p = needed_probability(radii[0 if below == "eps" else 1], 0.12)
    found = simulate(test, radii, [p, *[(1 - p) / 9] * 9], guess=guess, runs=runs)
    false = found.certified[:, 0 if below == "eps" else 1].double().mean()
    share = 0.9 if guess == 0 else 0.1 / 9
    assert false <= test.alpha * share + three_sd(test.alpha * share, runs)
    assert not (found.certified[:, 1] & ~found.certified[:, 0]).any()
    if below == "2 eps":
        assert found.certified[:, 0].double().mean() > 0.9


def test_a_wrong_guess_costs_samples_and_not_the_certificate():
    right = simulate(TEST, (0.12,), [0.9, 0.05, 0.05], guess=0, runs=500)
    wrong = simulate(TEST, (0.12,), [0.9, 0.05, 0.05], guess=1, runs=500)
    for found in (right, wrong):
        assert found.certified.double().mean() > 0.98
        assert (found.prediction == 0).all()
    assert right.samples.double().mean() < wrong.samples.double().mean()
    assert wrong.samples.double().mean() < 2 * right.samples.double().mean()


def test_samples_follow_the_exact_expectation():
    p, runs = 0.88, 4000
    found = simulate(TEST, (0.12,), [p, 1 - p], guess=0, runs=runs)
    exact = operating_point(make_table(needed_probability(0.12, 0.12), 9e-4, 110_000), p)
    spread = float(found.samples.double().std()) / math.sqrt(runs)
    assert float(found.samples.double().mean()) == pytest.approx(exact.samples, abs=4 * spread)


def test_decisions_are_right_where_the_truth_is_known(half_space):
    distances = [-0.4, -0.05, 0.02, 0.1, 0.15, 0.2, 0.3, 0.45]
    model, x, noise = half_space(distances, classes=5)
    found = TEST.decide(model, x, (0.12, 0.25), noise=noise)
    truth = torch.tensor([[abs(d) >= r for r in (0.12, 0.25)] for d in distances])
    assert torch.equal(found.certified, truth)
    assert found.prediction.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert found.radius.tolist() == [0.25, 0, 0, 0, 0.12, 0.12, 0.25, 0.25]
    assert found.samples.min() < 1000 < 100_000 / 10
    assert found.status(0.12)[:2] == (Status.CERTIFIED, Status.ABSTAINED)


def test_batching_order_and_sharding_change_nothing(half_space):
    model, x, noise = half_space([-0.3, 0.05, 0.11, 0.125, 0.14, 0.2, 0.26, 0.4])
    test = replace(TEST, n_max=5000)
    whole = test.decide(model, x, (0.12, 0.25), noise=noise)
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    mixed = replace(test, batch_size=8).decide(
        model, x[order], (0.12, 0.25), noise=noise.take(order)
    )
    for shard in ([0, 1, 2], [3, 4, 5, 6, 7]):
        part = test.decide(model, x[shard], (0.12, 0.25), noise=noise.take(shard))
        assert torch.equal(part.certified, whole.certified[shard])
        assert torch.equal(part.samples, whole.samples[shard])
    assert torch.equal(mixed.certified, whole.certified[order])
    assert torch.equal(mixed.samples, whole.samples[order])
    assert torch.equal(mixed.prediction, whole.prediction[order])


def test_another_seed_is_another_experiment(half_space):
    distances = [0.1, 0.11, 0.125, 0.14]
    model, x, noise = half_space(distances)
    first = TEST.decide(model, x, (0.12,), noise=noise).samples
    other = TEST.decide(model, x, (0.12,), noise=SampleNoise(1, noise.ids)).samples
    assert not torch.equal(first, other)


class Refuses(nn.Module):
    """Answers clean inputs and fails under noise."""

    def forward(self, x):
        assert (x == 0.5).all(), "this input was noisy"
        return torch.zeros(len(x), 3)


def test_what_no_budget_proves_is_answered_without_a_draw():
    x, noise = torch.full((4, 1, 2, 2), 0.5), SampleNoise(0, ("a", "b", "c", "d"))
    found = TEST.decide(Refuses().eval(), x, (0.5,), noise=noise)
    assert found.status(0.5) == (Status.UNATTAINABLE,) * 4
    assert found.samples.tolist() == [0] * 4
    assert found.radius.tolist() == [0] * 4
    with pytest.raises(CertificationError, match="at least 453,794 draws"):
        TEST.require_attainable(0.5)
    TEST.require_attainable(TEST.largest_radius() * 0.999)
    with pytest.raises(CertificationError):
        TEST.require_attainable(TEST.largest_radius() * 1.001)


def test_an_unattainable_double_radius_leaves_the_single_one_alone(half_space):
    model, x, noise = half_space([0.1, 0.3, 0.6])
    both = TEST.decide(model, x, (0.25, 0.5), noise=noise)
    alone = TEST.decide(model, x, (0.25,), noise=noise)
    assert both.attainable == (True, False)
    assert torch.equal(both.certified[:, :1], alone.certified)
    assert torch.equal(both.samples, alone.samples)
    assert both.status(0.5) == (Status.UNATTAINABLE,) * 3


def test_a_grid_of_radii_brackets_the_distance(half_space):
    distances = [0.07, 0.16, 0.33]
    model, x, noise = half_space(distances)
    grid = tuple(0.03 * k for k in range(1, 14))
    found = replace(TEST, n_max=20_000).decide(model, x, grid, noise=noise)
    for radius, distance in zip(found.radius.tolist(), distances, strict=True):
        assert distance - 0.05 < radius <= distance


def test_one_claim_settles_all_classes():
    found = simulate(replace(TEST, alpha=0.9), (0.0,), [0.5, 0.5], guess=0, runs=2000)
    assert (found.certified.sum(dim=1) <= 1).all()
    assert found.certified.any()


def test_no_inputs_is_no_error(half_space):
    model, x, _ = half_space([0.1])
    found = TEST.decide(model, x[:0], (0.12,), noise=SampleNoise(0, ()))
    assert found.certified.shape == (0, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma": -0.1}, "sigma"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.0}, "alpha"),
        ({"n_max": 0}, "n_max"),
        ({"beta": 1.0}, "beta"),
        ({"growth": 1.0}, "growth"),
        ({"guess_weight": 0.0}, "share of alpha"),
    ],
)
def test_settings_that_are_no_test_are_refused(settings, words):
    with pytest.raises(CertificationError, match=words):
        replace(TEST, **settings)


def test_radii_must_ascend_and_the_model_be_in_eval_mode(half_space):
    model, x, noise = half_space([0.1])
    with pytest.raises(CertificationError, match="ascend"):
        TEST.decide(model, x, (0.25, 0.12), noise=noise)
    with pytest.raises(CertificationError, match="training mode"):
        TEST.decide(model.train(), x, (0.12,), noise=noise)
