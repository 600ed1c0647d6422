"""Matrix products on small maps are the same convolution, forward and backward."""

import pytest
import torch
from torch import nn

from recuse.models.prepared import prepare
from recuse.models.small_maps import SmallMapConvolution, suits, with_matrix_products


def convolution(bias=True, inputs=256, outputs=272, stride=1):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride, bias=bias)
        return conv.double().requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "shape", [(3, 4, 4), (1, 2, 5), (2, 1, 1), (0, 4, 4), (2, 6, 6), (1, 7, 8)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_same_features_and_same_gradient(bias, stride, shape, layout):
    conv = convolution(bias, stride=stride)
    x = torch.rand(shape[0], 256, *shape[1:], dtype=torch.float64).to(memory_format=layout)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, found = conv(a), SmallMapConvolution(conv)(b)
    torch.testing.assert_close(found, expected, check_stride=False)
    weights = torch.rand(expected.shape, dtype=torch.float64)
    (da,) = torch.autograd.grad((expected * weights).sum(), a)
    (db,) = torch.autograd.grad((found * weights).sum(), b)
    torch.testing.assert_close(db, da, check_stride=False)


def test_only_wide_plain_3x3_convolutions_are_replaced():
    assert suits(convolution())
    assert not suits(nn.Conv2d(256, 256, 3))
    assert suits(nn.Conv2d(256, 256, 3, padding=1, stride=2))
    assert not suits(nn.Conv2d(256, 256, 3, padding=1, stride=(1, 2)))
    assert not suits(nn.Conv2d(64, 256, 3, padding=1))
    assert not suits(nn.Conv2d(256, 256, 3, padding=1, groups=2))
    assert not suits(nn.Conv2d(256, 256, 3, padding=1, padding_mode="reflect"))
    assert not suits(nn.Linear(256, 256))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_prepared_networks_use_it(precision):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 256, 3, padding=1, stride=4),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.BatchNorm2d(256),
            nn.Flatten(),
            nn.Linear(256 * 4, 5),
        ).eval()
        x = torch.rand(4, 3, 8, 8)
    prepared = prepare(model, precision=precision)
    kinds = [type(m) for m in prepared.modules()]
    assert SmallMapConvolution in kinds
    tolerance = {"fp32": 1e-5, "bf16": 3e-2}[precision]
    torch.testing.assert_close(prepared(x), model(x), rtol=tolerance, atol=tolerance)
    assert not any(isinstance(m, SmallMapConvolution) for m in model.modules())


def test_maps_are_small_by_what_they_become():
    images = [torch.rand(1, 256, side, side) for side in (4, 5, 8, 9)]
    for stride, small in ((1, [True, False, False, False]), (2, [True, True, True, False])):
        layer = SmallMapConvolution(convolution(stride=stride))
        assert [layer.multiplies(x) for x in images] == small


def test_large_maps_take_no_memory_for_matrices():
    layer = SmallMapConvolution(convolution())
    layer(torch.rand(1, 256, 8, 8, dtype=torch.float64))
    assert layer._matrices is None
    layer(torch.rand(1, 256, 4, 4, dtype=torch.float64))
    assert [m.numel() for m in layer._matrices] == [layer.conv.weight.numel()] * 2


def test_a_convolution_alone_is_left_as_it_is():
    conv = convolution()
    assert with_matrix_products(conv) is conv
