"""Losses of smoothed classifiers: golden values, closed forms, gradients."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from recuse.losses import smoothing


def logits(batch=6, k=5, classes=4, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, k, classes, generator=generator, dtype=torch.float64)


Y = torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.fixture(scope="module")
def golden(shared_reference: Path):
    return {k: torch.tensor(v) for k, v in np.load(shared_reference / "loss_goldens.npz").items()}


def test_soft_radius_matches_the_original_code(golden):
    ours = smoothing.soft_radius(golden["noisy_logits"], sigma=0.12, gamma=4.0)
    torch.testing.assert_close(ours, golden["cert_radius_predicted"], rtol=0, atol=1e-10)


def test_cra_matches_the_original_code(golden):
    noisy, y = golden["noisy_logits"], golden["noisy_targets"]
    noise_loss = smoothing.mean_logits_cross_entropy
    torch.testing.assert_close(
        noise_loss(noisy, y), golden["classification_of_mean_logits"], rtol=0, atol=1e-10
    )
    ours = smoothing.cra(noisy, y, sigma=0.12, beta=1.0, noise_loss=noise_loss)
    torch.testing.assert_close(ours, golden["cra_total_beta1"], rtol=0, atol=1e-10)


def test_soft_radius_is_the_textbook_formula():
    noisy = logits()
    z = np.sort(torch.softmax(3 * noisy, 2).mean(1).numpy(), axis=1)
    expected = 0.25 / 2 * (norm.ppf(z[:, -1]) - norm.ppf(z[:, -2]))
    ours = smoothing.soft_radius(noisy, sigma=0.25, gamma=3.0)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)


def test_label_radius_is_the_prediction_radius_with_the_sign_of_being_right():
    noisy = logits(classes=2)
    predicted = torch.softmax(4 * noisy, 2).mean(1).argmax(1)
    right = smoothing.soft_radius(noisy, sigma=0.5, radius_of="label", y=predicted)
    wrong = smoothing.soft_radius(noisy, sigma=0.5, radius_of="label", y=1 - predicted)
    radius = smoothing.soft_radius(noisy, sigma=0.5)
    torch.testing.assert_close(right, radius)
    torch.testing.assert_close(wrong, -radius, rtol=0, atol=1e-4)
    assert (radius > 0).all()


def test_many_cold_draws_give_the_certified_radius_of_their_votes():
    votes = torch.tensor([70, 90, 99])
    noisy = torch.full((3, 100, 2), -50.0, dtype=torch.float64)
    for row, count in enumerate(votes):
        noisy[row, :count, 0] = 50.0
        noisy[row, count:, 1] = 50.0
    expected = 0.12 * norm.ppf(votes.numpy() / 100)
    ours = smoothing.soft_radius(noisy, sigma=0.12)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)


def test_penalty_vanishes_on_confidently_right_inputs_and_not_on_wrong_ones():
    noisy = torch.zeros(2, 4, 3, dtype=torch.float64)
    noisy[:, :, 1] = 40.0
    penalty = smoothing.cra_penalty(noisy, torch.tensor([1, 0]), sigma=0.12)
    assert penalty[0] < 1e-12
    torch.testing.assert_close(penalty[1], smoothing.soft_radius(noisy, sigma=0.12)[1])


def test_losses_under_noise_are_ordered_by_convexity():
    noisy = logits()
    each = smoothing.gaussian(noisy, Y)
    assert (smoothing.mean_logits_cross_entropy(noisy, Y) <= each + 1e-12).all()
    assert (smoothing.mean_probability_cross_entropy(noisy, Y) <= each + 1e-12).all()
    one = noisy[:, :1]
    torch.testing.assert_close(
        smoothing.gaussian(one, Y),
        smoothing.cra(one, Y, sigma=1.0) - smoothing.cra_penalty(one, Y, sigma=1.0),
    )
    torch.testing.assert_close(
        smoothing.mean_probability_cross_entropy(one, Y), smoothing.gaussian(one, Y)
    )


def test_macer_enlarges_only_radii_that_are_right_and_short():
    noisy = logits()
    hinge = smoothing.macer(noisy, Y, sigma=0.25, weight=1.0) - (
        smoothing.mean_probability_cross_entropy(noisy, Y)
    )
    z = torch.softmax(16 * noisy, 2).mean(1)
    right = z.argmax(1) == Y
    assert right.any()
    assert not right.all()
    radius = smoothing.soft_radius(noisy, sigma=0.25, gamma=16.0)
    expected = torch.where(right, (0.125 * 8.0 - radius).clamp_min(0), torch.zeros_like(radius))
    torch.testing.assert_close(hinge, expected)


@pytest.mark.parametrize(
    "loss",
    [
        smoothing.gaussian,
        smoothing.mean_logits_cross_entropy,
        smoothing.mean_probability_cross_entropy,
        lambda z, y: smoothing.soft_radius(z, sigma=0.25),
        lambda z, y: smoothing.soft_radius(z, sigma=0.25, radius_of="label", y=y),
        lambda z, y: smoothing.cra(z, y, sigma=0.12, beta=2.0),
        lambda z, y: smoothing.cra_penalty(z, y, sigma=0.12, radius_of="label"),
        lambda z, y: smoothing.macer(z, y, sigma=0.25, gamma=2.0),
    ],
)
def test_gradients_are_finite_differences(loss):
    noisy = logits(scale=0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, Y), (noisy,))


def test_gradients_stay_finite_where_every_draw_agrees():
    noisy = torch.zeros(2, 4, 3)
    noisy[:, :, 1] = 1000.0
    noisy.requires_grad_()
    y = torch.tensor([0, 1])
    for radius_of in ("prediction", "label"):
        total = smoothing.cra(noisy, y, sigma=0.12, radius_of=radius_of).sum()
        (gradient,) = torch.autograd.grad(total, noisy)
        assert math.isfinite(total.item())
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: smoothing.soft_radius(logits(), sigma=0.0), "positive"),
        (lambda: smoothing.soft_radius(logits(), sigma=1.0, radius_of="label"), "together with y"),
        (lambda: smoothing.soft_radius(logits(classes=1), sigma=1.0), "one class"),
        (lambda: smoothing.gaussian(logits(k=0), Y), "k >= 1"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
