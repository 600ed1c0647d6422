import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recuse.cli.arguments import NamedData
from recuse.cli.datasets import data_source
from recuse.data import ImageFolder, Source, load_part
from recuse.data.lazy import LazySplit
from recuse.data.on_demand import HELD_LIMIT
from recuse.errors import ConfigError, DataError
from recuse.integrations.hub import HubDataset, hub_source

from .conftest import Writer, png, random_pixels

PIXELS = random_pixels(40, 6, 6, 3)
LABELS = [row % 2 for row in range(40)]
Save = Callable[..., Path]


def named(name: str | Path, **how: Any) -> Source:
    """The data set as the command line finds it."""
    return data_source(str(name), NamedData(**how))


def unit(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor(pixels).permute(0, 3, 1, 2) / 255


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save images as the library does: a part by itself, or several parts."""
    library = pytest.importorskip("datasets")

    def rows(chosen: Sequence[int], labels: Any = LABELS, feature: Any = None) -> Any:
        kept = [labels[row] for row in chosen]
        blobs = [{"bytes": png(PIXELS[row]), "path": None} for row in chosen]
        found = library.Dataset.from_dict({"image": blobs, "label": kept})
        found = found.cast_column("image", library.Image())
        return found.cast_column("label", feature) if feature else found

    def write(parts: dict[str, Sequence[int]] | Sequence[int], **how: Any) -> Path:
        if isinstance(parts, dict):
            found = library.DatasetDict({name: rows(own, **how) for name, own in parts.items()})
        else:
            found = rows(parts, **how)
        place = tmp_path / str(len([*tmp_path.iterdir()])) / "saved"
        found.save_to_disk(str(place))
        return place

    return write


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"recuse\[hub\]"):
        HubDataset("uoft-cs/cifar10").load()


def test_hub_files_load_like_any_other(write_parquet: Writer, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    pages = [
        write_parquet([png(p) for p in own], LABELS[:20], file=f"{part}.parquet")
        for part, own in (("train", PIXELS[20:]), ("test", PIXELS[:20]))
    ]
    files = (("train", str(pages[0])), ("test", str(pages[1])))
    parts = HubDataset("parquet", files=files, cache=tmp_path / "cache").load()
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [18, 2, 20]
    assert torch.equal(parts.test.images, unit(PIXELS[:20]))
    assert parts.test.labels.tolist() == LABELS[:20]
    assert parts.test.ids[3] == "parquet/test/00003"


def test_a_part_may_have_several_files(write_parquet: Writer, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    many = write_parquet([png(p) for p in random_pixels(20, 6, 6, 3)], [i % 2 for i in range(20)])
    more, test = tmp_path / "more.parquet", tmp_path / "test.parquet"
    for copy in (more, test):
        copy.write_bytes(many.read_bytes())
    files = (("train", str(many)), ("train", str(more)), ("test", str(test)))
    parts = HubDataset("parquet", files=files, cache=tmp_path / "cache").load()
    assert [len(parts.train) + len(parts.validation), len(parts.test)] == [40, 20]


def test_what_the_library_saved_is_a_data_set_in_parts(save: Save) -> None:
    path = save({"train": range(20), "val": range(20, 28), "test": range(28, 40)})
    parts = named(path).load()
    shown = [parts.train, parts.validation, parts.test]
    assert torch.equal(torch.cat([part.images for part in shown]), unit(PIXELS))
    assert torch.cat([part.labels for part in shown]).tolist() == LABELS
    assert parts.validation.ids[1] == "saved/validation/00001"
    assert load_part(named(path), "test")[0].ids == parts.test.ids
    two = named(save({"train": range(20), "validation": range(20, 40)})).load()
    assert [len(two.train), len(two.validation), len(two.test)] == [18, 2, 20]


def test_one_part_is_a_pool(save: Save) -> None:
    pool = load_part(named(save(range(40))), "all")[0]
    assert torch.equal(pool.images, unit(PIXELS))
    assert pool.ids[7] == "saved/00007"
    splits = named(save({"train": range(40)})).load()
    assert "come in no parts" in splits.note
    alone = named(save({"test": range(4)}))
    assert len(load_part(alone, "test")[0]) == 4
    with pytest.raises(DataError, match="there is no train part; found test"):
        alone.load()


def test_saved_rows_are_decoded_on_demand_and_show_what_a_folder_shows(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row, pixels in enumerate(PIXELS):
        file = tmp_path / "folder" / str(LABELS[row]) / f"{row:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))
    monkeypatch.setenv(HELD_LIMIT, "0")
    lazy, _ = load_part(named(save(range(40))), "all")
    files, _ = load_part(ImageFolder(tmp_path / "folder"), "all")
    assert isinstance(lazy, LazySplit)
    assert sorted(lazy.row_fingerprints()) == sorted(files.row_fingerprints())
    order = [int(name.split("/")[-1][:2]) for name in files.ids]
    assert torch.equal(lazy.take(order).images, files.images)
    sent = pickle.loads(pickle.dumps(lazy.take([1, 30])))
    assert torch.equal(sent.images, unit(PIXELS[[1, 30]]))


def test_reading_is_asked_for_as_of_any_files(save: Save) -> None:
    small = named(save(range(40)), size=3, channels=1, limit=5)
    assert load_part(small, "all")[0].images.shape == (5, 1, 3, 3)


def test_labels_may_be_names_and_must_be_there(save: Save) -> None:
    library = pytest.importorskip("datasets")
    words = [("dog", "cat")[label] for label in LABELS]
    split = load_part(named(save(range(40), labels=words)), "all")[0]
    assert split.label_names == ("cat", "dog")
    assert split.labels.tolist() == [1 - label for label in LABELS]
    feature = library.ClassLabel(names=["stop", "go"])
    assert load_part(named(save(range(40), feature=feature)), "all")[0].label_names == (
        "stop",
        "go",
    )
    for labels, said in (([-1] * 40, "the label is -1"), ([0.5] * 40, "neither integers")):
        with pytest.raises(DataError, match=said):
            load_part(named(save(range(40), labels=labels)), "all")
    with pytest.raises(DataError, match="row 0: the label is missing"):
        load_part(named(save(range(40), labels=[None, *LABELS[1:]])), "all")


def test_a_damaged_row_or_file_is_one_sentence(save: Save) -> None:
    library = pytest.importorskip("datasets")
    path = save({"train": range(4), "test": range(4, 8)})
    (file,) = (path / "test").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="saved cannot be loaded: ") as error:
        named(path).load()
    assert "\n" not in str(error.value)
    blobs = [None, {"bytes": b"no image", "path": None}]
    for entry, said in zip(blobs, ("no image bytes", "not an image"), strict=True):
        rows = library.Dataset.from_dict({"image": [entry] * 3, "label": [0, 1, 0]})
        image = {"bytes": library.Value("binary"), "path": library.Value("string")}
        rows = rows.cast_column("image", image)
        rows.save_to_disk(str(path.with_name("odd")))
        with pytest.raises(DataError, match=f"row 0.*{said}"):
            load_part(named(path.with_name("odd")), "all")
    numbers = library.Dataset.from_dict({"image": [1, 2], "label": [0, 1]})
    numbers.save_to_disk(str(path.with_name("numbers")))
    with pytest.raises(DataError, match="column 'image' holds no images"):
        load_part(named(path.with_name("numbers")), "all")


def test_settings_are_typed_behind_the_name() -> None:
    typed = hub_source("hub:uoft-cs/cifar100(config=cifar100, test=validation)")
    assert typed == HubDataset("uoft-cs/cifar100", config="cifar100", test="validation")
    files = "hub:parquet(files=[[test, 'a.parquet']], cache='b/c')"
    found = HubDataset("parquet", files=(("test", "a.parquet"),), cache=Path("b/c"))
    assert hub_source(files) == found
    assert named("hub:x/y", size=3) == HubDataset("x/y", size=3)
    assert NamedData(size=3).words() == ("--size", "3")
    for wrong, said in (
        ("hub:x(colour=red)", "no field 'colour'"),
        ("hub:x(", "missing"),
        ("hub:", "names no data set"),
    ):
        with pytest.raises(ConfigError, match=said):
            named(wrong)


def test_a_part_or_file_is_not_trained_on_and_judged() -> None:
    with pytest.raises(ConfigError, match=r"a\.parquet is to be trained on and judged"):
        HubDataset("parquet", files=(("train", "a.parquet"), ("test", "a.parquet")))
    with pytest.raises(ConfigError, match="part 'train' of x/y is to be trained on and judged"):
        HubDataset("x/y", test="train")


def test_a_missing_part_or_column_is_one_sentence(write_parquet: Writer, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    path = write_parquet([png(p) for p in random_pixels(4, 6, 6, 3)], [0, 1, 0, 1], label="target")
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="no column label or fine_label or labels; found") as error:
        HubDataset("parquet", files=(("test", str(path)),), cache=cache).load_test()
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="there is no train part; found test"):
        HubDataset("parquet", files=(("test", str(path)),), cache=cache).load()
    with pytest.raises(DataError, match="no part 'train' nor 'test'; found other"):
        HubDataset("parquet", files=(("other", str(path)),), cache=cache).load()
    empty = write_parquet([], [], file="empty.parquet")
    with pytest.raises(DataError, match=r"parquet cannot be loaded: .*no data"):
        HubDataset("parquet", files=(("test", str(empty)),), cache=cache).load_test()
    with pytest.raises(DataError, match=r"parquet cannot be loaded: .*gone") as error:
        HubDataset("parquet", files=(("test", str(tmp_path / "gone.parquet")),)).load()
    assert "\n" not in str(error.value)
