"""A system's folder: what was saved is what is loaded, and what was changed is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from recuse.composition import Cascade, Core, Stage
from recuse.data import Splits
from recuse.errors import ConfigError, DataError
from recuse.models.class_order import Reordered
from recuse.selectors import RobustMargin, RobustnessIndicator, SoftmaxResponse
from recuse.systems import System, load
from recuse.systems.folder import save
from recuse.systems.typed import open_selector, read_selector, write_selector

from .conftest import BUDGET, FORM, LABELS, card, stage

FILES = ["core.json", "core.safetensors", "era.json", "era.safetensors", "system.json"]


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def test_a_loaded_system_answers_as_the_saved_one(
    built: System, saved: Path, digits: Splits
) -> None:
    loaded, images = load(saved), digits.validation.images[:40]
    assert loaded.predict(images, seed=3) == built.predict(images, seed=3)
    assert (loaded.labels, loaded.form, loaded.name) == (built.labels, built.form, built.name)
    assert dict(loaded.measured) == dict(built.measured)
    assert dict(loaded.chosen_on) == dict(built.chosen_on)
    assert loaded.cascade.stages[0].selector == built.cascade.stages[0].selector


def test_the_folder_holds_no_code_and_a_page(saved: Path) -> None:
    assert sorted(p.name for p in saved.iterdir()) == ["README.md", *FILES]
    about = json.loads((saved / "system.json").read_text())
    assert set(about["files"]) == set(FILES) - {"system.json"}
    page = (saved / "README.md").read_text()
    assert "linf:0.05" in page
    assert "natural accuracy" in page


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_changed_file_is_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data.replace(b"0", b"1", 1))
    with pytest.raises(DataError, match=rf"{name} was changed"):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        load(folder)


def rewritten(folder: Path, **fields: object) -> None:
    """A system.json by somebody who knows its checksum."""
    from recuse.systems.folder import _checksum

    about = json.loads((folder / "system.json").read_text()) | fields
    del about["checksum"]
    (folder / "system.json").write_text(json.dumps(about | {"checksum": _checksum(about)}))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"format": 2}, "newer version"),
        ({"format": "x"}, "does not describe a system"),
        ({"labels": ["a", "b"]}, "classes|does not know"),
        ({"labels": 7}, "does not describe a system"),
        ({"budget": "linf:9"}, "larger than 1"),
        ({"input": {"channels": 3, "size": [8, 8], "resize": None}}, "cannot read images"),
        ({"input": {}}, "does not describe a system"),
        ({"files": {"../../etc/passwd": "0"}}, "not inside the folder"),
        ({"files": {}}, "vouches for no file"),
        ({"stages": [{"name": "era"}]}, "does not describe a system"),
    ],
)
def test_a_folder_that_is_no_system_is_refused(folder: Path, fields: dict, says: str) -> None:
    rewritten(folder, **fields)
    with pytest.raises((DataError, ConfigError), match=says):
        load(folder)


def test_a_selector_that_means_something_else_by_now_is_refused(folder: Path) -> None:
    (entry,) = json.loads((folder / "system.json").read_text())["stages"]
    assert entry["settings"]["attack"]["steps"] == 5
    entry["settings"]["attack"]["steps"] = 39  # as if a default had changed since
    rewritten(folder, stages=[entry])
    with pytest.raises(DataError, match="means something else by 'indicator"):
        load(folder)
    del entry["settings"]["attack"]["steps"]  # as if a field had been added since
    rewritten(folder, stages=[entry])
    assert load(folder)


def test_no_folder_is_no_system(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no system: there is no system.json"):
        load(tmp_path / "nowhere")


def test_members_in_another_order_of_classes_are_stored_as_they_are(
    robust: nn.Module, accurate: nn.Module, digits: Splits, tmp_path: Path
) -> None:
    order = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
    turned = card("core", tuple(LABELS[i] for i in order))
    network = Reordered(accurate, order)  # what the data's classes ask for
    stages = (stage(robust).stage,)
    system = System(
        "s", Cascade(stages, Core(network, "core", turned), BUDGET), turned.label_names, FORM
    )
    system.save(tmp_path / "s")
    loaded, images = load(tmp_path / "s"), digits.test.images[:60]
    assert loaded.labels == turned.label_names
    assert loaded.predict(images, seed=0) == system.predict(images, seed=0)
    named = [LABELS.index(name) for name in loaded.predict(images, seed=0).name]
    assert (torch.tensor(named) == digits.test.labels[:60]).float().mean() > 0.9


def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    robust: nn.Module, tmp_path: Path
) -> None:
    bare = Stage(robust, RobustnessIndicator(BUDGET, stage(robust).stage.selector.attack), "bare")
    system = System("s", Cascade((bare,), None, BUDGET), LABELS, FORM)
    with pytest.raises(ConfigError, match="'bare' comes without a card"):
        save(system, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_names_of_members_never_meet_in_a_file(robust: nn.Module, tmp_path: Path) -> None:
    named = [replace(stage(robust).stage, name=n) for n in ("a/b", "A b", "system", "..")]
    System("s", Cascade(tuple(named), None, BUDGET), LABELS, FORM).save(tmp_path / "s")
    assert load(tmp_path / "s").cascade.names == ("a/b", "A b", "system", "..")
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == 4


@pytest.mark.parametrize(
    "text",
    [
        "indicator",
        "indicator(attack=apgd(steps=5), radius=0.07)",
        "robust_margin(threshold=0.3333333432674408)",
        "softmax(threshold=0.9171234965324402)",
        "entropy(threshold=-0.35124135017395)",
        "robust_softmax(threshold=0.75)",
        "certified(certifier=ibp)",
    ],
)
def test_selectors_come_back_from_their_text(text: str) -> None:
    selector = read_selector(text, BUDGET)
    assert read_selector(write_selector(selector), BUDGET) == selector
    assert not open_selector(text, BUDGET)[1]


def test_thresholds_that_are_not_written_are_open() -> None:
    kinds = {"softmax": SoftmaxResponse, "robust_margin": RobustMargin}
    for name, kind in kinds.items():
        selector, is_open = open_selector(name, BUDGET)
        assert isinstance(selector, kind)
        assert is_open
