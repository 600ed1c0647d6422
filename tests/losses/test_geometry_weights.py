"""GAIRAT's weights: mean one, falling in kappa, and the three published curves."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recuse.losses import gairat_weights, gairat_weights_discrete, gairat_weights_sigmoid

STEPS = 10
FORMS = {
    "tanh": gairat_weights,
    "sigmoid": gairat_weights_sigmoid,
    "discrete": gairat_weights_discrete,
}
CURVES = {
    "tanh": lambda k: (1 + math.tanh(-1 + 5 * (1 - 2 * k / STEPS))) / 2,
    "sigmoid": lambda k: 1 / (1 + math.exp(-(-1 + 5 * (1 - 2 * k / STEPS)))),
    "discrete": lambda k: 1 - k / (STEPS + 1),
}


@pytest.mark.parametrize("form", FORMS)
@given(kappa=st.lists(st.integers(0, STEPS), min_size=1, max_size=40))
def test_mean_is_one(form, kappa):
    weights = FORMS[form](torch.tensor(kappa), STEPS)
    assert weights.mean().item() == pytest.approx(1, abs=1e-5)
    assert (weights >= 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_weights_fall_with_kappa(form):
    weights = FORMS[form](torch.arange(STEPS + 1), STEPS)
    assert (weights.diff() < 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_ratios_follow_the_published_curve(form):
    weights = FORMS[form](torch.arange(STEPS + 1), STEPS).double()
    curve = torch.tensor([CURVES[form](k) for k in range(STEPS + 1)], dtype=torch.float64)
    torch.testing.assert_close(weights, curve / curve.mean(), rtol=1e-4, atol=1e-6)
    exact = FORMS[form](torch.arange(STEPS + 1).double(), STEPS, scaled=False)
    torch.testing.assert_close(exact, curve, rtol=1e-12, atol=1e-12)


def test_large_lambda_makes_all_samples_equal():
    weights = gairat_weights(torch.arange(STEPS + 1), STEPS, lam=100.0)
    torch.testing.assert_close(weights, torch.ones(STEPS + 1))


@pytest.mark.parametrize("form", FORMS)
def test_no_steps_is_refused(form):
    with pytest.raises(ValueError, match="at least 1"):
        FORMS[form](torch.tensor([0]), 0)


@pytest.mark.parametrize("lam", [-1.0, -6.0, -20.0])
def test_a_batch_far_from_every_boundary_still_has_weights_of_mean_one(lam):
    # In single precision tanh(lam - 5) is exactly -1 here: all weights would be 0 / 0.
    weights = gairat_weights(torch.full((8,), STEPS), STEPS, lam=lam)
    torch.testing.assert_close(weights, torch.ones(8))
