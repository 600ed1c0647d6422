import pytest
import torch
from torch import nn

from recuse.certify.ibp import Margins
from recuse.errors import CertificationError, ConfigError
from recuse.losses import cross_entropy
from recuse.random import SampleNoise, generator
from recuse.threat import Threat
from recuse.training.forward import Trainee
from recuse.training.ibp import IbpTraining, worst_logits
from recuse.training.schedule import Ramp

EPS = Threat("linf", 0.1)


def network(seed=0):
    layers = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    draw = generator("ibp", seed)
    with torch.no_grad():
        for p in layers.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64))
    return layers.eval()


def batch(n=12):
    draw = generator("points")
    x = torch.rand(n, 2, generator=draw, dtype=torch.float64)
    return x, torch.arange(n) % 3, SampleNoise(0, tuple(map(str, range(n))))


def test_worst_logits_bound_the_loss_everywhere_in_the_ball():
    net, (x, y, noise) = network(), batch()
    bound = cross_entropy(worst_logits(net, x, y, EPS.eps), y)
    for i in range(200):
        moved = EPS.random_start(x, noise.substream(i))
        assert bool((cross_entropy(net(moved), y) <= bound + 1e-9).all())


def test_at_radius_zero_they_give_the_clean_loss():
    net, (x, y, _) = network(), batch()
    torch.testing.assert_close(
        cross_entropy(worst_logits(net, x, y, 0.0), y), cross_entropy(net(x), y)
    )


def test_gradient_with_respect_to_the_weights_is_right():
    net, (x, y, noise) = network(), batch(3)
    weight = net[0].weight
    total = IbpTraining()(net, x, y, EPS, noise=noise).total.sum()
    (grad,) = torch.autograd.grad(total, weight)
    for row, column in ((0, 0), (5, 1), (15, 0)):
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[row, column] += step
                values.append(IbpTraining()(net, x, y, EPS, noise=noise).total.sum().item())
                weight[row, column] -= step
        assert grad[row, column].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_radius_and_kappa_move_along_the_ramp():
    net, (x, y, noise) = network(), batch()
    objective = IbpTraining(kappa=0.25, ramp=Ramp(0.2, 0.6))
    clean = cross_entropy(net(x), y)
    start = objective(net, x, y, EPS, noise=noise, progress=0.1)
    torch.testing.assert_close(start.total, clean)
    end = objective(net, x, y, EPS, noise=noise, progress=0.7)
    worst = cross_entropy(worst_logits(net, x, y, EPS.eps), y)
    torch.testing.assert_close(end.total, 0.25 * clean + 0.75 * worst)
    half = objective(net, x, y, EPS, noise=noise, progress=0.4)
    worst = cross_entropy(worst_logits(net, x, y, 0.5 * EPS.eps), y)
    torch.testing.assert_close(half.total, 0.625 * clean + 0.375 * worst)
    assert torch.equal(half.correct, net(x).argmax(1) == y)


def test_training_by_it_makes_bounds_that_prove():
    net, (x, _, _) = network(1), batch(300)
    y = (x[:, 0] > 0.5).long()
    noise = SampleNoise(0, tuple(map(str, range(300))))
    clear = (x[:, 0] - 0.5).abs() > 2 * EPS.eps

    def proven():
        return float(Margins.of(net).prove(x, y, EPS.eps)[clear].float().mean())

    before, optimizer = proven(), torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(150):
        optimizer.zero_grad()
        terms = IbpTraining()(Trainee(net), x, y, EPS, noise=noise, progress=step / 150)
        terms.total.mean().backward()
        optimizer.step()
    assert before < 0.6
    assert proven() > 0.95


def test_what_it_cannot_bound_is_refused():
    net, (x, y, noise) = network(), batch()
    with pytest.raises(CertificationError, match="linf"):
        IbpTraining()(net, x, y, Threat("l2", 0.1), noise=noise)
    with pytest.raises(ConfigError, match="kappa"):
        IbpTraining(kappa=1.5)
