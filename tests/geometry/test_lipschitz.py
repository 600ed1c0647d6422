from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from recuse.data.cifar import Cifar10
from recuse.errors import ConfigError, DataError
from recuse.geometry.lipschitz import Lipschitz, smoothness
from recuse.models import load_model
from recuse.random import SampleNoise
from recuse.threat import Threat

IDS = tuple(f"x/{i}" for i in range(40))


def _two_class(seed: int = 0, scale: float = 1.0) -> tuple[nn.Module, torch.Tensor]:
    """Logits (w·x, -w·x): the slope is 2 |w|_1 for linf and 2 |w|_2 for l2, everywhere."""
    w = torch.randn(300, generator=torch.Generator().manual_seed(seed)) * scale
    linear = nn.Linear(300, 2, bias=False)
    linear.weight.data = torch.stack([w, -w])
    return nn.Sequential(nn.Flatten(), linear), w


def _inside(n: int = 40) -> torch.Tensor:
    return 0.3 + 0.4 * torch.rand(n, 3, 10, 10, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("threat", [Threat("linf", "8/255"), Threat("l2", 0.2)], ids=str)
def test_linear_model_has_its_closed_form_slope(threat: Threat) -> None:
    model, w = _two_class()
    expected = 2 * (w.abs().sum() if threat.norm == "linf" else w.norm())
    slope = Lipschitz()(model, _inside(), threat, noise=SampleNoise(0, IDS))
    assert (slope <= expected * (1 + 1e-4)).all()
    # The step of a fifth of the radius leaves a few of the 300 pixels off by as much (linf).
    assert (slope >= expected * 0.9).all()
    assert slope.mean() >= expected * 0.98


def test_slope_scales_with_the_weights_and_not_with_a_shift() -> None:
    threat, noise = Threat("linf", "8/255"), SampleNoise(0, IDS)
    small, _ = _two_class(scale=1.0)
    large, _ = _two_class(scale=3.0)
    a, b = (Lipschitz()(m, _inside(), threat, noise=noise) for m in (small, large))
    torch.testing.assert_close(b, 3 * a, rtol=1e-3, atol=0)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(300, 3))
    constant[1].weight.data.zero_()
    assert Lipschitz()(constant, _inside(), threat, noise=noise).max() < 1e-3


def test_probabilities_cannot_change_by_more_than_two() -> None:
    threat = Threat("linf", "8/255")
    model, _ = _two_class(scale=1e4)
    at_border = Lipschitz(output="probabilities")
    slope = at_border(model, _inside(), threat, noise=SampleNoise(0, IDS))
    # |p - q|_1 <= 2, but at ever smaller distances; the start's distance bounds it from below.
    assert torch.isfinite(slope).all()
    logits = Lipschitz()(model, _inside(), threat, noise=SampleNoise(0, IDS))
    assert (slope <= logits).all()


def test_more_steps_find_no_less() -> None:
    torch.manual_seed(0)
    # Steep and wavy: the last iterate is often worse than an earlier one.
    net = nn.Sequential(nn.Flatten(), nn.Linear(300, 20), nn.Tanh(), nn.Linear(20, 4))
    net[1].weight.data *= 20
    threat, noise = Threat("linf", 0.3), SampleNoise(0, IDS)
    found = [Lipschitz(steps=s)(net, _inside(), threat, noise=noise) for s in range(7)]
    for few, many in pairwise(found):
        assert (many >= few * (1 - 1e-5)).all()
    assert (found[-1] > found[0]).any()


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(300, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model.train()
    model[2].eval()  # as in fine-tuning
    mean = model[2].running_mean.clone()
    Lipschitz()(model, _inside(), Threat("linf", 0.1), noise=SampleNoise(0, IDS))
    assert [module.training for module in model] == [True, True, False, True]
    assert torch.equal(model[2].running_mean, mean)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_smoothness_does_not_depend_on_the_batch_size() -> None:
    model, w = _two_class()
    x = _inside()
    y = (model(x).argmax(1) + (torch.arange(40) < 10)) % 2
    threat = Threat("linf", "2/255")
    runs = [smoothness(model, x, y, IDS, threat, batch_size=size) for size in (7, 40)]
    assert runs[0].lipschitz == pytest.approx(runs[1].lipschitz, rel=1e-6)
    assert runs[0].accuracy == runs[1].accuracy == 0.75
    assert runs[0].count == 40
    assert runs[0].lipschitz == pytest.approx(2 * float(w.abs().sum()), rel=0.05)


@pytest.mark.slow
def test_a_robust_network_is_smoother_than_a_standard_one(
    shared_data: Path, shared_models: Path
) -> None:
    test = Cifar10().load_test(shared_data).head(16)
    slopes = []
    for name in ("cifar10_resnet20_std", "cifar10_resnet4b_adv2"):
        network, _ = load_model(name, data_root=shared_data)
        found = smoothness(network, test.images, test.labels, test.ids, Threat("linf", "2/255"))
        slopes.append(found.lipschitz)
    assert slopes[0] > 5 * slopes[1]


def test_a_radius_of_zero_is_refused() -> None:
    model, _ = _two_class()
    with pytest.raises(DataError, match="above 0"):
        smoothness(model, _inside(), torch.zeros(40).long(), IDS, Threat("linf", "0"))


@pytest.mark.parametrize(("steps", "step_size"), [(-1, 0.2), (10, 0.0)])
def test_an_ascent_that_climbs_nowhere_is_refused(steps: int, step_size: float) -> None:
    with pytest.raises(ConfigError, match="climb nowhere"):
        Lipschitz(steps=steps, step_size=step_size)


def test_what_has_no_slope_is_refused() -> None:
    model, _ = _two_class()
    x, y, threat = _inside(), torch.zeros(40).long(), Threat("linf", "2/255")
    with pytest.raises(ConfigError, match="batch size is 0"):
        smoothness(model, x, y, IDS, threat, batch_size=0)
    with pytest.raises(DataError, match="at least one image"):
        smoothness(model, x[:0], y[:0], (), threat)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="NaN"):
        smoothness(model, x, y, IDS, threat)
