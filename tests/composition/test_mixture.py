import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recuse.attacks import Apgd
from recuse.composition import (
    AdaptiveAdversary,
    Cascade,
    Core,
    LogitMixture,
    ProbabilityMixture,
)
from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.threat import Threat


def points(n, seed=0):
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 100), st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_probabilities_are_the_weighted_mean(linear_models, seed, alpha):
    robust, standard, x = (
        linear_models.random_linear(seed),
        linear_models.random_linear(seed + 1),
        points(30, seed),
    )
    mixed = ProbabilityMixture(robust, standard, alpha=alpha)(x)
    expected = alpha * robust(x).softmax(1) + (1 - alpha) * standard(x).softmax(1)
    torch.testing.assert_close(mixed.exp(), expected)
    torch.testing.assert_close(mixed.softmax(1), expected)


@pytest.mark.parametrize("kind", [LogitMixture, ProbabilityMixture])
def test_extreme_weights_give_the_members(linear_models, kind):
    robust, standard, x = linear_models.random_linear(0), linear_models.random_linear(1), points(90)
    assert torch.equal(kind(robust, standard, alpha=1.0)(x).argmax(1), robust(x).argmax(1))
    assert torch.equal(kind(robust, standard, alpha=0.0)(x).argmax(1), standard(x).argmax(1))


def test_a_sure_robust_model_outvotes_the_other(linear_models):
    """With weight a > 1/2, a robust margin above (1 - a) / a in probability decides alone."""
    robust, standard, x = (
        linear_models.random_linear(2),
        linear_models.random_linear(3),
        points(500),
    )
    alpha = 0.7
    top = robust(x).softmax(1).topk(2, dim=1).values
    sure = top[:, 0] - top[:, 1] > (1 - alpha) / alpha
    mixed = ProbabilityMixture(robust, standard, alpha=alpha)(x).argmax(1)
    assert 20 < int(sure.sum()) < 500
    assert torch.equal(mixed[sure], robust(x).argmax(1)[sure])


def test_the_adversary_of_compositions_is_at_least_as_strong_as_its_plain_attack(linear_models):
    x = points(200)
    net = ProbabilityMixture(
        linear_models.random_linear(5), linear_models.random_linear(6), alpha=0.6
    )
    y = linear_models.random_linear(5)(x).argmax(1)
    eps, noise = Threat("linf", "0.05"), SampleNoise(0, tuple(str(i) for i in range(200)))
    found = AdaptiveAdversary(attacks=(Apgd(),))(Cascade((), Core(net), eps), x, y, noise=noise)
    plain = Apgd()(net, x, y, eps, noise=noise)
    assert int((~found.robust).sum()) >= int(plain.success.sum()) > 0


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda a, b: LogitMixture(a, b, alpha=1.2), "weight"),
        (lambda a, b: ProbabilityMixture(a, b, alpha=0.5)(points(2)), "4 classes but the standard"),
    ],
)
def test_misfits_are_one_sentence(linear_models, build, sentence):
    four, three = (linear_models.random_linear(0, classes=c) for c in (4, 3))
    with pytest.raises(ConfigError, match=sentence):
        build(four, three)


def test_the_adversary_sees_through_a_saturated_member() -> None:
    """The standard model is sure everywhere, so its probabilities have no gradient: APGD fails."""
    robust, standard = nn.Linear(2, 2, dtype=torch.float64), nn.Linear(2, 2, dtype=torch.float64)
    for linear, row in ((robust, [0.0, 1.0]), (standard, [1e4, 0.0])):
        linear.weight.data = torch.tensor([row, [-w for w in row]], dtype=torch.float64)
        linear.bias.data = -linear.weight.data.sum(1) / 2
    mixed = ProbabilityMixture(robust, standard, alpha=0.6)
    x = torch.tensor([[0.6, 0.6]], dtype=torch.float64)
    y, noise, threat = torch.tensor([0]), SampleNoise(0, ("a",)), Threat("linf", "0.2")
    assert not Apgd()(mixed, x, y, threat, noise=noise, start=x).success.item()
    found = AdaptiveAdversary()(Cascade((), Core(mixed), threat), x, y, noise=noise)
    assert found.correct.item()
    assert not found.robust.item()


def test_a_mixture_falls_where_both_members_lean_to_one_class() -> None:
    """The core's nearest other class is none of the robust network's: only an aim unites them."""
    robust, standard = (nn.Linear(2, 3, dtype=torch.float64) for _ in range(2))
    robust.weight.data = torch.zeros(3, 2, dtype=torch.float64)
    robust.bias.data = torch.tensor([0.8, 0.19, 0.01], dtype=torch.float64).log()
    # Answers 2 where the second number is below 0.5, 1 where it is above 0.75, else 0.
    standard.weight.data = torch.tensor([[0.0, 0.0], [0.0, 1e4], [0.0, -1e4]]).double()
    standard.bias.data = torch.tensor([0.0, -7.5e3, 5e3], dtype=torch.float64)
    mixed = ProbabilityMixture(robust, standard, alpha=0.6)
    x = torch.tensor([[0.5, 0.55]], dtype=torch.float64)
    y, noise, threat = torch.tensor([0]), SampleNoise(0, ("a",)), Threat("linf", "0.3")
    cascade = Cascade((), Core(mixed), threat)
    found = {n: AdaptiveAdversary(targets=n)(cascade, x, y, noise=noise) for n in (0, 1)}
    assert found[0].robust.item()
    assert found[1].correct.item()
    assert not found[1].robust.item()
    assert mixed(found[1].x_adv).argmax(1).item() == 1
