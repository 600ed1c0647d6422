"""A convolution, the sum behind it and the ReLU are the same function in one pass."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from recuse.models.folding import traced
from recuse.models.fused import FusedConvolution, fuse_activations, offered
from recuse.models.prepared import prepare
from recuse.models.small_maps import SmallMapConvolution

WIDTH = 6


def convolution(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Conv2d(WIDTH, WIDTH, **{"kernel_size": 3, "padding": 1} | options)


class Block(nn.Module):
    """Two convolutions and a way to combine them with the input."""

    def __init__(self, combine, **options):
        super().__init__()
        self.first, self.second = convolution(0, **options), convolution(1, **options)
        self.combine = combine

    def forward(self, x):
        return self.combine(self, x)


def both_ways(block, shape=(3, WIDTH, 7, 5)):
    """Output and input gradient of the block as it is and fused, and the fused layers."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    block.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    expected = passes(block, x)
    graph = traced(block)
    fuse_activations(graph)
    fused = [m for m in graph.modules() if isinstance(m, FusedConvolution)]
    return expected, passes(graph, x), len(fused)


def passes(model, x):
    leaf = x.clone().requires_grad_()
    out = model(leaf)
    weights = torch.linspace(-1, 1, max(out.numel(), 1))[: out.numel()].view(out.shape)
    return out.detach(), torch.autograd.grad((out * weights).sum(), leaf)[0]


COMBINED = {
    "a ReLU": (lambda b, x: F.relu(b.first(x)), 1),
    "two in a row": (lambda b, x: torch.relu(b.second(F.relu(b.first(x)))), 2),
    "a sum with the input": (lambda b, x: F.relu(b.second(F.relu(b.first(x))) + x), 2),
    "the shortcut first": (lambda b, x: F.relu(x + b.second(F.relu(b.first(x)))), 2),
    "the shortcut computed later": (lambda b, x: F.relu(b.first(x) + b.second(x)), 1),
    "a sum without ReLU": (lambda b, x: b.second(F.relu(b.first(x))) + x, 1),
    "a sum read twice": (lambda b, x: (lambda s: F.relu(s) + s)(b.first(x) + x), 0),
    "read twice": (lambda b, x: (lambda y: F.relu(y) * y)(b.first(x)), 0),
    "called twice": (lambda b, x: F.relu(b.first(F.relu(b.first(x)))), 0),
    "added to itself": (lambda b, x: (lambda y: F.relu(y + y))(b.first(x)), 0),
    "a sum with a number": (lambda b, x: F.relu(b.first(x) + 0.5), 0),
    "a scaled sum": (lambda b, x: F.relu(torch.add(b.first(x), x, alpha=3)), 0),
    "a broadcast shortcut": (lambda b, x: F.relu(b.first(x) + x.mean((2, 3), keepdim=True)), 1),
    "one value per channel": (
        lambda b, x: F.relu(b.first(x) + x.mean((0, 2, 3))[:, None, None]),
        1,
    ),
}


@pytest.mark.parametrize("case", COMBINED)
def test_same_function_same_gradient(case):
    combine, layers = COMBINED[case]
    (out, grad), (fused_out, fused_grad), found = both_ways(Block(combine))
    assert found == layers
    torch.testing.assert_close(fused_out, out)
    torch.testing.assert_close(fused_grad, grad)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"kernel_size": 1, "padding": 0, "bias": False},
        {"dilation": 2, "padding": 2, "groups": 3},
        {"kernel_size": (3, 1), "padding": (1, 0)},
    ],
)
def test_every_plain_convolution(options):
    (out, grad), (fused_out, fused_grad), found = both_ways(Block(COMBINED["a ReLU"][0], **options))
    assert found == 1
    torch.testing.assert_close(fused_out, out)
    torch.testing.assert_close(fused_grad, grad)


@pytest.mark.parametrize("options", [{"padding_mode": "circular"}, {"padding": "same"}])
def test_other_convolutions_stay(options):
    assert both_ways(Block(COMBINED["a ReLU"][0], **options))[2] == 0


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 0}])
def test_a_sum_of_two_convolutions_that_change_the_size_stays(options):
    def combine(block, x):
        return F.relu(block.first(x) + block.second(x))

    (out, _), (fused_out, _), found = both_ways(Block(combine, **options))
    assert found == 0
    torch.testing.assert_close(fused_out, out)


LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", LAYOUTS)
@pytest.mark.parametrize("given", LAYOUTS)
@pytest.mark.parametrize(
    ("size", "channels", "groups"), [(3, 6, 1), (3, 6, 2), (1, 6, 1), (1, 1, 1)]
)
def test_every_layout(precision, stored, given, size, channels, groups):
    conv = nn.Conv2d(channels, channels, size, padding=size // 2, groups=groups)
    conv = conv.to(precision, memory_format=stored).requires_grad_(False)
    for shape in ((2, channels, 5, 4), (1, channels, 1, 1)):
        x = torch.randn(shape).to(precision, memory_format=given)
        for shortcut in (None, x, x.contiguous()):
            total = conv(x) if shortcut is None else conv(x) + shortcut
            out = FusedConvolution(conv)(x, shortcut)
            tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2}[precision]
            torch.testing.assert_close(
                out, F.relu(total), rtol=tolerance, atol=tolerance, check_stride=False
            )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [4, 6])
def test_wide_layers_multiply_matrices_on_small_maps_only(side, precision):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        conv = nn.Conv2d(256, 256, 3, padding=1).to(precision, memory_format=torch.channels_last)
        conv.requires_grad_(False)
        x = torch.randn(2, 256, side, side).to(precision)
    layer = FusedConvolution(SmallMapConvolution(conv))
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 3e-2}[precision]
    out = layer(x, x)
    assert out.dtype == precision
    torch.testing.assert_close(out, F.relu(conv(x) + x), rtol=tolerance, atol=tolerance)


def test_hooked_layers_stay():
    block = Block(COMBINED["a ReLU"][0])
    block.first.register_forward_hook(lambda module, args, out: 2 * out)
    (out, _), (fused_out, _), found = both_ways(block)
    assert found == 0
    torch.testing.assert_close(fused_out, out)


def test_an_empty_batch_and_float64():
    block = Block(COMBINED["a sum with the input"][0])
    (out, _), (fused_out, _), _ = both_ways(block, (0, WIDTH, 4, 4))
    assert out.shape == fused_out.shape
    exact = Block(COMBINED["a sum with the input"][0]).double().requires_grad_(False)
    graph = traced(exact)
    fuse_activations(graph)
    x = torch.randn(2, WIDTH, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(graph(x), exact(x))


def test_prepared_networks_take_one_pass_per_block(monkeypatch):
    block = Block(COMBINED["a sum with the input"][0]).requires_grad_(False).eval()
    prepared = prepare(block)
    x = torch.randn(2, WIDTH, 8, 8)
    with torch.profiler.profile() as record:
        out = prepared(x)
    names = {event.key for event in record.key_averages()}
    assert offered(prepared.second.layer) == ("aten::relu" not in names)
    torch.testing.assert_close(out, block(x))
