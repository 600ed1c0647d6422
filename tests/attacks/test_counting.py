"""The pass counter of the benchmarks counts what was really computed."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from recuse.attacks import Apgd, pgd
from recuse.random import SampleNoise
from recuse.threat import Threat

_PATH = Path(__file__).parents[2] / "benchmarks" / "counting.py"


@pytest.fixture(scope="module")
def counting():
    spec = importlib.util.spec_from_file_location("recuse_benchmark_counting", _PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    ).eval()


def test_training_step_is_one_of_each(counting, network):
    x = torch.rand(5, 1, 6, 6)

    def loss():
        network(x).logsumexp(1).sum().backward()

    _, passes = counting.count_passes(network, x, loss)
    assert (passes.forward, passes.to_input, passes.to_weights) == (5, 5, 5)
    network.zero_grad(set_to_none=True)


def test_input_gradient_computes_no_weight_gradient(counting, network):
    x, threat = torch.rand(4, 1, 6, 6), Threat("linf", 0.1)

    def work():
        return pgd(network, x, threat, lambda z: z.logsumexp(1), steps=10, step_size=0.02, start=x)

    _, passes = counting.count_passes(network, x, work)
    assert (passes.forward, passes.to_input, passes.to_weights) == (40, 40, 0)


def test_apgd_reports_the_passes_it_spends(counting, network):
    x = torch.rand(9, 1, 6, 6)
    y = network(x).argmax(1)
    noise = SampleNoise(0, tuple("abcdefghi"))
    outcome, passes = counting.count_passes(
        network, x, lambda: Apgd(steps=12)(network, x, y, Threat("linf", 0.1), noise=noise)
    )
    assert passes.forward == outcome.forwards.sum()
    assert passes.to_input == outcome.backwards.sum()
    assert passes.to_weights == 0
