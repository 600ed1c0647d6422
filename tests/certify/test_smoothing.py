"""CERTIFY and PREDICT against a classifier whose radius is known."""

import pytest
import torch

from recuse.certify.smoothing import Cohen
from recuse.errors import CertificationError
from recuse.random import SampleNoise
from recuse.results import Status


def test_radius_of_a_half_space_is_its_distance(half_space):
    # The smoothed half-space is the half-space, and the bound is tight for it.
    model, x, noise = half_space([-0.2, 0.05, 0.1, 0.2])
    found = Cohen(0.12, n=20_000).decide(model, x, (0.0,), noise=noise)
    assert found.prediction.tolist() == [1, 0, 0, 0]
    distance = torch.tensor([0.2, 0.05, 0.1, 0.2], dtype=torch.float64)
    assert (found.radius <= distance).all()
    torch.testing.assert_close(found.radius, distance, rtol=0, atol=0.01)
    assert found.samples.tolist() == [20_100] * 4


def test_certify_at_a_radius_abstains_below_it(half_space):
    model, x, noise = half_space([0.05, 0.2])
    found = Cohen(0.12, n=5000).decide(model, x, (0.12,), noise=noise)
    assert found.status(0.12) == (Status.ABSTAINED, Status.CERTIFIED)
    assert found.radius[0] < 0.12
    assert found.radius[1] >= 0.12


def test_predict_abstains_at_the_boundary_and_never_returns_it_as_a_class(half_space):
    model, x, noise = half_space([0.0, 0.2, -0.2], classes=3)
    found = Cohen(0.12, n=500).predict(model, x, noise=noise)
    assert found.status(0.0) == (Status.ABSTAINED, Status.CERTIFIED, Status.CERTIFIED)
    assert found.prediction.tolist()[1:] == [0, 1]
    assert ((found.prediction >= 0) & (found.prediction < 3)).all()


def test_batching_and_order_change_nothing(half_space):
    model, x, noise = half_space([-0.1, 0.02, 0.07, 0.3])
    whole = Cohen(0.12, n=1000, batch_size=512).decide(model, x, (0.0,), noise=noise)
    order = [2, 0, 3, 1]
    other, noise = Cohen(0.12, n=1000, batch_size=24), noise.take(order)
    again = other.decide(model, x[order], (0.0,), noise=noise)
    assert torch.equal(again.radius, whole.radius[order])
    assert torch.equal(again.prediction, whole.prediction[order])


def test_no_inputs_is_no_error(half_space):
    model, x, _ = half_space([0.1])
    found = Cohen(0.12, n=100).decide(model, x[:0], (0.01, 0.02), noise=SampleNoise(0, ()))
    assert found.status(0.02) == ()
    assert found.radius.shape == (0,)
    assert found.certified.shape == (0, 2)
    assert found.certified.dtype == torch.bool


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma": 0.0}, "sigma is 0"),
        ({"sigma": 0.12, "alpha": 1.0}, "alpha is 1"),
        ({"sigma": 0.12, "alpha": 0.0}, "alpha is 0"),
        ({"sigma": 0.12, "n": 9, "alpha": 0.001}, "at least 10"),
        ({"sigma": 0.12, "n0": 0}, "n0 = 0"),
    ],
)
def test_settings_that_prove_nothing_are_refused(settings, words):
    with pytest.raises(CertificationError, match=words):
        Cohen(**settings)
