"""One file or folder is training or test set, never both."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recuse.data import Digits, Gaussians, ImageFolder, ParquetFiles, ShardFolder, Split, TrainTest
from recuse.data.folder import PART_FOLDERS
from recuse.data.pool import cut
from recuse.data.sources import load_part
from recuse.data.split import Splits
from recuse.errors import ConfigError, DataError

from .conftest import Writer, png, random_pixels

Fill = Callable[..., Path]


def pool(labels: list[int], *, seed: int = 0, classes: int = 3) -> Split:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (len(labels), 1, 4, 4), generator=draw)
    ids = tuple(f"pool/{i}" for i in range(len(labels)))
    names = tuple(f"class {k}" for k in range(classes))
    return Split("pool", pixels / 255, torch.tensor(labels), ids, names)


def parts_of(splits: Splits) -> dict[bytes, str]:
    """Where each picture went."""
    named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        image.numpy().tobytes(): part for part, split in named.items() for image in split.images
    }


def test_the_parts_are_a_partition_of_about_70_10_and_20_percent() -> None:
    whole = pool([i % 3 for i in range(3000)])
    splits = cut(whole, seed=0)
    ids = splits.train.ids + splits.validation.ids + splits.test.ids
    assert sorted(ids) == sorted(whole.ids)
    shares = [len(part) / 3000 for part in (splits.train, splits.validation, splits.test)]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.025)
    sizes = tuple(len(part) for part in (splits.train, splits.validation, splits.test))
    assert splits.note == (
        "3,000 images of pool come in no parts: seed 0 cuts them into {:,} to train on, {:,} to "
        "validate and {:,} to judge".format(*sizes)
    )
    assert parts_of(cut(whole, seed=1)) != parts_of(splits)


def test_order_names_and_newcomers_move_no_image() -> None:
    whole = pool([i % 3 for i in range(900)])
    before = parts_of(cut(whole, seed=0))
    shuffled = whole.take(torch.randperm(900, generator=torch.Generator().manual_seed(1)))
    renamed = Split("other", shuffled.images, shuffled.labels, whole.ids, whole.label_names)
    assert parts_of(cut(renamed, seed=0)) == before
    more = pool([i % 3 for i in range(300)], seed=9)
    images = torch.cat([more.images, whole.images])
    labels = torch.cat([more.labels, whole.labels])
    ids = tuple(f"grown/{i}" for i in range(1200))
    grown = parts_of(cut(Split("grown", images, labels, ids, whole.label_names), seed=0))
    assert {row: grown[row] for row in before} == before


def test_copies_of_an_image_stay_together_whatever_their_labels() -> None:
    once = pool([i % 3 for i in range(60)])
    images = once.images.repeat(3, 1, 1, 1)
    labels = torch.cat([once.labels, once.labels, (once.labels + 1) % 3])
    ids = tuple(str(i) for i in range(180))
    splits = cut(Split("copies", images, labels, ids, once.label_names), seed=0)
    shown = [
        {image.numpy().tobytes() for image in part.images}
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert sum(len(own) for own in shown) == len(set.union(*shown)) == 60


@given(
    counts=st.lists(st.integers(3, 12), min_size=2, max_size=5),
    seed=st.integers(0, 50),
)
def test_every_class_of_three_images_is_in_every_part(counts: list[int], seed: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    splits = cut(pool(labels, seed=seed, classes=len(counts)), seed=seed)
    for part in (splits.train, splits.validation, splits.test):
        assert set(part.labels.tolist()) == set(range(len(counts)))
    assert "too small" not in splits.note


def test_smaller_classes_are_named_and_trained_on() -> None:
    splits = cut(pool([0] * 20 + [1] * 2 + [2]), seed=0)
    assert splits.note.endswith("too small for all three: class 1, class 2")
    assert {1, 2} <= set(splits.train.labels.tolist())
    assert 1 in set(splits.test.labels.tolist())
    with pytest.raises(DataError, match=r"2 images are too few to cut .*--part all"):
        cut(pool([0, 1]), seed=0)


def write(write_parquet: Writer, first: int, last: int, file: str, **options: object) -> Path:
    blobs = [png(p) for p in random_pixels(last, 4, 4, 3)[first:]]
    return write_parquet(blobs, [i % 2 for i in range(last - first)], file=file, **options)


def test_one_parquet_file_is_cut_and_never_both(write_parquet: Writer, tmp_path: Path) -> None:
    file = write(write_parquet, 0, 200, "all.parquet")
    splits = ParquetFiles(file).load()
    assert not set(parts_of(splits)) - set(parts_of(cut(ParquetFiles(file).load_pool(), seed=0)))
    assert len(parts_of(splits)) == 200
    assert ParquetFiles(file).load_test().ids == splits.test.ids
    with pytest.raises(DataError, match=r"all\.parquet is to be trained on and judged"):
        ParquetFiles(file, file).load()
    copy = tmp_path / "copy.parquet"
    pl.read_parquet(file).sample(fraction=1.0, shuffle=True, seed=0).write_parquet(copy)
    with pytest.raises(DataError, match=r"200 of the 200 images of copy/test are in all/train too"):
        ParquetFiles(file, copy).load()


def test_the_part_to_judge_or_all_of_it(write_parquet: Writer) -> None:
    source = ParquetFiles(write(write_parquet, 0, 60, "all.parquet"))
    whole, said = load_part(source, "all")
    assert (len(whole), said) == (60, "")
    test, said = load_part(source, "test")
    assert test.ids == source.load().test.ids
    assert "60 images of all come in no parts" in said
    assert len(load_part(source, "train")[0]) + len(load_part(source, "validation")[0]) == (
        60 - len(test)
    )
    digits, said = load_part(Digits(), "all")
    assert (len(digits), digits.name, said) == (1797, "digits", "")
    assert load_part(Digits(), "test")[0].ids == Digits().load_test().ids
    with pytest.raises(DataError, match="different sample ids"):
        load_part(Gaussians(), "all")  # judged on its training points
    with pytest.raises(ConfigError, match="part 'x' is unknown; known: test, "):
        load_part(source, "x")


def test_training_and_test_set_can_be_named(write_parquet: Writer) -> None:
    first = write(write_parquet, 0, 100, "a.parquet", names=["cat", "dog"])
    second = write(write_parquet, 100, 140, "b.parquet", names=["dog", "cat"])
    splits = TrainTest(ParquetFiles(first), ParquetFiles(second)).load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [90, 10, 40]
    assert splits.test.label_names == ("cat", "dog")
    named = ParquetFiles(second).load_pool()
    assert [splits.test.label_names[k] for k in splits.test.labels] == [
        named.label_names[k] for k in named.labels
    ]
    assert splits.note == ""
    third = write(write_parquet, 99, 299, "c.parquet", names=["dog", "cat"])
    pair = TrainTest(ParquetFiles(first), ParquetFiles(third))
    _, said = load_part(pair, "test")
    assert said == pair.load().note == "1 of the 200 images of c are in a too"
    alone = TrainTest(None, ParquetFiles(second))
    assert len(alone.load_test()) == 40
    with pytest.raises(ConfigError, match="nothing to train on"):
        alone.load()
    with pytest.raises(DataError, match="100 of the 100 images of a are in a too"):
        TrainTest(ParquetFiles(first), ParquetFiles(first)).load_test()
    parts = TrainTest(Digits(), Digits()).load()
    assert (parts.train.ids, parts.test.ids) == (
        Digits().load().train.ids,
        Digits().load().test.ids,
    )


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Write class folders of a part, with pictures that no other part has."""
    drawn = iter(range(1000))

    def write_part(part: str, *classes: str, count: int = 10) -> Path:
        for name in classes:
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True)
            for i, pixels in enumerate(random_pixels(count, 4, 4, 3, seed=next(drawn))):
                (folder / f"{i}.png").write_bytes(png(pixels))
        return tmp_path / "set"

    return write_part


@pytest.mark.parametrize("name", PART_FOLDERS["validation"])
def test_a_validation_folder_is_used(fill: Fill, name: str) -> None:
    for part in ("train", name, "test"):
        root = fill(part, "ant", "bee")
    splits = ImageFolder(root).load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [20, 20, 20]
    assert splits.validation.ids[0] == "set/validation/ant/0.png"


def test_without_a_test_folder_val_is_judged(fill: Fill) -> None:
    fill("train", "ant", "bee")
    root = fill("val", "ant", "bee")
    splits = ImageFolder(root).load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [18, 2, 20]
    assert splits.test.name == "set/validation"
    assert ImageFolder(root).load_test().ids == splits.test.ids
    fill("valid", "ant", "bee")
    with pytest.raises(DataError, match="holds val and valid, two folders for the validation part"):
        ImageFolder(root).load()


def test_a_part_alone_is_no_pool(fill: Fill) -> None:
    root = fill("train", "ant", "bee")
    with pytest.raises(DataError, match=r"neither test nor val; name the folder to judge"):
        ImageFolder(root).load()
    (root / "train").rename(root / "test")
    assert len(ImageFolder(root).load_test()) == 20
    with pytest.raises(DataError, match="holds no train"):
        ImageFolder(root).load()


def test_a_class_may_be_called_like_a_part(fill: Fill) -> None:
    root = fill(".", "train", "tram", "test")
    splits = ImageFolder(root).load()
    assert splits.test.label_names == ("test", "train", "tram")
    assert len(parts_of(splits)) == 30


def test_labels_of_a_part_are_counted_in_the_order_of_training(fill: Fill) -> None:
    fill("train", "ant", "bee", "cow")
    root = fill("test", "ant", "cow")
    test = ImageFolder(root).load_test()
    assert test.label_names == ("ant", "bee", "cow")
    assert test.labels.tolist() == [0] * 10 + [2] * 10
    fill("test", "dog")
    with pytest.raises(DataError, match="dog is a class that the training images do not have"):
        ImageFolder(root).load()


def test_shards_use_val_too(write_parquet: Writer, tmp_path: Path) -> None:
    for part, rows in (("train", (0, 20)), ("val", (20, 30)), ("test", (30, 40))):
        (tmp_path / part).mkdir()
        write(write_parquet, *rows, f"{part}/0.parquet")
    splits = ShardFolder(tmp_path).load()
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [20, 10, 10]


@pytest.mark.parametrize("column", ["key", "index"])
def test_names_of_rows_are_unique(write_parquet: Writer, column: str) -> None:
    for keys in ([1, 2, 2], [1, 2, None]):
        file = write(write_parquet, 0, 3, "x.parquet", **{column: keys})
        with pytest.raises(DataError, match=f"column '{column}' names the rows, but 3 rows have 2"):
            ParquetFiles(file).load_pool()
    file = write(write_parquet, 0, 3, "x.parquet", **{column: ["a", "b", "c"]})
    assert ParquetFiles(file).load_pool().ids == ("x/a", "x/b", "x/c")


def test_the_cut_of_real_images_keeps_every_class(shared_data: Path) -> None:
    splits = ParquetFiles(Path("cifar10_lossless_test.parquet")).load(shared_data)
    counts = np.array(
        [part.labels.bincount(minlength=10).tolist() for part in (splits.train, splits.validation)]
    )
    assert counts.min() >= 3
    assert len(parts_of(splits)) == 1017
