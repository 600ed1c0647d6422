"""Our networks carry the names and shapes of RobustBench's weight files."""

import json
from pathlib import Path

import pytest
import torch

from recuse.errors import ConfigError, DataError
from recuse.integrations.robustbench import ENTRIES, load_robustbench
from recuse.models import architecture
from recuse.models.foreign import bare, network_tensors, read_state_dict

KEYS = json.loads(Path(__file__).with_name("robustbench_keys.json").read_text())["networks"]
OURS = {
    "WideResNet-28-10": architecture("wrn_28_10"),
    "DMWideResNet-28-10": architecture("swish_wide_resnet"),
    "ResNet18": architecture("resnet18"),
    "ResNet50": architecture("resnet50"),
    "PreActResNet18": architecture("preact_resnet18"),
}


def shapes(config):
    with torch.device("meta"):
        return {k: list(v.shape) for k, v in config.build().state_dict().items()}


@pytest.mark.parametrize("name", KEYS)
def test_names_and_shapes_are_theirs(name):
    assert shapes(OURS[name]) == KEYS[name]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_is_a_cifar10_network_with_a_whole_normalisation(name):
    entry = ENTRIES[name]
    assert entry.architecture.classes == 10
    assert entry.architecture.input_shape == (3, 32, 32)
    assert len(entry.mean) == len(entry.std)
    assert bool(entry.norm) == bool(entry.eps)


@pytest.fixture
def wong(tmp_path):
    """A file as the leaderboard stores it: prefixed, with its normalisation buffers."""
    torch.manual_seed(0)
    network = architecture("preact_resnet18").build().eval()
    state = {f"module.{k}": v for k, v in network.state_dict().items()}
    state["module.mu"] = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
    state["module.sigma"] = torch.tensor([0.2471, 0.2435, 0.2616]).view(1, 3, 1, 1)
    torch.save({"state_dict": state}, tmp_path / "Wong2020Fast.pt")
    return tmp_path / "Wong2020Fast.pt", network, state


def test_an_entry_loads_as_the_function_it_stores(wong):
    path, network, state = wong
    before = torch.get_rng_state()
    model, card = load_robustbench(path, "Wong2020Fast")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(2, 3, 32, 32)
    expected = network((x - state["module.mu"]) / state["module.sigma"])
    torch.testing.assert_close(model(x), expected)
    assert (card.norm, card.eps) == ("linf", "8/255")


def test_the_block_that_is_never_run_is_left_out():
    state = {"model.fc.bias": torch.zeros(1), "sub_block1.layer.0.bn1.weight": torch.zeros(1)}
    assert list(bare(network_tensors(state), ["fc.bias"])) == ["fc.bias"]


def test_the_wrong_entry_or_file_is_refused(wong):
    path, _, _ = wong
    with pytest.raises(DataError, match="does not fit"):
        load_robustbench(path, "Sehwag2021Proxy_R18")
    with pytest.raises(ConfigError, match="known: Standard"):
        load_robustbench(path, "Nobody2020Nothing")
    assert "mu" in read_state_dict(path)
