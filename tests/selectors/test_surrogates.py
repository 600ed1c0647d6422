"""The contract of every surrogate: above 0 exactly where the deployed selector selects."""

import pytest
import torch
from torch import nn

from recuse.attacks import Apgd
from recuse.certify import Crown, GroupSequential, Ibp
from recuse.composition.members import Stage, ask
from recuse.random import SampleNoise
from recuse.selectors import (
    SELECTORS,
    Always,
    CertifiedIndicator,
    EntropyResponse,
    InnerSearch,
    NarrowIndicator,
    RobustMargin,
    RobustnessIndicator,
    RobustSoftmaxResponse,
    SelectionNetwork,
    SoftmaxResponse,
    selected,
    worst_margin,
)
from recuse.threat import Threat

EPS = Threat("linf", "0.03")
SIDE = 40


def small_network(seed, *, classes=4):
    """Every class wins somewhere on the unit square, here surely and there hardly."""
    draw = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, classes)).double()
    with torch.no_grad():
        net[0].weight.copy_(4 * torch.randn(24, 2, generator=draw, dtype=torch.float64))
        bends = torch.rand(24, 2, generator=draw, dtype=torch.float64)
        net[0].bias.copy_(-(net[0].weight * bends).sum(1))
        net[2].weight.copy_(torch.randn(classes, 24, generator=draw, dtype=torch.float64))
        net[2].bias.zero_().sub_(net(grid()).mean(0))
    return net.eval()


def grid():
    steps = torch.linspace(0, 1, SIDE, dtype=torch.float64)
    return torch.cartesian_prod(steps, steps)


def noise_for(x):
    return SampleNoise(0, tuple(str(i) for i in range(len(x))))


def by_votes(radius):
    certifier = GroupSequential(0.015, n_max=3000)
    return CertifiedIndicator(Threat("l2", radius), certifier, draws=2000)


# How each selector is built for a threshold, and the thresholds of its contract.
CONTRACT = {
    "indicator": (lambda _: RobustnessIndicator(EPS, Apgd()), (0.5,)),
    "narrow-indicator": (lambda _: NarrowIndicator(EPS, 0.01, Apgd()), (0.5,)),
    "robust-margin": (lambda t: RobustMargin(EPS, Apgd(), t), (0.0, 0.1, 0.4, 0.8, 0.99)),
    "softmax": (SoftmaxResponse, (0.5, 0.7, 0.95, 0.999)),
    "robust-softmax": (
        lambda t: RobustSoftmaxResponse(EPS, Apgd(), t),
        (0.45, 0.5, 0.55, 0.7, 0.95),
    ),
    "entropy": (lambda t: EntropyResponse(-t), (0.01, 0.3, 0.6, 1.0)),
    "network": (
        lambda t: SelectionNetwork(small_network(99, classes=2), t),
        (-2.0, 0.0, 1.0, 3.0),
    ),
    # What is proven has a radius for a threshold.
    "certified": (lambda t: CertifiedIndicator(Threat("linf", t), Ibp()), (0.01, 0.03)),
    "certified by linear bounds": (
        lambda t: CertifiedIndicator(Threat("linf", t), Crown()),
        (0.01, 0.03),
    ),
    "certified by votes": (by_votes, (0.01,)),
    # Has no threshold that tells points apart: see below.
    "always": (lambda _: Always(), ()),
}


# Cost seconds on the whole grid.
SLOW = ("certified by linear bounds", "certified by votes")


def test_every_selector_has_a_row():
    assert {name.partition(" ")[0] for name in CONTRACT} == set(SELECTORS)


@pytest.mark.parametrize(
    ("name", "threshold"), [(name, t) for name, (_, ts) in CONTRACT.items() for t in ts]
)
def test_the_sign_of_the_surrogate_is_the_deployed_decision(name, threshold):
    selector, x = CONTRACT[name][0](threshold), grid()
    x = x[::4] if name in SLOW else x
    deployed, met = [], []
    for seed in (1, 2):
        model = small_network(seed)
        logits, scores = ask(Stage(model, selector), x, noise_for(x))
        deployed.append(selected(scores, selector.threshold))
        value = selector.surrogate(model, x, logits.argmax(1), noise=noise_for(x))
        met.append(value > 0)
    deployed, met = torch.cat(deployed), torch.cat(met)
    assert float((deployed == met).double().mean()) >= 0.99
    # The threshold tells points of this grid apart, so the contract says something.
    assert 0.01 < float(deployed.double().mean()) < 0.99


def test_what_always_answers_is_said_to_everywhere():
    model, x, selector = small_network(1), grid(), Always()
    logits, scores = ask(Stage(model, selector), x, noise_for(x))
    assert bool(selected(scores, selector.threshold).all())
    value = selector.surrogate(model, x, logits.argmax(1), noise=noise_for(x))
    assert bool((value > 0).all())


def test_of_several_starts_the_worst_counts():
    """More starts never make a margin look larger; their mean would."""
    model, x = small_network(1), grid()
    labels = model(x).argmax(1)
    one, many = (
        worst_margin(
            model, x, labels, EPS, noise=noise_for(x), search=InnerSearch(steps=1, restarts=starts)
        )
        for starts in (1, 4)
    )
    assert bool((many <= one + 1e-12).all())
    assert int((many < one - 1e-3).sum()) > 100
