"""Networks by name: real foreign weights reproduce their published accuracy."""

import io
import json
from math import sqrt

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from recuse.errors import ConfigError, DataError
from recuse.models import (
    CifarResNet,
    SmallConvNet,
    card_for,
    load_model,
    model_entries,
    model_names,
    models_folder,
    save_checkpoint,
    show_model,
    weights_sha256,
    zoo,
)
from recuse.models.manifest import foreign_architecture, foreign_card

NAMES = (
    "cifar10_cnn_a_adv_alt",
    "cifar10_cnn_a_mix",
    "cifar10_resnet20_std",
    "cifar10_resnet4b_adv2",
    "cifar10_resnet56_std",
    "cifar10_small_kw_8px",
    "cifar10_small_kw_l2_36px",
    "cifar10_small_std",
    "cifar10_wide_kw",
    "gtsrb_lenet_adv",
    "gtsrb_lenet_std",
    "mnist_small_kw03",
    "mnist_smallcnn_trades03",
)
SMALL = SmallConvNet(channels=1, size=8)


def read_images(path, count, *, mode="RGB", side=None):
    """The first images of a parquet file as they are, resized only where ``side`` says so."""
    frame = pl.read_parquet(path).head(count)
    arrays = []
    for raw in frame["img"].struct.field("bytes"):
        image = Image.open(io.BytesIO(raw)).convert(mode)
        image = image.resize((side, side), Image.Resampling.BILINEAR) if side else image
        arrays.append(np.atleast_3d(np.asarray(image)).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(arrays)).float() / 255, torch.tensor(frame["label"].to_list())


@pytest.fixture(scope="module")
def labelled_images(shared_data):
    return {
        "cifar10": read_images(shared_data / "cifar10_lossless_test.parquet", 1000),
        "mnist": read_images(shared_data / "mnist_test.parquet", 1000, mode="L"),
    }


@torch.no_grad()
def accuracy(model, images, labels):
    parts = images.split(250), labels.split(250)
    hits = [model(x).argmax(1) == y for x, y in zip(*parts, strict=True)]
    return torch.cat(hits).double().mean().item()


def manifest_entry(folder, name):
    entries = json.loads((folder / "manifest.json").read_text())
    return next(entry for entry in entries if entry["name"] == name)


def within_one_standard_error(measured, published, count):
    return abs(measured - published) <= sqrt(published * (1 - published) / count)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("gtsrb")])
def test_real_networks_reproduce_their_accuracy(name, labelled_images, shared_data, shared_models):
    model, _ = load_model(name, data_root=shared_data)
    images, labels = labelled_images[name.partition("_")[0]]
    entry = manifest_entry(shared_models, name)
    for count in (500, 1000):
        measured = accuracy(model, images[:count], labels[:count])
        assert measured == pytest.approx(entry[f"nat_acc_{count}"], abs=1.5 / count)  # one image


@pytest.fixture(scope="module")
def traffic_signs(shared_data):
    return read_images(shared_data / "gtsrb_test.parquet", 7700, side=32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gtsrb_lenet_adv", "gtsrb_lenet_std"])
def test_traffic_sign_networks_reproduce_their_accuracy(
    name, traffic_signs, shared_data, shared_models
):
    # The published 1,000 images are not these first 1,000 of the test set; all of it is a better
    # estimate of the same rate.
    model, _ = load_model(name, data_root=shared_data)
    measured = accuracy(model, *traffic_signs)
    published = manifest_entry(shared_models, name)["nat_acc_1000"]
    assert within_one_standard_error(measured, published, 1000)


def test_every_network_of_the_folder_is_listed(shared_data, shared_models):
    assert model_names(data_root=shared_data) == NAMES
    assert model_names(data_root=shared_models) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_real_network_has_its_card(name, shared_data, shared_models):
    model, card = load_model(name, data_root=shared_data)
    entry = manifest_entry(shared_models, name)
    assert sum(p.numel() for p in model.parameters()) == entry["params"]
    assert (card.name, card.licence, card.origin) == (name, entry["licence"], entry["source"])
    assert card.sha256 == weights_sha256(model)
    assert card.accuracy["nat_acc_1000"] == entry["nat_acc_1000"]
    assert list(card.preprocessing.mean) == entry["mean"]
    assert not model.training
    assert show_model(name, data_root=shared_data).with_sha256(card.sha256) == card


@pytest.mark.parametrize(
    ("name", "norm", "eps"),
    [
        ("cifar10_resnet4b_adv2", "linf", "2/255"),
        ("cifar10_small_kw_l2_36px", "l2", "36/255"),
        ("mnist_small_kw03", "linf", "0.3"),
        ("cifar10_resnet56_std", "", ""),
    ],
)
def test_the_threat_trained_against_is_read_from_the_words(name, norm, eps, shared_data):
    card = show_model(name, data_root=shared_data)
    assert (card.norm, card.eps) == (norm, eps)


def test_a_foreign_network_saved_as_checkpoint_is_the_same_function(shared_data, tmp_path):
    model, card = load_model("cifar10_resnet4b_adv2", data_root=shared_data)
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, model, card)
    again, read = load_model(str(path))
    x = torch.rand(4, 3, 32, 32)
    assert torch.equal(again(x), model(x))
    assert read == card


@pytest.fixture
def data_root(tmp_path):
    """A data folder with one checkpoint and one foreign file in ``models`` beside it."""
    root, models = tmp_path / "data", tmp_path / "models"
    root.mkdir()
    models.mkdir()
    card = card_for("mine", SMALL, accuracy={"natural_accuracy": 0.5})
    save_checkpoint(models / "mine.safetensors", card.build(), card)
    torch.save(SMALL.build().state_dict(), models / "theirs.pt")
    entry = {
        "name": "theirs",
        "file": "theirs.pt",
        "arch": "small(pad=1,flat=128,cin=1)",
        "mean": [0.5],
        "std": [0.5],
        "classes": "digits",
        "training": "none",
    }
    (models / "manifest.json").write_text(json.dumps([entry]))
    return root


def test_checkpoints_and_foreign_files_are_found_by_name(data_root, monkeypatch):
    assert model_names(data_root=data_root) == ("mine", "theirs")
    assert load_model("mine", data_root=data_root)[1].architecture == SMALL
    assert load_model("theirs", data_root=data_root)[1].label_names == tuple("0123456789")
    monkeypatch.setenv("RECUSE_DATA", str(data_root))
    assert load_model("mine")[1].name == "mine"
    assert load_model(str(data_root.parent / "models" / "mine.safetensors"))[1].name == "mine"


def test_the_models_folder_may_lie_inside_the_data_folder(data_root):
    (data_root.parent / "models").rename(data_root / "models")
    assert model_names(data_root=data_root) == ("mine", "theirs")


def test_an_unknown_model_lists_those_there_are(data_root):
    with pytest.raises(ConfigError, match=r"'other' is neither .* there are: mine, theirs"):
        load_model("other", data_root=data_root)


def test_no_models_folder_says_how_to_name_it(tmp_path, monkeypatch):
    monkeypatch.delenv("RECUSE_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    own = tmp_path / "share" / "recuse" / "models"
    for root in (None, tmp_path):
        assert models_folder(root) == own
        assert model_names(data_root=root) == ()
        with pytest.raises(ConfigError, match=r"there are: none .*RECUSE_MODELS.*--data-root"):
            load_model("anything", data_root=root)


def test_a_models_folder_that_is_named_comes_first(data_root, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("RECUSE_MODELS", str(tmp_path / "elsewhere"))
    assert models_folder(data_root) == tmp_path / "elsewhere"
    assert model_names(data_root=data_root) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is damaged: JSONDecodeError"),
        ('{"a": 1}', "holds no list"),
        ("[{}]", "has no 'arch'"),
        ("[1]", "entry 1 cannot be read"),
        ("[null]", "entry None cannot be read"),
        ('[{"name": "odd", "arch": "resnet999()"}]', "entry 'odd' cannot be read"),
        ('[{"name": "odd", "arch": "mlp", "mean": [], "std": []}]', "entry 'odd' has no 'file'"),
    ],
)
def test_what_cannot_be_read_hides_only_itself(data_root, text, reason):
    folder = data_root.parent / "models"
    (folder / "manifest.json").write_text(text)
    (folder / "broken.safetensors").write_bytes(b"broken")
    network, _ = load_model("mine", data_root=data_root)
    assert network(torch.rand(1, 1, 8, 8)).shape == (1, 10)
    faults = {}
    for entry in model_entries(data_root=data_root):
        if entry.ref not in ("mine", *(f"recuse:{p.stem}" for p in OWN.glob("*.safetensors"))):
            for ask in (entry.card, entry.load):
                with pytest.raises(DataError) as caught:
                    ask()
                faults[entry.ref] = str(caught.value)
    assert len(faults) == 2
    assert "truncated" in faults.pop("broken")
    assert reason in faults.popitem()[1]
    with pytest.raises(ConfigError, match=r"there are: .*mine"):
        load_model("other", data_root=data_root)


OWN = zoo.OWN_FOLDER


def test_the_project_keeps_networks_of_its_own(data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "OWN_FOLDER", tmp_path / "zoo")
    card = card_for("signs", SMALL, mean=(0.5,), std=(0.25,))
    written = save_checkpoint(tmp_path / "zoo" / "signs.safetensors", card.build(), card)
    assert load_model("recuse:signs", data_root=data_root)[1] == written
    assert show_model("recuse:signs") == written
    assert [e.ref for e in model_entries(data_root=data_root)] == ["mine", "theirs", "recuse:signs"]
    with pytest.raises(
        ConfigError, match=r"'recuse:other' is not among .* there are: recuse:signs"
    ):
        load_model("recuse:other", data_root=data_root)


def test_the_folder_of_the_own_networks_is_in_the_checkout():
    assert (OWN.parent / "pyproject.toml").is_file()
    for path in OWN.glob("*.safetensors"):
        _, card = load_model(f"recuse:{path.stem}")
        assert 0 < card.accuracy["natural_accuracy"] <= 1


@pytest.mark.parametrize(
    "change", [{"arch": "resnet999()"}, {"mean": ["a"]}, {"std": 3}, {"std": [0.0]}]
)
def test_an_entry_that_makes_no_sense_is_named(data_root, change):
    manifest = data_root.parent / "models" / "manifest.json"
    entry = json.loads(manifest.read_text())[0] | change
    with pytest.raises((DataError, ConfigError)) as caught:
        foreign_card(entry, manifest).build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("small(pad=1,flat=2048)", SmallConvNet()),
        ("small(pad=1,flat=1568,cin=1)", SmallConvNet(channels=1, size=28)),
        ("resnet56()", CifarResNet(depth=56)),
        ("resnet20(classes=43)", CifarResNet(depth=20, classes=43)),
    ],
)
def test_manifest_architectures_are_read_literally(text, config):
    assert foreign_architecture(text) == config


@pytest.mark.parametrize("text", ["small(pad=0,flat=2048)", "small(flat=100)", "small;import os"])
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError):
        foreign_architecture(text)
