"""A network in another order of classes is the same network wherever it is used."""

import torch
from torch import nn

from recuse.certify import Crown, Ibp
from recuse.models import SmallConvNet
from recuse.models.checkpoint import weights_sha256
from recuse.models.class_order import Reordered
from recuse.models.normalize import normalized
from recuse.models.prepared import prepare
from recuse.random import SampleNoise


def small() -> nn.Module:
    torch.manual_seed(0)
    net = SmallConvNet(channels=1, size=8, classes=5)
    return normalized(net.build(), (), ()).eval()


def test_a_reordered_network_is_the_same_function_wherever_it_is_used() -> None:
    network = small()
    x = torch.rand(6, 1, 8, 8)
    order = (3, 1, 0, 2, 4)
    turned = Reordered(network, order)
    assert not turned.training
    assert torch.equal(turned(x), network(x)[:, list(order)])
    assert torch.allclose(prepare(turned)(x), turned(x), atol=1e-5)
    assert weights_sha256(turned) != weights_sha256(Reordered(network, range(5)))
    noise = SampleNoise(0, tuple("abcdef"))
    for method in (Ibp(), Crown()):
        plain = method.decide(network, x, (0.0, 1e-4), noise=noise)
        found = method.decide(turned, x, (0.0, 1e-4), noise=noise)
        assert torch.equal(torch.tensor(order)[found.prediction], plain.prediction)
        assert found.certified[:, 0].all()
