"""On a linear model the nearest boundary point is known: attacks find it, and nothing nearer."""

import pytest
import torch

from recuse.attacks import (
    Apgd,
    CrossEntropy,
    Dlr,
    Ensemble,
    Margin,
    Pgd,
    Screened,
    Square,
    TargetedDlr,
    attack_radii,
    standard_ensemble,
)
from recuse.threat import Threat

from .conftest import make_linear, make_noise, near_centre

# The contract's tests make the same calls with their types checked.
pytestmark = pytest.mark.types_checked_elsewhere

GRADIENT_ATTACKS = {
    "pgd": Pgd(steps=20),
    "pgd-from-x": Pgd(steps=20, random_start=False),
    "apgd-ce": Apgd(),
    "apgd-dlr": Apgd(loss=Dlr()),
    "apgd-margin": Apgd(loss=Margin()),
    "ensemble": Ensemble((Pgd(steps=20), Apgd())),
}


def at_distance(model, x, y, norm, factor):
    """Verdict of each row, each at its own radius: ``factor`` times its exact distance."""
    return [Threat(norm, float(d) * factor) for d in model.distance(x, y, norm)]


def verdicts(attack, model, x, y, threats, batch):
    """One attack per radius; rows that share a call get their own radius one after another."""
    found = []
    for row, threat in enumerate(threats):
        rows = torch.arange(row, row + batch) % len(x)
        noise = make_noise(len(x)).take(rows.tolist())
        outcome = attack(model, x[rows], y[rows], threat, noise=noise)
        assert threat.contains(outcome.x_adv, x[rows]).all()
        changed = model(outcome.x_adv).argmax(1) != y[rows]
        assert torch.equal(outcome.success, changed & outcome.success)
        found.append(bool(outcome.success[0]))
    return found


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", GRADIENT_ATTACKS)
def test_two_classes_within_one_percent(name, norm, batch):
    model, x = make_linear(2), near_centre(5)
    y = model(x).argmax(1)
    attack = GRADIENT_ATTACKS[name]
    beyond = at_distance(model, x, y, norm, 1.01)
    below = at_distance(model, x, y, norm, 0.99)
    assert all(verdicts(attack, model, x, y, beyond, batch))
    assert not any(verdicts(attack, model, x, y, below, batch))


@pytest.mark.parametrize(("norm", "factor"), [("linf", 1.01), ("l2", 2.0)])
def test_square_needs_no_gradient_to_find_the_boundary(norm, factor):
    # In linf single pixels reach the very vertex; in l2 the search is as good as its patterns.
    model, x = make_linear(2), near_centre(3)
    y = model(x).argmax(1)
    beyond = at_distance(model, x, y, norm, factor)
    below = at_distance(model, x, y, norm, 0.99)
    assert all(verdicts(Square(600), model, x, y, beyond, 2))
    assert not any(verdicts(Square(200), model, x, y, below, 1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [3, 6])
def test_many_classes_the_targets_include_the_nearest(norm, classes):
    model, x = make_linear(classes, seed=classes), near_centre(3)
    y = model(x).argmax(1)
    attack = Ensemble(tuple(Apgd(loss=TargetedDlr(r)) for r in range(1, classes)))
    beyond = at_distance(model, x, y, norm, 1.01)
    below = at_distance(model, x, y, norm, 0.99)
    assert all(verdicts(attack, model, x, y, beyond, 1))
    assert not any(verdicts(standard_ensemble(classes, queries=50), model, x, y, below, 1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radii_break_exactly_beyond_the_distance(norm):
    model, x = make_linear(2), near_centre(4)
    y = model(x).argmax(1)
    distances = model.distance(x, y, norm)
    radii = sorted({float(d) * f for d in distances for f in (0.99, 1.01)})
    threats = [Threat(norm, r) for r in radii]
    found = attack_radii(model, x, y, threats, Apgd(), noise=make_noise(4))
    for threat, broken in zip(threats, found.broken, strict=True):
        assert torch.equal(broken, distances < threat.eps)


def test_screen_on_a_coarser_copy_keeps_the_exact_verdict():
    model, x = make_linear(2), near_centre(8)
    y = model(x).argmax(1)
    coarse = make_linear(2)
    coarse.weight.data = coarse.weight.data.to(torch.bfloat16).double()
    coarse.bias.data += 0.05  # breaks where the model does not, and the other way round
    attack = Screened(Apgd(), coarse, Apgd(steps=5))
    eps = float(model.distance(x, y, "linf").median()) * 1.001
    outcome = attack(model, x, y, Threat("linf", eps), noise=make_noise(8))
    assert torch.equal(outcome.success, model.distance(x, y, "linf") < eps)


def test_cross_entropy_is_ascended_towards_the_only_other_class():
    model, x = make_linear(2), near_centre(3)
    y = model(x).argmax(1)
    eps = 0.01
    worst = Apgd(loss=CrossEntropy()).maximise(
        model, x, y, Threat("linf", eps), noise=make_noise(3)
    )
    gap = model.weight[1] - model.weight[0]
    away = torch.where(y == 0, 1.0, -1.0)[:, None] * gap.sign()
    exact = CrossEntropy()(model(x + eps * away.view_as(x)), y)
    torch.testing.assert_close(worst.value, exact.detach(), rtol=1e-9, atol=0)
