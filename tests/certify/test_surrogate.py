"""The smoothed surrogate, and attacks on certificates with it."""

import numpy as np
import pytest
import torch
from scipy import stats

from recuse.attacks import Apgd
from recuse.certify import GroupSequential
from recuse.certify.surrogate import SmoothedSurrogate
from recuse.certify.votes import DrawSource, Voters
from recuse.data import Cifar10
from recuse.models import load_model
from recuse.models.prepared import prepare
from recuse.random import SampleNoise
from recuse.threat import Threat


def test_surrogate_is_the_expected_softmax_of_a_half_space(half_space):
    # A steep half-space: the softmax is a vote, and its mean the known probability.
    model, x, _ = half_space([-0.1, 0.0, 0.05, 0.2])
    steep = torch.nn.Sequential(model, Scale(1e4)).eval()
    surrogate = SmoothedSurrogate(steep, sigma=0.12, k=20_000)
    found = surrogate(x).softmax(dim=1)[:, 0]
    expected = stats.norm.cdf(np.array([-0.1, 0.0, 0.05, 0.2]) / 0.12)
    np.testing.assert_allclose(found.numpy(), expected, atol=4 * 0.5 / 20_000**0.5)
    torch.testing.assert_close(surrogate(x).exp().sum(dim=1), torch.ones(4))


class Scale(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_surrogate_gradient_points_to_the_boundary(half_space):
    model, x, _ = half_space([0.1])
    x.requires_grad_()
    surrogate = SmoothedSurrogate(torch.nn.Sequential(model, Scale(20.0)).eval(), sigma=0.12, k=64)
    (gradient,) = torch.autograd.grad(surrogate(x)[0, 0], x)
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), model.direction, dim=0)
    assert cosine > 0.999


def test_an_attack_reaches_a_half_space_and_certificates_hold_short_of_it(half_space):
    model, x, noise = half_space([0.1, 0.2, 0.3])
    certificate = GroupSequential(0.12, n_max=5000).decide(model, x, (0.12,), noise=noise)
    surrogate = SmoothedSurrogate(torch.nn.Sequential(model, Scale(20.0)).eval(), sigma=0.12)
    attacked = Apgd(steps=20).maximise(
        surrogate, x, certificate.prediction, Threat("l2", 0.12), noise=noise
    )
    votes = Voters(model, attacked.x_adv, 0.12, noise).count_all(2000, DrawSource.of(noise))
    moved = votes.argmax(axis=1) != 0
    assert moved.tolist() == [True, False, False]
    assert certificate.radius.tolist() == [0.0, 0.12, 0.12]


@pytest.mark.slow
def test_no_certificate_of_a_real_network_is_broken(shared_data):
    model = prepare(load_model("cifar10_cnn_a_mix", data_root=shared_data)[0])
    split = Cifar10(test="lossless").load_test(shared_data).head(32)
    noise, sigma, eps = SampleNoise(0, split.ids), 0.08, Threat("l2", 0.12)
    found = GroupSequential(sigma, n_max=4000).decide(model, split.images, (eps.eps,), noise=noise)
    certified = (found.radius > 0).numpy()
    assert 10 <= certified.sum() < 32
    surrogate = SmoothedSurrogate(model, sigma=sigma, k=8)
    attacked = Apgd(steps=40).maximise(surrogate, split.images, found.prediction, eps, noise=noise)
    assert eps.contains(attacked.x_adv, split.images).all()
    votes = Voters(model, attacked.x_adv, sigma, noise).count_all(2000, DrawSource.of(noise))
    share = votes[np.arange(32), found.prediction.numpy()] / 2000
    # A certificate promises more than half of the votes anywhere in the ball.
    assert (share[certified] > 0.5).all()
    # The attack is no straw man: it moves most of what is not certified.
    assert (share[~certified] < 0.5).mean() > 0.5
