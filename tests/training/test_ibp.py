import pytest
import torch
from torch import nn

from recuse.attacks.pgd import Pgd
from recuse.certify.ibp import Margins
from recuse.errors import CertificationError, ConfigError
from recuse.losses import cross_entropy
from recuse.random import SampleNoise, generator
from recuse.threat import Threat
from recuse.training.forward import Trainee
from recuse.training.ibp import IbpTraining, MtlIbp, Sabr, worst_logits
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


def by_hand(net, low, high, y):
    """Worst cross-entropy of two layers: each ``f_c - f_y`` bounded, number by number."""
    first, last = net[0], net[2]
    values = []
    for ends, label in zip(zip(low.tolist(), high.tolist(), strict=True), y.tolist(), strict=True):
        hidden = []
        for row, bias in zip(first.weight.tolist(), first.bias.tolist(), strict=True):
            sides = [sorted((w * a, w * b)) for w, a, b in zip(row, *ends, strict=True)]
            down, up = (bias + sum(side[i] for side in sides) for i in (0, 1))
            hidden.append((max(down, 0.0), max(up, 0.0)))
        worst = []
        for c in range(3):
            change = (last.weight[c] - last.weight[label]).tolist()
            top = sum(max(w * a, w * b) for w, (a, b) in zip(change, hidden, strict=True))
            worst.append(top + (last.bias[c] - last.bias[label]).item())
        values.append(torch.tensor(worst, dtype=torch.float64).logsumexp(0))
    return torch.stack(values)


def uphill(net, x, y, start, eps, steps):
    """PGD away from the label, written out."""
    moved = start
    for _ in range(steps):
        leaf = moved.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(net(leaf), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, leaf)
        moved = (x + (moved + 0.5 * eps * grad.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return moved.detach()


ATTACK = Pgd(steps=3, step_size_relative=0.5)


@pytest.mark.parametrize(("progress", "grown"), [(0.0, 0.0), (0.4, 0.05), (1.0, 0.1)])
def test_mtl_ibp_blends_the_bound_with_an_adversarial_loss(progress, grown):
    net, (x, y, noise) = network(), batch()
    objective = MtlIbp(alpha=0.3, attack=ATTACK, ramp=Ramp(0.2, 0.6))
    found = objective(Trainee(net), x, y, EPS, noise=noise, progress=progress)
    start = Threat("linf", grown).random_start(x, noise.substream("attack"))
    x_adv = uphill(net, x, y, start, grown, ATTACK.steps)
    worst = by_hand(net, (x - grown).clamp(0, 1), (x + grown).clamp(0, 1), y)
    adversarial = torch.nn.functional.cross_entropy(net(x_adv), y, reduction="none")
    torch.testing.assert_close(found.total, 0.3 * worst + 0.7 * adversarial)
    torch.testing.assert_close(found.parts["worst"], worst)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_sabr_bounds_a_small_box_around_an_adversarial_point(share):
    net, (x, y, noise) = network(), batch()
    objective = Sabr(share=share, attack=ATTACK, ramp=Ramp())
    found = objective(Trainee(net), x, y, EPS, noise=noise)
    reach, half = (1 - share) * EPS.eps, share * EPS.eps
    start = Threat("linf", reach).random_start(x, noise.substream("attack"))
    centre = uphill(net, x, y, start, reach, ATTACK.steps)
    worst = by_hand(net, (centre - half).clamp(0, 1), (centre + half).clamp(0, 1), y)
    torch.testing.assert_close(found.total, worst)
    whole = cross_entropy(worst_logits(net, x, y, EPS.eps), y)
    assert bool((found.total <= whole + 1e-9).all())


def test_weights_and_shares_outside_their_range_are_refused():
    with pytest.raises(ConfigError, match="share"):
        Sabr(share=0.0)
    with pytest.raises(ConfigError, match="alpha"):
        MtlIbp(alpha=-0.1)
