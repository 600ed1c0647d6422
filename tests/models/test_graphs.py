"""Replayed passes are the network's own, although they live in memory that is overwritten."""

import pytest
import torch
from torch import nn

from recuse.attacks import Apgd
from recuse.models.graphs import GraphedNetwork, cuda_graphs
from recuse.models.prepared import prepare
from recuse.random import SampleNoise
from recuse.threat import Threat


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return prepare(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
        )


def photos(count, seed=1):
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


class Overwritten(torch.autograd.Function):
    """Answers in buffers that every call fills anew, as a captured graph does."""

    @staticmethod
    def forward(ctx, x, held):
        held["x"].data.copy_(x)
        with torch.enable_grad():
            held["logits"] = held["run"](held["x"])
        held["out"].copy_(held["logits"].detach())
        ctx.held = held
        return held["out"].detach()

    @staticmethod
    def backward(ctx, grad):
        held = ctx.held
        (found,) = torch.autograd.grad(held["logits"], held["x"], grad, retain_graph=True)
        ctx.held["grad"].copy_(found)
        return ctx.held["grad"].detach(), None


def overwriting(captured):
    def capture(network, sample):
        captured.append((tuple(sample.shape), sample.requires_grad))
        held = {
            "run": network,
            "x": sample.detach().clone().requires_grad_(),
            "out": network(sample).detach().clone(),
            "grad": torch.zeros_like(sample),
        }
        return lambda x: Overwritten.apply(x, held)

    return capture


def gradient(model, x):
    leaf = x.clone().requires_grad_()
    out = model(leaf)
    return out.detach(), torch.autograd.grad(out.square().sum(), leaf)[0]


def test_results_outlive_the_next_replay():
    model, captured = network(), []
    graphed = GraphedNetwork(model, capture=overwriting(captured))
    first, second = photos(4, 1), photos(4, 2)
    kept = [gradient(graphed, x) for x in (first, second, first)]
    for (out, grad), x in zip(kept, (first, second, first), strict=True):
        expected_out, expected_grad = gradient(model, x)
        torch.testing.assert_close(out, expected_out)
        torch.testing.assert_close(grad, expected_grad)
    with torch.no_grad():
        answers = [graphed(x) for x in (first, second)]
    assert not any(out.requires_grad for out in answers)
    torch.testing.assert_close(torch.stack(answers), torch.stack([model(first), model(second)]))
    assert captured == [((4, 3, 6, 6), True), ((4, 3, 6, 6), False)]


def test_a_gradient_taken_too_late_is_an_error():
    graphed = GraphedNetwork(network(), capture=overwriting([]))
    x = photos(2).requires_grad_()
    early = graphed(x).sum()
    late = graphed(x).sum()
    torch.autograd.grad(late, x)
    with pytest.raises(RuntimeError, match="before the gradient of the run before was taken"):
        torch.autograd.grad(early, x)


def test_large_and_empty_batches_and_cpu_tensors_run_as_they_are():
    model, captured = network(), []
    graphed = GraphedNetwork(model, largest=3, capture=overwriting(captured))
    for count in (0, 4):
        assert torch.equal(graphed(photos(count)), model(photos(count)))
    assert captured == []
    plain = GraphedNetwork(model)
    assert torch.equal(plain(photos(2)), model(photos(2)))
    assert plain._replays == {}


def test_an_attack_finds_the_same():
    model, x = network(), photos(20)
    y, threat = model(x).argmax(1), Threat("linf", "8/255")
    noise = SampleNoise(0, tuple(map(str, range(20))))
    captured = []
    expected = Apgd(steps=10)(model, x, y, threat, noise=noise)
    graphed = GraphedNetwork(model, capture=overwriting(captured))
    found = Apgd(steps=10)(graphed, x, y, threat, noise=noise)
    assert 0 < int(expected.success.sum()) < 20
    assert torch.equal(found.success, expected.success)
    assert torch.equal(found.x_adv, expected.x_adv)
    assert len(captured) > 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures CUDA graphs; needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cuda_graphs_are_the_same_function(precision):
    model = prepare(network(), precision=precision).cuda()
    graphed = GraphedNetwork(model, capture=cuda_graphs)
    for seed in (1, 2, 1):
        x = photos(8, seed).cuda()
        out, grad = gradient(graphed, x)
        expected_out, expected_grad = gradient(model, x)
        torch.testing.assert_close(out, expected_out)
        torch.testing.assert_close(grad, expected_grad)
        with torch.no_grad():
            torch.testing.assert_close(graphed(x), expected_out)
    assert len(graphed._replays) == 2
