"""What must hold on real images and networks, at the sizes that show it."""

import pytest
import torch

from recuse.attacks import Apgd, Confidence
from recuse.certify.ibp import Ibp
from recuse.composition import AdaptiveAdversary, Cascade, Core, Stage, counted, expected_cost
from recuse.data import Cifar10
from recuse.models import load_model
from recuse.random import SampleNoise
from recuse.selectors import RobustnessIndicator
from recuse.selectors.certified import CertifiedIndicator
from recuse.threat import Threat

pytestmark = pytest.mark.slow
ONE = Threat("linf", "1/255")


@pytest.fixture(scope="module")
def images(shared_data):
    return Cifar10().load_test(shared_data)


@pytest.fixture(scope="module")
def network(shared_data, shared_models):
    return lambda name: load_model(name, data_root=shared_data)[0]


def test_no_attack_changes_a_selected_answer_of_a_certified_indicator(images, network):
    part = images.head(1000)
    stage, core = network("cifar10_small_kw_8px"), network("cifar10_small_std")
    selector = CertifiedIndicator(ONE, Ibp())
    cascade = Cascade((Stage(stage, selector, "certified"),), Core(core), ONE)
    noise = SampleNoise(0, part.ids)
    with torch.no_grad():
        answers = stage(part.images).argmax(1)
    found = AdaptiveAdversary(steps=8, queries=15, attacks=(Apgd(steps=20),))(
        cascade, part.images, answers, noise=noise
    )
    # The stage selects most inputs, and nothing it selects is ever another answer.
    assert int((found.natural.stage == 0).sum()) > 800
    assert int((found.broken_by == 0).sum()) == 0
    # The same adversary does change what the core answers.
    assert int((found.broken_by == 1).sum()) > 20
    # Proven at rho + eps: no point of the ball was ever passed on.
    sure = selector.selection(stage, part.images, noise=noise).sound
    assert int(sure.sum()) > 700
    assert not bool((found.abstained[:, 0] & sure).any())
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "count"), [("cifar10_resnet56_std", 48), ("cifar10_resnet4b_adv2", 300)]
)
def test_passes_of_the_indicator(images, network, name, count):
    """Abstaining is cheap because the attack stops at its first success."""
    part, model = images.head(count), network(name)
    selector = RobustnessIndicator(ONE, Apgd(steps=39))
    noise = SampleNoise(0, part.ids)
    costs, kept = [], []
    with counted(model) as passes:
        for row in range(count):
            before = passes.total
            score = selector(model, part.images[row : row + 1], noise=noise.take([row]))
            costs.append(passes.total - before)
            kept.append(bool(score[0]))
    selected, costs = torch.tensor(kept), torch.tensor(costs, dtype=torch.float32)
    assert bool(selected.any())
    assert bool((~selected).any())
    assert float(costs[~selected].mean()) <= 8
    assert float(costs[selected].max()) <= 82


def test_cascade_costs_what_the_formula_says(images, network):
    """Cost per stage and input from one half, probabilities from the other: within 5 %."""
    cascade = Cascade(
        (
            Stage(
                network("cifar10_resnet4b_adv2"), RobustnessIndicator(ONE, Apgd(steps=39)), "first"
            ),
            Stage(network("cifar10_cnn_a_mix"), RobustnessIndicator(ONE, Apgd(steps=39)), "second"),
        ),
        Core(network("cifar10_small_std")),
        ONE,
    )
    cascade.check(images.images)
    first, second = images.head(500), images.take(range(500, 1000))
    measured = cascade.traced(first.images, noise=SampleNoise(0, first.ids))
    used = cascade.traced(second.images, noise=SampleNoise(0, second.ids))
    assert used.cost == pytest.approx(expected_cost(measured.costs, used.abstained), rel=0.05)
    assert used.entered[2] < used.entered[1] < used.entered[0]


def test_plain_attacks_flatter_softmax_response_at_large_radii(images, network):
    """Judged by the wrong attack, softmax response looks safer than it is, the more the larger."""
    part, model = images.head(250), network("cifar10_resnet4b_adv2")
    noise, tau = SampleNoise(0, part.ids), 0.6
    hidden = []
    for eps in ("1/255", "8/255"):
        threat = Threat("linf", eps)
        plain = Apgd()(model, part.images, part.labels, threat, noise=noise).x_adv
        strong = Apgd(loss=Confidence()).maximise(
            model, part.images, part.labels, threat, noise=noise
        )
        with torch.no_grad():
            by_plain = Confidence()(model(plain), part.labels) >= tau
        by_strong = strong.value >= tau
        hidden.append(float((by_strong & ~by_plain).float().mean()))
        assert int((by_plain & ~by_strong).sum()) <= 3
    assert hidden[1] > 0.1
    assert hidden[1] > 3 * hidden[0]
