import json
from itertools import pairwise, product
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


THREATS = (Threat("linf", "8/255"), Threat("l2", 0.2))


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("outputs", [2, 3, 10])
@pytest.mark.parametrize("balanced", [False, True])
def test_linear_networks_have_the_slope_of_their_best_signs(
    threat: Threat, outputs: int, balanced: bool
) -> None:
    """``max |W d|_1 / |d|_p`` is the largest dual norm of ``W^T s``; all signs s are tried."""
    weight = torch.randn(outputs, 300, generator=torch.Generator().manual_seed(outputs))
    if balanced:  # as gradients of probabilities are: they sum to 0
        weight -= weight.mean(dim=0)
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=outputs)))
    sums = (signs @ weight).double()
    expected = float((sums.abs().sum(1) if threat.norm == "linf" else sums.norm(dim=1)).max())
    network = nn.Sequential(nn.Flatten(), nn.Linear(300, outputs))
    network[1].weight.data = weight
    slope = Lipschitz()(network, _inside(), threat, noise=SampleNoise(0, IDS))
    assert (slope <= expected * (1 + 1e-4)).all()
    assert (slope >= expected * 0.999).all()


def _ascent_of_the_slope(
    model: nn.Module, x: torch.Tensor, threat: Threat, noise: SampleNoise
) -> torch.Tensor:
    """Plain projected ascent of the slope itself, ten steps of a fifth of the radius."""
    centre, point = model(x).softmax(1).detach(), threat.random_start(x, noise)
    best = torch.zeros(len(x))
    for _ in range(11):
        leaf = point.detach().requires_grad_()
        change = (model(leaf).softmax(1) - centre).abs().sum(1)
        slope = change / threat.distance(leaf, x)
        best = torch.maximum(best, slope.detach())
        (grad,) = torch.autograd.grad(slope.sum(), leaf)
        point = threat.project(leaf.detach() + 0.2 * threat.eps * threat.ascent_direction(grad), x)
    return best


@pytest.mark.parametrize("name", ["cifar10_small_std", "cifar10_resnet4b_adv2"])
@pytest.mark.parametrize("threat", [Threat("linf", "2/255"), Threat("l2", 0.25)], ids=str)
def test_real_networks_are_no_smoother_than_plain_ascent_finds(
    name: str, threat: Threat, shared_data: Path, shared_models: Path
) -> None:
    network, _ = load_model(name, data_root=shared_data)
    test = Cifar10().load_test(shared_data).head(8)
    noise = SampleNoise(0, test.ids)
    plain = _ascent_of_the_slope(network.eval(), test.images, threat, noise)
    found = Lipschitz(output="probabilities")(network, test.images, threat, noise=noise)
    assert (found >= 0.85 * plain).all()
    assert found.mean() > 1.1 * plain.mean()


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("gap", [2.0, 30.0, 300.0])
def test_a_sure_softmax_is_steep_where_it_tips(threat: Threat, gap: float) -> None:
    """Along the best direction ``p`` is a sigmoid: its steepest chord is known.

    At gaps of 30 and 300 the softmax at the image is 1 in single precision, its gradient 0.
    """
    model, w = _two_class()
    x = _inside()[:1].expand(4, -1, -1, -1)
    rise = 2 * float(w.abs().sum() if threat.norm == "linf" else w.norm())
    steepness = 2 * gap / threat.eps  # so that it tips half way to the end
    model[1].weight.data *= steepness / rise
    model[1].bias = nn.Parameter(torch.zeros(2))
    with torch.no_grad():
        model[1].bias[0] = gap - (model(x[:1]) @ torch.tensor([1.0, -1.0]))[0]
        start = float((model(x[:1]) @ torch.tensor([1.0, -1.0]))[0])
    way = torch.linspace(-1, 1, 200_002, dtype=torch.float64) * threat.eps
    chords = 2 * (torch.sigmoid(start + steepness * way) - torch.sigmoid(start + 0 * way)) / way
    slope = Lipschitz(output="probabilities")(model, x, threat, noise=SampleNoise(0, IDS[:4]))
    assert (slope <= chords.max() * 1.001).all()
    assert (slope >= chords.max() * 0.95).all()


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


def test_the_page_says_what_was_measured() -> None:
    folder = Path(__file__).parents[2] / "results" / "geometry"
    page = (folder / "README.md").read_text()
    for row in json.loads((folder / "lipschitz.json").read_text())["rows"]:
        cells = (
            "{train_probabilities:,.0f} / {test_probabilities:,.0f}",
            "{train_logits:,.0f} / {test_logits:,.0f}",
            "{train_accuracy:.3g} / {test_accuracy:.3g}",
        )
        shares = {k: 100 * v for k, v in row.items() if k.endswith("accuracy")}
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {row['model']} |")]
        for cell in cells:
            assert f"| {cell.format(**row | shares)} |" in line.replace(".0 ", " ")
