"""Linear bounds: sound, exact where nothing bends, tighter than intervals, never beyond PGD."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from recuse.attacks import Pgd
from recuse.certify.crown import Crown
from recuse.certify.ibp import Ibp, ball
from recuse.certify.intervals import propagate_all
from recuse.certify.linear import LinearBounds
from recuse.certify.tracing import output_node, trace
from recuse.certify.windows import Window, windows
from recuse.data import Cifar10, Mnist
from recuse.errors import CertificationError
from recuse.models import (
    CifarResNet,
    GtsrbLeNet,
    Mlp,
    ResNet4b,
    SmallConvNet,
    SwishWideResNet,
    load_model,
    normalized,
)
from recuse.random import SampleNoise
from recuse.threat import Threat

NETWORKS = {
    "small": SmallConvNet(size=8),
    "resnet4b": ResNet4b(size=8, dropout=0.2),
    "resnet8": CifarResNet(8, size=8),
}
NOISE = SampleNoise(0, tuple(map(str, range(100))))


def build(name):
    torch.manual_seed(0)
    model = normalized(NETWORKS[name].build(), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 0, 1)
    return model


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_bounds_contain_samples_and_are_tighter_than_intervals(name):
    model, eps = build(name), 0.01
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    graph, box = trace(model), ball(x, eps)
    out = output_node(graph)
    intervals = propagate_all(graph, box)[out]
    bounds = LinearBounds.of(graph, box, rows=256)
    identity = torch.eye(10, dtype=torch.float64).expand(2, 10, 10)
    lower, upper = bounds.pull_back(out, identity), -bounds.pull_back(out, -identity)
    assert (upper - lower).mean() < 0.8 * (intervals.upper - intervals.lower).mean()
    for _ in range(300):
        share = torch.rand_like(x)
        point = box.lower + (box.upper - box.lower) * torch.where(share < 0.3, share, share.round())
        outputs = model(point)
        assert (outputs >= lower - 1e-9).all()
        assert (outputs <= upper + 1e-9).all()


@torch.no_grad()
def test_bounds_are_exact_where_no_relu_bends():
    model = build("small")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bias.fill_(50.0)
    x = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    graph, eps = trace(model), 0.01
    x = x.clamp(eps, 1 - eps)
    out = output_node(graph)
    rows = torch.zeros(3, 1, 10, dtype=torch.float64)
    rows[:, 0, 0], rows[:, 0, 1] = 1.0, -1.0
    lower = LinearBounds.of(graph, ball(x, eps), rows=256).pull_back(out, rows)[:, 0]
    with torch.enable_grad():
        point = x.clone().requires_grad_()
        logits = model(point)
        difference = logits[:, 0] - logits[:, 1]
        (gradient,) = torch.autograd.grad(difference.sum(), point)
    nearest = model(x - eps * gradient.sign())
    torch.testing.assert_close(lower, nearest[:, 0] - nearest[:, 1])
    expected = difference.detach() - eps * gradient.abs().flatten(1).sum(dim=1)
    torch.testing.assert_close(lower, expected)


def test_two_dimensional_bounds_are_sound_against_a_fine_grid():
    torch.manual_seed(1)
    model = Mlp((2,), classes=3, width=16).build().double().eval()
    x = torch.rand(20, 2, dtype=torch.float64)
    found = Crown().decide(model, x, (0.0, 0.05, 0.2), noise=NOISE)
    steps = torch.linspace(-1, 1, 41, dtype=torch.float64)
    offsets = torch.cartesian_prod(steps, steps)
    for column, radius in enumerate(found.radii):
        points = (x[:, None] + radius * offsets).clamp(0, 1)
        constant = (
            model(points.flatten(0, 1)).argmax(1).view(20, -1) == found.prediction[:, None]
        ).all(dim=1)
        assert (found.certified[:, column] <= constant).all()
    assert found.certified[:, 0].all()
    assert found.certified[:, 1].any()
    assert (found.certified[:, 1:] <= found.certified[:, :-1]).all()


def test_batch_and_row_limits_change_nothing():
    model = build("small").float()
    x = torch.rand(5, 3, 8, 8)
    whole = Crown().decide(model, x, (0.005, 0.02), noise=NOISE)
    parts = Crown(batch_size=2, rows=64).decide(model, x, (0.005, 0.02), noise=NOISE)
    assert torch.equal(whole.certified, parts.certified)
    assert whole.certified.any()
    none = Crown().decide(model, x[:0], (0.1,), noise=NOISE)
    assert none.certified.shape == (0, 1)


def test_an_image_costs_no_more_beside_others(monkeypatch):
    model, x, spent = build("small").float(), torch.rand(4, 3, 8, 8), []
    pull_back = LinearBounds.pull_back

    def counted(bounds, node, rows):
        spent.append(rows.shape[0] * rows.shape[1])
        return pull_back(bounds, node, rows)

    monkeypatch.setattr(LinearBounds, "pull_back", counted)
    labels = torch.zeros(4, dtype=torch.int64)
    together = Crown().lower_margin(model, x, labels, 0.02)
    whole = sum(spent)
    spent.clear()
    alone = [Crown().lower_margin(model, x[[i]], labels[[i]], 0.02) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert 0 < whole == sum(spent)


@pytest.mark.parametrize("name", ["small", "resnet4b", "valid"])
@torch.no_grad()
def test_what_a_neuron_sees_is_all_that_its_bounds_need(name, monkeypatch):
    monkeypatch.setattr("recuse.certify.windows.MANY", 0)
    monkeypatch.setattr("recuse.certify.windows.TILES", 4)
    networks = {name: replace(network, size=16) for name, network in NETWORKS.items()}
    torch.manual_seed(0)
    if name == "valid":  # no square of the input gives a square of the output
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 5, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * 25, 3),
        )
    else:
        model = networks[name].build()
    model = normalized(model, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).double().eval()
    graph, x = trace(model), torch.rand(1, 3, 16, 16, dtype=torch.float64)
    bounds = LinearBounds.of(graph, ball(x, 0.01), rows=256)
    parts = {node: windows(node, bounds.boxes, bounds.modules) for node in relu_inputs(bounds)}
    assert (max(map(len, parts.values())) > 1) == (name != "valid")
    monkeypatch.setattr("recuse.certify.linear.windows", lambda *_: [Window()])
    whole = LinearBounds.of(graph, ball(x, 0.01), rows=256)
    for node in parts:
        for one, other in zip(bounds.boxes[node], whole.boxes[node], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    behind = list(parts)[1]
    assert not torch.equal(
        bounds.boxes[behind].lower, propagate_all(graph, ball(x, 0.01))[behind].lower
    )


def relu_inputs(bounds):
    return [node.args[0] for node in bounds.graph.graph.nodes if bounds.is_relu(node)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "radius", "least"),
    [
        ("cifar10_small_kw_8px", Cifar10(test="lossless"), 8 / 255, 0.7),
        ("mnist_small_kw03", Mnist(), 0.3, 0.7),
    ],
)
def test_provably_trained_networks_are_proven_close_to_what_pgd_allows(
    shared_data, name, source, radius, least
):
    model = load_model(name, data_root=shared_data)[0].eval()
    split = source.load_test(shared_data).head(16)
    threat, noise = Threat("linf", radius), SampleNoise(0, split.ids)
    found = Crown().decide(model, split.images, (radius,), noise=noise)
    attacked = Pgd(steps=20)(model, split.images, found.prediction, threat, noise=noise)
    assert not (attacked.success & found.certified[:, 0]).any()
    intervals = Ibp().decide(model, split.images, (radius,), noise=noise)
    assert (intervals.certified <= found.certified).all()
    robust = int((~attacked.success).sum())
    assert int(found.certified.sum()) >= least * robust


@pytest.mark.parametrize("architecture", [GtsrbLeNet(size=16), SwishWideResNet(10, 1, size=8)])
def test_layers_without_a_line_are_refused(architecture):
    x = torch.rand(1, 3, architecture.size, architecture.size)
    with pytest.raises(CertificationError, match="no rule for module"):
        Crown().decide(architecture.build().eval(), x, (0.01,), noise=NOISE)
