"""However a model is named, one place finds it; what cannot be had is one sentence."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from recuse.cli import options
from recuse.cli.searched import searched
from recuse.data import Split, Splits
from recuse.errors import ConfigError, DataError
from recuse.integrations.sources import SOURCES, is_code, load_model
from recuse.models import (
    SmallConvNet,
    architecture,
    card_for,
    load_checkpoint,
    save_checkpoint,
    weights_sha256,
)
from recuse.models.chosen_output import ChosenOutput
from recuse.models.new_head import with_new_head
from recuse.recipes.config import ModelPlan, Pretrained
from recuse.recipes.obtain import starting_point
from recuse.recipes.run_location import RunLocation

SMALL = SmallConvNet(channels=1, size=8)
IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def signs():
    labels = torch.tensor([0, 1, 2, 3])
    images = torch.rand(4, 1, 8, 8)
    return Split("signs", images, labels, ("a", "b", "c", "d"), ("w", "x", "y", "z"))


class Several(nn.Module):
    """Logits beside features, in whatever form is asked for."""

    def __init__(self, form):
        super().__init__()
        self.layer = nn.Linear(64, 4)
        self.form = form

    def forward(self, x):
        return self.form(self.layer(x.flatten(1)), x)


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """A file of Python in the working folder, as a person has one."""
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "made = []\n"
        "def build():\n    made.append(1)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n"
        "def broken():\n    return 1 / 0\n"
        "def number():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    yield
    sys.modules.pop("my_nets", None)


def test_a_function_is_run_only_where_it_was_typed(typed, tmp_path):
    loaded = options.model("my_nets:build", None)
    assert (loaded.name, loaded.card, loaded.network.training) == ("build", None, False)
    assert len(sys.modules["my_nets"].made) == 1
    with pytest.raises(ConfigError, match="run only where it is typed"):
        load_model("my_nets:build")
    with pytest.raises(ConfigError, match="run only where it is typed"):
        options.trainable("my_nets:build", signs(), None, seed=0)
    place, splits = RunLocation(tmp_path), Splits(signs(), signs(), signs())
    with pytest.raises(ConfigError, match="run only where it is typed"):
        starting_point(ModelPlan("m", Pretrained("my_nets:build")), splits, place)
    assert len(sys.modules["my_nets"].made) == 1


def test_a_search_that_names_code_is_refused(tmp_path):
    best = {"core": "os:getcwd", "norm": "linf", "eps": "2/255", "splits": [{"stages": ["era"]}]}
    (tmp_path / "best.json").write_text(json.dumps(best))
    with pytest.raises(ConfigError, match="names 'os:getcwd', which is code"):
        searched(tmp_path / "best.json", ())
    stages = ("os:getcwd=my_nets:build",)
    assert searched(tmp_path / "best.json", stages)[2] == "os:getcwd=my_nets:build"


@pytest.mark.parametrize(
    ("ref", "sentence"),
    [
        ("my_nets:broken", "cannot be built: ZeroDivisionError"),
        ("my_nets:number", "is a int, not an nn.Module"),
        ("my_nets:none", "cannot be built: AttributeError"),
        ("no_such_module:build", "cannot be built: ModuleNotFoundError"),
        ("ftp:there/net", r"of no known form: write robustbench:…, timm:…, hub:…, onnx:…, recuse:"),
        ("recuse:none", "is not among the networks"),
        ("robustbench:Wong2020Fast/L2", "write robustbench:Wong2020Fast/Linf"),
        ("robustbench:Wong2020Fast/Linf", "is not at .*Linf/Wong2020Fast.pt; put"),
        ("robustbench:Nobody/Linf", "'Nobody' is known only to the package robustbench"),
        ("robustbench:Nobody/l7", "write robustbench:NAME/Linf"),
        ("hub:alone", "must be hub:owner/name"),
        ("nothing", "is neither a .safetensors checkpoint nor in"),
        ("a:b.safetensors", "does not exist"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(ref, sentence, typed, tmp_path, monkeypatch):
    monkeypatch.setenv("RECUSE_MODELS", str(tmp_path))
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises((ConfigError, DataError), match=sentence) as caught:
        options.model(ref, None)
    assert "\n" not in str(caught.value)


def test_every_form_goes_to_its_source(monkeypatch):
    for scheme in SOURCES:
        asked = []
        network = nn.Flatten()

        def open_(name, root, asked=asked, network=network):
            asked.append((name, root))
            return network, None

        monkeypatch.setitem(SOURCES, scheme, open_)
        assert load_model(f"{scheme}:a/b")[0] is network
        assert asked == [("a/b", None)]
        assert not is_code(f"{scheme}:name")


def test_a_robustbench_file_is_found_where_its_package_keeps_it(tmp_path, monkeypatch):
    network = architecture("preact_resnet18").build().eval()
    place = tmp_path / "cifar10" / "Linf" / "Wong2020Fast.pt"
    place.parent.mkdir(parents=True)
    torch.save({"state_dict": network.state_dict()}, place)
    monkeypatch.setenv("RECUSE_MODELS", str(tmp_path))
    for name in ("Wong2020Fast/Linf", "Wong2020Fast"):
        loaded, card = load_model(f"robustbench:{name}")
        assert (card.name, card.norm, card.eps) == ("robustbench/Wong2020Fast", "linf", "8/255")
        assert torch.equal(loaded.network.linear.weight, network.linear.weight)


def test_an_entry_that_only_the_package_knows_is_built_by_it(tmp_path, monkeypatch):
    asked = {}

    def build(**how):
        asked.update(how)
        return nn.Linear(2, 2).train()

    monkeypatch.setitem(sys.modules, "robustbench", SimpleNamespace(load_model=build))
    monkeypatch.setenv("RECUSE_MODELS", str(tmp_path))
    network, card = load_model("robustbench:Somebody2026Best/L2")
    assert (card, network.training) == (None, False)
    assert (asked["model_name"], asked["threat_model"]) == ("Somebody2026Best", "L2")
    assert asked["model_dir"] == tmp_path


FORMS = {
    "1": lambda logits, x: (x, logits),
    "logits": lambda logits, x: {"features": x, "logits": logits},
    "scores": lambda logits, x: SimpleNamespace(features=x, scores=logits),
    "0": lambda logits, x: [logits],
    "alone": lambda logits, x: logits,
    "log": lambda logits, x: logits.softmax(1),
    "log:p": lambda logits, x: {"p": logits.softmax(1), "x": x},
}


@pytest.mark.parametrize("output", FORMS)
def test_the_named_output_is_the_logits(output):
    network = Several(FORMS[output])
    chosen = ChosenOutput(network, output)(IMAGES)
    logits = network.layer(IMAGES.flatten(1))
    if output.startswith("log") and output != "logits":
        logits = logits.log_softmax(1)
    torch.testing.assert_close(chosen, logits)
    chosen.sum().backward()


@pytest.mark.parametrize(
    ("output", "form", "sentence"),
    [
        ("2", FORMS["1"], "several outputs, 0, 1; name .*, not '2'"),
        ("-1", FORMS["1"], "several outputs, 0, 1"),
        ("logit", FORMS["logits"], "features, logits; name"),
        ("log", FORMS["alone"], "no probabilities"),
        ("log", FORMS["1"], "several outputs"),
        ("scores", lambda logits, x: None, "several outputs"),
    ],
)
def test_an_output_that_is_not_there_is_named(output, form, sentence):
    with pytest.raises(DataError, match=sentence):
        ChosenOutput(Several(form), output)(IMAGES)


def test_saturated_probabilities_have_no_gradient_and_no_infinity():
    network = Several(lambda logits, x: (1e4 * logits).softmax(1))
    images = IMAGES.clone().requires_grad_()
    logits = ChosenOutput(network, "log")(images)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert not images.grad.any()


def test_two_outputs_of_one_network_have_two_digests():
    network = Several(FORMS["1"])
    assert weights_sha256(ChosenOutput(network, "0")) != weights_sha256(ChosenOutput(network, "1"))


@pytest.mark.parametrize("text", ["small", "resnet4b", "cifar_resnet(depth=8)", "mlp(shape=[4])"])
def test_a_new_head_keeps_everything_else(text, tmp_path):
    from recuse.models import parse_architecture

    config = parse_architecture(text)
    card = card_for("old", config, accuracy={"natural_accuracy": 0.9})
    old = card.build()
    new, renewed = with_new_head(old, card, 7, seed=1)
    assert (renewed.architecture.classes, renewed.accuracy, renewed.label_names) == (7, {}, ())
    assert new(torch.rand(2, *config.input_shape)).shape == (2, 7)
    before, after = old.state_dict(), new.state_dict()
    changed = {k for k in before if before[k].shape != after[k].shape}
    assert len(changed) == 2
    assert all(torch.equal(before[k], after[k]) for k in before if k not in changed)
    same, _ = with_new_head(old, card, 7, seed=1)
    other, _ = with_new_head(old, card, 7, seed=2)
    head = min(changed)
    assert torch.equal(same.state_dict()[head], after[head])
    assert not torch.equal(other.state_dict()[min(changed - {head})], after[min(changed - {head})])
    again, _ = with_new_head(old, card, config.classes, seed=1)
    assert not torch.equal(again.state_dict()[max(changed)], before[max(changed)])
    save_checkpoint(tmp_path / "new.safetensors", new, renewed)
    assert load_checkpoint(tmp_path / "new.safetensors")[1].architecture == renewed.architecture


def test_a_head_must_fit_the_data(tmp_path):
    path, card = tmp_path / "s.safetensors", card_for("s", SMALL)
    save_checkpoint(path, card.build(), card)
    data = signs()
    network, renewed = options.trainable(str(path), data, None, seed=0, new_head=4)
    assert network(IMAGES).shape == (3, 4)
    assert renewed.name == "s"
    narrow, few = (
        tmp_path / "n.safetensors",
        card_for("n", SmallConvNet(channels=1, size=8, classes=3)),
    )
    save_checkpoint(narrow, few.build(), few)
    with pytest.raises(ConfigError, match="tells 3 classes apart, but signs has 4; give --new-hea"):
        options.trainable(str(narrow), data, None, seed=0)
    with pytest.raises(ConfigError, match="signs has 4 classes; give --new-head 4"):
        options.trainable(str(path), data, None, seed=0, new_head=5)
