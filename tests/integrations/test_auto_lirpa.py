"""The auto_LiRPA adapter against a stand-in with the library's interface and interval bounds."""

import sys
import types

import pytest
import torch
from torch import nn

from recuse.certify import Ibp
from recuse.certify.ibp import Margins
from recuse.errors import CertificationError, ConfigError
from recuse.integrations.auto_lirpa import AutoLirpa, differences
from recuse.random import SampleNoise


class PerturbationLpNorm:
    def __init__(self, norm, eps=None, x_L=None, x_U=None):
        self.norm, self.eps, self.lower, self.upper = norm, eps, x_L, x_U


class BoundedTensor:
    def __init__(self, x, perturbation):
        self.x, self.perturbation = x, perturbation


class BoundedModule:
    """Bounds of one linear layer, which every method of the library finds exactly."""

    def __init__(self, model, example, device):
        self.layer = next(m for m in model.modules() if isinstance(m, nn.Linear))

    def compute_bounds(self, x, C, method, bound_upper):
        # The library optimises these bounds by their gradients.
        assert torch.is_grad_enabled() == (method == "CROWN-Optimized")
        assert not bound_upper
        (bounded,) = x
        ball = bounded.perturbation
        weight, bias = C @ self.layer.weight, C @ self.layer.bias
        if ball.norm == 2:
            centre = bounded.x.flatten(1)
            spread = ball.eps * weight.norm(dim=2)
        else:
            centre = ((ball.lower + ball.upper) / 2).flatten(1)
            width = ((ball.upper - ball.lower) / 2).flatten(1)
            spread = torch.einsum("bcf,bf->bc", weight.abs(), width)
        return torch.einsum("bcf,bf->bc", weight, centre) + bias - spread, None


@pytest.fixture
def library(monkeypatch):
    parts = (PerturbationLpNorm, BoundedTensor, BoundedModule)
    for name in ("auto_LiRPA", "auto_LiRPA.perturbations"):
        module = types.ModuleType(name)
        for part in parts:
            setattr(module, part.__name__, part)
        monkeypatch.setitem(sys.modules, name, module)


def linear():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    x = torch.rand(20, 3, 2, 2)
    return model, x, SampleNoise(0, tuple(map(str, range(20))))


def test_it_proves_what_interval_bounds_prove_of_a_linear_network(library):
    model, x, noise = linear()
    radii = (0.01, 0.05, 0.2)
    ours = Ibp().decide(model, x, radii, noise=noise)
    for method in ("IBP", "CROWN-IBP", "CROWN", "CROWN-Optimized"):
        certifier = AutoLirpa(method=method, batch_size=7)
        theirs = certifier.decide(model, x, radii, noise=noise)
        assert torch.equal(ours.certified, theirs.certified)
        assert torch.equal(ours.prediction, theirs.prediction)
    assert 0 < int(ours.certified[:, 1].sum()) < len(x)


def test_l2_balls_are_proven_up_to_the_distance_to_the_boundary(library):
    model, x, noise = linear()
    found = AutoLirpa("l2", "IBP").decide(model, x, (0.02, 0.1), noise=noise)
    weight = model[1].weight
    logits = model(x).detach()
    label = logits.argmax(1)
    gap = logits.gather(1, label[:, None]) - logits
    length = (weight[label][:, None] - weight[None]).norm(dim=2)
    distance = (gap / length).masked_fill(length == 0, torch.inf).amin(1)
    for column, radius in enumerate((0.02, 0.1)):
        assert torch.equal(found.certified[:, column], distance > radius)


def test_differences_give_margins():
    logits, labels = torch.rand(5, 3), torch.tensor([0, 1, 2, 1, 0])
    rows = differences(labels, 3, torch.float32)
    margins = torch.einsum("bkc,bc->bk", rows, logits)
    expected = logits.gather(1, labels[:, None]) - logits
    others = ~torch.nn.functional.one_hot(labels, 3).bool()
    torch.testing.assert_close(margins, expected[others].view(5, 2))


def test_a_single_radius_and_what_is_refused(library):
    model, x, noise = linear()
    found = AutoLirpa().decide(model, x, (0.05,), noise=noise)
    proven = Margins.of(model).prove(x, found.prediction, 0.05)
    assert [s.name == "CERTIFIED" for s in found.status(0.05)] == proven.tolist()
    with pytest.raises(CertificationError, match="training mode"):
        AutoLirpa().decide(model.train(), x, (0.05,), noise=noise)
    with pytest.raises(ConfigError, match="norm"):
        AutoLirpa("l1")


def test_a_missing_library_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    model, x, noise = linear()
    with pytest.raises(ConfigError, match="pip install git") as caught:
        AutoLirpa().decide(model, x, (0.1,), noise=noise)
    assert "\n" not in str(caught.value)


def test_inputs_that_are_no_images_get_no_proof(library):
    model, x, noise = linear()
    with pytest.raises(CertificationError, match=r"\[0, 1\]"):
        AutoLirpa().decide(model, x + 1, (0.1,), noise=noise)
