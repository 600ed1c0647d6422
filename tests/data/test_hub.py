import sys
from pathlib import Path

import pytest
import torch

from recuse.errors import ConfigError, DataError
from recuse.integrations.hub import HubDataset

from .conftest import Writer, png, random_pixels


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"recuse\[hub\]"):
        HubDataset("uoft-cs/cifar10").load()


def test_hub_files_load_like_any_other(write_parquet: Writer, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    pixels = random_pixels(40, 6, 6, 3)
    labels = [i % 2 for i in range(20)]
    pages = [
        write_parquet([png(p) for p in own], labels, file=f"{part}.parquet")
        for part, own in (("train", pixels[20:]), ("test", pixels[:20]))
    ]
    files = (("train", str(pages[0])), ("test", str(pages[1])))
    data = HubDataset("parquet", files=files, cache=tmp_path / "cache")
    parts = data.load()
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [18, 2, 20]
    assert torch.equal(
        (parts.test.images * 255).round().byte().permute(0, 2, 3, 1), torch.tensor(pixels[:20])
    )
    assert parts.test.labels.tolist() == labels
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


def test_a_part_or_file_is_not_trained_on_and_judged() -> None:
    with pytest.raises(ConfigError, match=r"a\.parquet is to be trained on and judged"):
        HubDataset("parquet", files=(("train", "a.parquet"), ("test", "a.parquet"))).load()
    with pytest.raises(ConfigError, match="part 'train' of x/y is to be trained on and judged"):
        HubDataset("x/y", test="train").load()


def test_a_missing_part_or_column_is_one_sentence(write_parquet: Writer, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    path = write_parquet([png(p) for p in random_pixels(4, 6, 6, 3)], [0, 1, 0, 1], label="target")
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="no column label or fine_label or labels; found") as error:
        HubDataset("parquet", files=(("test", str(path)),), cache=cache).load_test()
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"parquet \(train\) cannot be loaded") as error:
        HubDataset("parquet", files=(("test", str(path)),), cache=cache).load()
    assert "\n" not in str(error.value)
