"""Interval bounds contain what networks compute, and never prove what an attack refutes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from recuse.attacks import Pgd
from recuse.certify.crown import Crown
from recuse.certify.ibp import Ibp, Margins, ball, largest_radius, output_bounds
from recuse.certify.intervals import Box, propagate
from recuse.certify.tracing import trace
from recuse.data import Cifar10, Mnist
from recuse.errors import CertificationError
from recuse.models import (
    CifarResNet,
    GtsrbLeNet,
    Mlp,
    PreActResNet,
    ResNet4b,
    SmallConvNet,
    SwishWideResNet,
    TradesSmallCnn,
    load_model,
    normalized,
)
from recuse.random import SampleNoise
from recuse.results import Status
from recuse.threat import Threat

NETWORKS = {
    "small": SmallConvNet(size=8),
    "lenet": GtsrbLeNet(size=16),
    "trades": TradesSmallCnn(channels=3, size=20),
    "resnet4b": ResNet4b(size=8, dropout=0.2),
    "resnet8": CifarResNet(8, size=8),
    "preact": PreActResNet(18, size=4, classes=4),
    "swish": SwishWideResNet(10, 1, size=8),
}


def build(name, seed=0):
    """A random network in float64 behind a normalisation, batch-norm statistics not trivial."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = normalized(NETWORKS[name].build(), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.normal_(module.weight, 0, 1, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_bounds_contain_ten_thousand_sampled_outputs_of_random_networks(name):
    model, size, eps = build(name), NETWORKS[name].size, 0.05
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, size, size, generator=generator, dtype=torch.float64)
    bounds = output_bounds(model, x, Threat("linf", eps))
    draws = 10_000 // len(NETWORKS) + 1
    box = ball(x, eps)
    share = torch.rand((draws, *x.shape[1:]), generator=generator, dtype=torch.float64)
    points = box.lower + (box.upper - box.lower) * share
    # Half of the points are corners, where linear parts take their extremes.
    points[::2] = torch.where(share[::2] < 0.5, box.lower, box.upper)
    outputs = model(points)
    assert (outputs >= bounds.lower - 1e-9).all()
    assert (outputs <= bounds.upper + 1e-9).all()
    assert (bounds.upper > bounds.lower).all()


def test_bounds_of_a_linear_network_are_attained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double().eval()
    x = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)
    bounds = output_bounds(model, x, Threat("linf", 0.1))
    weight = model[1].weight
    highest = model(x + 0.1 * weight[1].sign().view(1, 3, 2, 2))[0, 1]
    torch.testing.assert_close(bounds.upper[0, 1], highest)


def test_bounds_at_radius_zero_are_the_outputs():
    model = build("resnet8")
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    bounds = output_bounds(model, x, Threat("linf", 0.0))
    torch.testing.assert_close(bounds.lower, model(x).detach())
    torch.testing.assert_close(bounds.upper, model(x).detach())


def test_margins_are_tighter_than_the_difference_of_logit_bounds_and_still_sound():
    model, eps = build("small"), 0.02
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    network = Margins.of(model)
    labels = network.predict(x)
    margins = network.bound(x, labels, eps)
    logits = output_bounds(model, x, Threat("linf", eps))
    plain = logits.lower.gather(1, labels[:, None]) - logits.upper
    other = torch.ones_like(plain, dtype=torch.bool).scatter(1, labels[:, None], False)
    assert (margins[other] > plain[other]).all()
    box = ball(x, eps)
    for _ in range(200):
        point = box.lower + (box.upper - box.lower) * torch.rand_like(x).round()
        outputs = model(point)
        difference = outputs.gather(1, labels[:, None]) - outputs
        assert (difference[other] >= margins[other]).all()


def test_a_network_without_linear_last_layer_is_bounded_by_its_logits():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return functional.relu(self.conv(x)).mean((2, 3)).view(-1, 4) * 2.0 - 1.0

    model = Head().double().eval()
    x = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    network = Margins.of(model)
    labels = network.predict(x)
    bounds = output_bounds(model, x, Threat("linf", 0.01))
    margins = network.bound(x, labels, 0.01)
    assert margins.gather(1, labels[:, None]).isinf().all()
    rows = torch.arange(3)
    other = (labels + 1) % 4
    expected = bounds.lower[rows, labels] - bounds.upper[rows, other]
    torch.testing.assert_close(margins[rows, other], expected)


def test_swish_is_bounded_through_its_minimum():
    model = nn.Sequential(nn.SiLU()).double().eval()
    box = Box(torch.tensor([[-5.0, -1.0, 0.0]]).double(), torch.tensor([[0.0, 2.0, 1.0]]).double())
    bounds = propagate(trace(model), box)
    grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None]
    values = functional.silu(box.lower + (box.upper - box.lower) * grid)
    assert (bounds.lower[0] <= values.amin(0)).all()
    assert (bounds.upper[0] >= values.amax(0)).all()
    torch.testing.assert_close(bounds.lower[0], values.amin(0), rtol=0, atol=1e-7)


def test_products_of_boxes_contain_products_of_values():
    class Square(nn.Module):
        def forward(self, x):
            return (x * x) * -1.5 + x / 2

    box = Box(torch.tensor([-1.0, 0.5]), torch.tensor([2.0, 0.75]))
    bounds = propagate(trace(Square().eval()), box)
    for share in torch.linspace(0, 1, 101):
        x = box.lower + (box.upper - box.lower) * share
        value = x * x * -1.5 + x / 2
        assert ((bounds.lower <= value) & (value <= bounds.upper)).all()


@torch.no_grad()
@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x - 0.1) / 0.3 * 1.7,
        lambda x: 0.1 - x,
        lambda x: torch.mul(x, 0.7) / torch.full((12,), 0.3, dtype=torch.float64),
        lambda x: torch.div(x, -0.3) + 1e-9,
    ],
)
def test_python_constants_keep_their_digits(function):
    model, x = Refused(function).eval(), torch.rand(50, 12, dtype=torch.float64)
    bounds = output_bounds(model, x, Threat("linf", 0.0))
    assert (bounds.lower == model(x)).all()
    assert (bounds.upper == model(x)).all()
    assert bounds.lower.dtype == torch.float64
    single = output_bounds(model, x.float(), Threat("linf", 0.0))
    assert single.lower.dtype == model(x.float()).dtype


def test_certificates_shrink_with_the_radius_and_cost_no_samples():
    model = build("small").float()
    x = torch.rand(16, 3, 8, 8)
    noise = SampleNoise(0, tuple(map(str, range(16))))
    found = Ibp().decide(model, x, (0.0, 0.001, 0.01, 0.3), noise=noise)
    assert found.certified[:, 0].all()
    assert not found.certified[:, 3].all()
    assert (found.certified[:, 1:] <= found.certified[:, :-1]).all()
    assert found.samples.sum() == 0
    single = Ibp(batch_size=5).decide(model, x, (0.001,), noise=noise)
    assert [s is Status.CERTIFIED for s in single.status(0.001)] == found.certified[:, 1].tolist()
    radius = largest_radius(model, x, most=0.3, steps=14)
    assert ((radius >= 0.001) == found.certified[:, 1]).all()
    proven = Margins.of(model).prove(x, found.prediction, radius)
    assert proven.all()
    assert not Margins.of(model).prove(x, found.prediction, radius + 1e-3).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "radii", "least"),
    [
        ("cifar10_small_kw_8px", Cifar10(test="lossless"), (2 / 255, 8 / 255), (0.25, 0.15)),
        ("cifar10_wide_kw", Cifar10(test="lossless"), (0.5 / 255, 2 / 255), (0.05, 0.0)),
        ("mnist_small_kw03", Mnist(), (0.05, 0.3), (0.1, 0.0)),
    ],
)
def test_provably_trained_networks_are_proven_and_never_beyond_pgd(
    shared_data, name, source, radii, least
):
    model = load_model(name, data_root=shared_data)[0].eval()
    split = source.load_test(shared_data).head(100)
    noise = SampleNoise(0, split.ids)
    threats = [Threat("linf", r) for r in radii]
    found = Ibp().decide(model, split.images, [t.eps for t in threats], noise=noise)
    for column, threat in enumerate(threats):
        attacked = Pgd(steps=20)(model, split.images, found.prediction, threat, noise=noise)
        assert not (attacked.success & found.certified[:, column]).any()
        proven = found.certified[:, column] & (found.prediction == split.labels)
        assert float(proven.double().mean()) >= least[column]


@pytest.mark.parametrize("shift", [1.5, -0.6, float("nan")])
def test_inputs_that_are_no_images_are_refused(shift):
    # Cut to [0, 1], the ball around such an input misses the input itself.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x, noise = torch.rand(4, 2), SampleNoise(0, tuple("abcd"))
    x[2] += shift
    network = Margins.of(model)
    for certify in (
        lambda: Ibp().decide(model, x, (0.9,), noise=noise),
        lambda: Crown().decide(model, x, (0.9,), noise=noise),
        lambda: output_bounds(model, x, Threat("linf", 0.9)),
        lambda: largest_radius(model, x, most=0.9),
        lambda: network.prove(x, torch.zeros(4).long(), 0.9),
    ):
        with pytest.raises(CertificationError, match=r"images in \[0, 1\]|NaN") as caught:
            certify()
        assert "\n" not in str(caught.value)
    edges = torch.tensor([[0.0, 1.0]])
    assert Ibp().decide(model, edges, (0.0,), noise=SampleNoise(0, ("a",))).certified.all()


def test_a_proof_speaks_of_the_network_and_not_of_votes():
    model = nn.Sequential(nn.Linear(2, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        model[0].bias.zero_()
    x, noise = torch.tensor([[1.0, 0.0], [0.5, 0.51]]), SampleNoise(0, ("a", "b"))
    for certifier in (Ibp(), Crown()):
        status = certifier.decide(model, x, (0.1,), noise=noise).status(0.1)
        assert status == (Status.CERTIFIED, Status.ABSTAINED)
        assert not any(word in s.value for s in status for word in ("smooth", "vote", "sample"))


class Refused(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Refused(lambda x: torch.sin(x)), "function 'sin'"),
        (Refused(lambda x: x.exp()), "method 'exp'"),
        (Refused(lambda x: 1.0 / x), "division"),
        (nn.Sequential(nn.GELU()), "layer '0' of type GELU"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")), "circular"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "running statistics"),
        (Refused(lambda x: x if x.sum() > 0 else -x), "torch.fx"),
    ],
)
def test_what_has_no_rule_is_refused_in_one_sentence(model, words):
    with pytest.raises(CertificationError, match=words) as caught:
        output_bounds(model.eval(), torch.rand(1, 3, 4, 4), Threat("linf", 0.1))
    assert "\n" not in str(caught.value)


def test_models_that_cannot_be_certified_are_refused():
    x, noise = torch.rand(1, 3, 4, 4), SampleNoise(0, ("a",))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(CertificationError, match="training mode"):
        Ibp().decide(linear.train(), x, (0.1,), noise=noise)
    with pytest.raises(CertificationError, match="Linf balls"):
        output_bounds(linear.eval(), x, Threat("l2", 0.1))
    with torch.no_grad():
        linear[1].weight.fill_(float("nan"))
    with pytest.raises(CertificationError, match="NaN"):
        Ibp().decide(linear, x, (0.1,), noise=noise)


def test_points_of_the_plane_are_certified_too():
    model = Mlp((2,), classes=3, width=16).build().eval()
    x = torch.rand(8, 2)
    noise = SampleNoise(0, tuple(map(str, range(8))))
    found = Ibp().decide(model, x, (0.0, 0.5), noise=noise)
    assert found.certified[:, 0].all()
