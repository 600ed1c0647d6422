"""Multiplying all logits by k > 0 changes no answer, so it changes no verdict."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from recuse.attacks import (
    Apgd,
    Confidence,
    CrossEntropy,
    Dlr,
    Ensemble,
    Margin,
    Pgd,
    Square,
    StreamSettings,
    decide_stream,
)
from recuse.attacks.binding import (
    LARGEST_MARGIN,
    bind,
    spread,
    too_large,
    too_small,
    usual_temperature,
)
from recuse.data.cifar import Cifar10
from recuse.models.zoo import load_model
from recuse.selectors import RobustnessIndicator
from recuse.threat import Threat

from .conftest import Scaled, make_noise

FACTORS = (1e-3, 1.0, 1e2, 1e3, 1e6)
ORDINARY = 30.0  # gives the untrained network logits of a trained one's size
IMAGES = 48
REAL = 64
ATTACKS = {
    "apgd-ce": Apgd(steps=10),
    "pgd-ce": Pgd(steps=10),
    "apgd-dlr": Apgd(steps=10, loss=Dlr()),
    "apgd-margin": Apgd(steps=10, loss=Margin()),
    "square": Square(40),
    "ensemble": Ensemble((Apgd(steps=4), Apgd(steps=4, loss=Dlr()), Square(10))),
}


@pytest.fixture(scope="module")
def case(conv):
    model = copy.deepcopy(conv).float()
    x = torch.rand(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return model, x, model(x).argmax(1)


def times(model, k):
    return Scaled(model, ORDINARY * k).eval()


def broken(name, case, k, threat):
    model, x, y = case
    attack = ATTACKS[name]
    return attack(times(model, k), x, y, threat, noise=make_noise(IMAGES)).success


def check_same(robust):
    """As many robust at every scale; cross-entropy as published may leave a few more at k = 1."""
    others = [count for k, count in robust.items() if k != 1.0]
    assert max(others) - min(others) <= 1, robust
    assert robust[1.0] - 3 <= min(others), robust
    assert max(others) <= robust[1.0] + 1, robust


@pytest.mark.parametrize("threat", [Threat("linf", "8/255"), Threat("l2", 0.25)], ids=str)
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_is_weaker_for_logits_of_another_size(case, name, threat):
    found = {k: int(broken(name, case, k, threat).sum()) for k in FACTORS}
    assert 4 < found[1.0] < 44
    check_same({k: IMAGES - count for k, count in found.items()})


def test_the_indicator_selects_the_same(case):
    model, x, _ = case
    selector = RobustnessIndicator(Threat("linf", "8/255"), Apgd(steps=9))
    kept = {k: int(selector(times(model, k), x, noise=make_noise(IMAGES)).sum()) for k in FACTORS}
    assert 8 < kept[1.0] < 40
    check_same(kept)


@pytest.mark.parametrize("loss", [CrossEntropy(), Dlr()])
def test_a_stream_decides_the_same(case, loss):
    model, x, _ = case
    pairs = list(zip(make_noise(IMAGES).ids, x, strict=True))
    kept = {}
    for k in FACTORS:
        stream = decide_stream(
            times(model, k),
            pairs,
            Threat("linf", "8/255"),
            attack=Apgd(steps=10, loss=loss),
            settings=StreamSettings(slots=16, refill=4),
        )
        kept[k] = sum(decision.robust for decision in stream)
    assert 8 < kept[1.0] < 40
    check_same(kept)


@pytest.mark.parametrize("k", [1e2, 1e4, 1e8])
def test_a_confidence_that_rounds_to_0_or_1_is_still_pushed_and_keeps_its_meaning(case, k):
    model, x, y = case
    found = Apgd(steps=10, loss=Confidence()).maximise(
        times(model, k), x, y, Threat("linf", "8/255"), noise=make_noise(IMAGES)
    )
    told = Confidence()(times(model, k)(found.x_adv), y).detach()
    assert torch.equal(found.value, told)  # at scale 1: a threshold in probability refers to it
    wrong = broken("apgd-margin", case, 1.0, Threat("linf", "8/255"))
    assert int((found.value > 0.5).sum()) >= int(wrong.sum()) - 1


def logits_of(*rows):
    return torch.tensor(rows, requires_grad=True)


def test_ordinary_rows_keep_every_bit_beside_rows_of_another_size():
    g = torch.Generator().manual_seed(0)
    ordinary = 3 * torch.randn(16, 10, generator=g)
    mixed = torch.cat([ordinary, 1e3 * ordinary, 1e-3 * ordinary]).requires_grad_()
    y = mixed.argmax(1)
    assert not (too_large(ordinary) | too_small(ordinary)).any()
    for loss in (CrossEntropy(), Confidence()):
        value = bind(loss, mixed.detach(), y)(mixed, torch.arange(48))
        (grad,) = torch.autograd.grad(value.sum(), mixed)
        alone = ordinary.clone().requires_grad_()
        expected = loss(alone, y[:16])
        (slope,) = torch.autograd.grad(expected.sum(), alone)
        assert torch.equal(value[:16], expected)
        assert torch.equal(grad[:16], slope)
        # ... and these have a slope again, where float32 has none.
        large = (3e3 * ordinary).requires_grad_()
        (none,) = torch.autograd.grad(loss(large, y[:16]).sum(), large)
        assert (none.abs().amax(1) == 0).sum() > 8
        assert (grad[16:32].abs().amax(1) > 0).all()


def test_stand_ins_order_points_as_their_losses_do():
    z = 3 * torch.randn(64, 10, dtype=torch.float64)
    y, one = z.roll(1, 1).argmax(1), torch.ones(64, dtype=torch.float64)
    odds = CrossEntropy().tempered(z, y, one)
    torch.testing.assert_close(F.softplus(odds), CrossEntropy()(z, y))
    torch.testing.assert_close(Confidence().tempered(z, y, one).exp(), Confidence()(z, y))


def test_a_temperature_follows_the_size_of_the_logits_alone():
    z = 3 * torch.randn(32, 10)
    for k in (1e-6, 1e-3, 1e3, 1e20, 1e30):
        torch.testing.assert_close(usual_temperature(k * z), k * usual_temperature(z))
        assert (too_small(k * z) if k < 1 else too_large(k * z)).all()


def test_dead_classes_and_few_classes_are_ordinary():
    dead = logits_of([6.0, 2.0, 1.0, 0.0, -1.0, -2.0, -1e9, -1e9]).detach()
    assert float(spread(dead)) < 5
    assert not too_large(dead)
    for few in ([4.0, 1.0], [4.0, 3.9, -2.0]):
        assert not (too_large(logits_of(few)) | too_small(logits_of(few)))
    assert too_large(logits_of([LARGEST_MARGIN + 0.1, 0.0, -1.0]))


def test_a_tie_has_a_temperature_and_a_slope():
    tied = logits_of([500.0, 500.0, -500.0], [1e-4, 1e-4, 0.0], [2e4, 0.0, 0.0])
    value = bind(CrossEntropy(), tied.detach(), torch.zeros(3, dtype=torch.int64))
    (grad,) = torch.autograd.grad(value(tied, torch.arange(3)).sum(), tied)
    assert grad.isfinite().all()
    assert (grad.abs().amax(1) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_resnet4b_adv2", "cifar10_resnet20_std"])
def test_real_networks_are_judged_the_same_at_every_scale(shared_data, shared_models, name):
    model = load_model(name, data_root=shared_data)[0].eval()
    split = Cifar10().load_test(shared_data).head(REAL)
    x, threat, noise = split.images, Threat("linf", "2/255"), make_noise(REAL)
    with torch.no_grad():
        y = model(x).argmax(1)
    selector = RobustnessIndicator(threat, Apgd(steps=39))
    judged, kept = {}, {}
    for k in (1e-3, 1.0, 1e2, 1e6):
        scaled = Scaled(model, k).eval()
        judged[k] = int(Apgd()(scaled, x, y, threat, noise=noise).success.sum())
        kept[k] = int(selector(scaled, x, noise=noise).sum())
    assert all(abs(count - judged[1.0]) <= 1 for count in judged.values()), judged
    assert all(abs(count - kept[1.0]) <= 1 for count in kept.values()), kept
