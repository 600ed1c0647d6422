"""Folding, layout and precision change the speed, not the function, nor the original."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recuse.errors import ConfigError
from recuse.models import architecture, build_seeded, normalized
from recuse.models.folding import fold_batchnorm, foldable_pairs, folded_weights, traced
from recuse.models.prepared import prepare, prepared_copy, suited_precision

# (architecture, batch norms before, batch norms that cannot be folded: those after a sum)
NETWORKS = {
    "small": (architecture("small", size=8), 0, 0),
    "resnet4b": (architecture("resnet4b", size=8), 0, 0),
    "resnet20": (architecture("resnet20", size=8), 19, 0),
    "resnet18": (architecture("resnet18", size=8), 20, 0),
    "resnet50": (architecture("resnet50", size=8), 53, 0),
    "preact_resnet18": (architecture("preact_resnet18", size=8), 16, 8),
    "wide_resnet": (architecture("wide_resnet", depth=10, width=2, size=8), 7, 3),
    "swish_wide_resnet": (architecture("swish_wide_resnet", depth=10, width=2, size=8), 7, 3),
}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def randomised(config):
    """A normalised network in training mode with random batch-norm statistics."""
    channels = config.input_shape[0]
    network = normalized(build_seeded(config, 0), (0.4,) * channels, (0.2,) * channels)
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, NORMS):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.train()


def relative_error(out, expected):
    return ((out - expected).abs().max() / expected.abs().max()).item()


def count_norms(network):
    return sum(isinstance(module, NORMS) for module in network.modules())


@pytest.fixture(params=NETWORKS, scope="module")
def network(request):
    return randomised(NETWORKS[request.param][0])


@pytest.fixture
def images(network):
    torch.manual_seed(2)
    return torch.rand(4, 3, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_norm_behind_a_convolution_is_folded(name):
    config, before, left = NETWORKS[name]
    model = randomised(config)
    folded = fold_batchnorm(model)
    assert count_norms(model) == before
    assert (len(folded.folds), count_norms(folded.module)) == (before - left, left)


def test_the_prepared_network_is_the_same_function(network, images):
    expected = copy.deepcopy(network).eval()(images)
    for channels_last in (False, True):
        out = prepare(network, channels_last=channels_last)(images)
        assert relative_error(out, expected) < 1e-5


def test_volumes_are_prepared_too():
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.ReLU()).eval()
    volume = torch.rand(2, 1, 4, 4, 4)
    torch.testing.assert_close(prepare(network)(volume), network(volume))


def test_in_float64_folding_is_exact(network, images):
    exact = copy.deepcopy(network).double().eval()
    folded = fold_batchnorm(exact).module
    assert relative_error(folded(images.double()), exact(images.double())) < 1e-12


def test_the_gradient_to_the_input_is_the_same(network, images):
    def gradient(model):
        x = images.clone().requires_grad_()
        (grad,) = torch.autograd.grad(model(x).square().sum(), x)
        return grad

    expected = gradient(copy.deepcopy(network).eval())
    assert relative_error(gradient(prepare(network)), expected) < 1e-4


def test_bf16_is_a_screen_near_the_logits_with_fp32_in_and_out(network, images):
    expected = copy.deepcopy(network).eval()(images)
    x = images.clone().requires_grad_()
    out = prepare(network, precision="bf16")(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert out.dtype == grad.dtype == torch.float32
    assert 0 < relative_error(out, expected) < 0.05


def test_preparing_leaves_the_original_as_it_was(network):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    strides = [p.stride() for p in network.parameters()]
    prepare(network, precision="bf16")
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())
    assert [p.stride() for p in network.parameters()] == strides
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_the_prepared_network_is_frozen_in_eval_mode_with_channels_last(network):
    prepared = prepare(network)
    assert not any(module.training for module in prepared.modules())
    assert not any(p.requires_grad for p in prepared.parameters())
    convolutions = [m for m in prepared.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_refresh_follows_a_training_step(network, images, precision):
    network = copy.deepcopy(network)
    twin = prepared_copy(network, precision=precision)
    stale = twin.module(images)
    network(images).sum().backward()  # moves the running statistics too
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.sub_(0.01 * parameter.grad.sign())
    assert torch.equal(twin.module(images), stale)
    twin.refresh()
    anew = prepared_copy(network, precision=precision).module
    assert torch.equal(twin.module(images), anew(images))
    assert not torch.equal(twin.module(images), stale)


def test_refresh_after_wrapping_leaves_the_first_layer_in_fp32():
    twin = prepared_copy(randomised(NETWORKS["resnet20"][0]), precision="bf16").module
    kinds = [m.weight.dtype for m in twin.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert kinds[0] == torch.float32
    assert set(kinds[1:]) == {torch.bfloat16}


def test_one_folded_convolution_in_numbers():
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    for tensor, value in [
        (conv.weight, 3.0), (conv.bias, 1.0), (norm.weight, 2.0), (norm.bias, 5.0),
        (norm.running_mean, 4.0), (norm.running_var, 16.0),
    ]:  # fmt: skip
        nn.init.constant_(tensor, value)
    weight, bias = folded_weights(conv, norm)  # 2 · (3x + 1 − 4) / 4 + 5
    assert weight.item() == 1.5
    assert bias.item() == 3.5


def test_a_norm_without_weights_is_folded_and_one_without_statistics_is_not():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)).eval()
    plain[1].running_mean.normal_()
    x = torch.rand(2, 3, 8, 8)
    folded = fold_batchnorm(plain)
    assert len(folded.folds) == 1
    torch.testing.assert_close(folded.module(x), plain(x))
    batchwise = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert fold_batchnorm(batchwise).folds == ()


class Twice(nn.Module):
    """One convolution read by a norm and beside it: folding would change the second reader."""

    def __init__(self, reader):
        super().__init__()
        self.conv, self.bn, self.reader = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), reader

    def forward(self, x):
        out = self.conv(x)
        return self.bn(out) + (out if self.reader == "output" else self.conv(x + 1))


@pytest.mark.parametrize("reader", ["output", "layer"])
def test_a_convolution_with_a_second_reader_is_not_folded(reader):
    model = Twice(reader).eval()
    model.bn.running_mean.normal_()
    assert foldable_pairs(traced(model)) == []
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(prepare(model)(x), model(x))


class Standardised(nn.Conv2d):
    """A convolution whose stored weight is not the weight it applies."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Branching(nn.Module):
    """Control flow on values, which cannot be traced."""

    def __init__(self, body=None):
        super().__init__()
        plain = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Flatten())
        self.body = plain if body is None else body

    def forward(self, x):
        return self.body(x) if x.sum() > 0 else -self.body(x)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
@torch.no_grad()
def test_a_weight_that_a_hook_computes_is_left_to_the_layer(norm):
    model = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)).eval()
    model[1].weight.uniform_(2, 3)
    x = torch.rand(2, 3, 8, 8)
    wanted = model(x)
    torch.testing.assert_close(prepare(model)(x), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_convolution_of_its_own_is_no_matrix_product():
    model = Branching(nn.Sequential(Standardised(256, 256, 3, padding=1))).eval()
    model.body[0].weight.add_(0.01)
    x = torch.rand(2, 256, 4, 4)
    torch.testing.assert_close(prepare(model)(x), model(x))


def test_what_cannot_be_traced_is_prepared_unfolded_and_refreshes():
    model = Branching().eval()
    twin = prepared_copy(model)
    nn.init.constant_(model.body[0].bias, 7.0)
    twin.refresh()
    x = torch.rand(2, 3, 4, 4)
    assert count_norms(twin.module) == 1
    torch.testing.assert_close(twin.module(x), model(x))


class Elsewhere(nn.Module):
    """Stands for a network on a device that need not be here."""

    def __init__(self, weights, device):
        super().__init__()
        self.held = SimpleNamespace(device=torch.device(device), numel=lambda: weights)

    def parameters(self, recurse=True):
        yield self.held


def test_the_precision_suits_size_and_device(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda native=native: native)
        assert suited_precision(Elsewhere(999_999, "cuda")) == "fp32"
        assert suited_precision(Elsewhere(1_000_000, "cuda")) == ("bf16" if native else "fp32")
        assert suited_precision(Elsewhere(1_000_000, "cpu")) == "fp32"
    assert suited_precision(nn.Flatten()) == "fp32"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="'fp32' or 'bf16'"):
        prepare(nn.Flatten(), precision="fp16")
