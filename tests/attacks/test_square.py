"""The square attack climbs as high as the official one, and draws nothing but its own noise."""

import pytest
import torch
from pyautoattack.square import SquareAttack
from torch import nn

from recuse.attacks import Square
from recuse.attacks.square import window_share
from recuse.threat import Threat

from .conftest import make_noise


class Ramp(nn.Module):
    """Two classes; the margin falls along a fixed random direction and never changes sign."""

    def __init__(self, shape):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.direction = torch.randn(torch.Size(shape).numel(), generator=g)

    def forward(self, x):
        height = (x.flatten(1) - 0.5) @ self.direction
        return torch.stack([height + 1000, -height], 1)

    def share_climbed(self, x, x_adv, threat):
        dual = torch.linalg.vector_norm(self.direction, ord={"linf": 1, "l2": 2}[threat.norm])
        climbed = (x - x_adv).flatten(1) @ self.direction
        return float((climbed / (threat.eps * dual)).mean())


@pytest.mark.parametrize("text", ["linf:0.1", "l2:0.5"])
def test_climbs_as_high_as_the_official_attack(text):
    shape, n, queries, threat = (3, 15, 15), 24, 150, Threat.parse(text)
    model = Ramp(shape)
    x = 0.5 + 0.02 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))
    y = torch.zeros(n, dtype=torch.int64)
    ours = Square(queries)(model, x, y, threat, noise=make_noise(n)).x_adv
    anchor = SquareAttack(
        model, norm={"linf": "Linf", "l2": "L2"}[threat.norm], n_queries=queries, eps=threat.eps
    )
    anchor.init_hyperparam(x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, official = anchor.attack_single_run(x, y)
    assert threat.contains(ours, x).all()
    assert model.share_climbed(x, ours, threat) >= model.share_climbed(x, official, threat) - 0.02


def test_breaks_a_model_that_hides_its_gradient(conv, photos):
    class Steps(nn.Module):
        def forward(self, x):
            return conv((x * 16).round() / 16)  # the gradient of round is zero

    model = Steps().eval()
    y = model(photos).argmax(1)
    outcome = Square(60)(model, photos, y, Threat("linf", "24/255"), noise=make_noise(24))
    assert int(outcome.success.sum()) > 5
    assert (outcome.backwards == 0).all()


@pytest.mark.parametrize("queries", [100, 10_000])
def test_windows_shrink_on_the_published_schedule(queries):
    anchor = SquareAttack(None, n_queries=queries, eps=0.1, p_init=0.8)
    for query in range(0, queries, max(queries // 200, 1)):
        assert window_share(query, queries, 0.8) == pytest.approx(anchor.p_selection(query))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 5), (3, 7, 4)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_image_size(shape, norm):
    model = Ramp(shape)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(2))
    threat = Threat(norm, 0.2)
    outcome = Square(30)(model, x, torch.zeros(3, dtype=torch.int64), threat, noise=make_noise(3))
    assert threat.contains(outcome.x_adv, x).all()
    assert model.share_climbed(x, outcome.x_adv, threat) > 0
