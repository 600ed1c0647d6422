"""Parquet files with the Hugging Face image schema: ``img`` or ``image`` = struct{bytes, path}."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recuse.data.decode import Box, Decoding
from recuse.data.encoded import EncodedPart, Reading
from recuse.data.encoded_images import EncodedImages
from recuse.data.lazy import join
from recuse.data.pool import cut, require_disjoint
from recuse.data.roots import data_file
from recuse.data.split import Split, Splits
from recuse.data.stored import ParquetRows, Stored, whole
from recuse.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")
# Larger labels are no numbers of classes but identifiers of another kind.
MOST_CLASSES = 100_000
Schema = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ImageTable:
    """A table of encoded images, of which all but the images is read.

    Attributes:
        path: The file, or what else messages shall name.
        frame: Its rows, without the images.
        blobs: The images: files, or structs of bytes and path.
        label: Name of the label column: numbers, or names of classes.
        label_names: From the file's features, else the numbers, or the names in order.
    """

    path: Path
    frame: pl.DataFrame
    blobs: Stored
    label: str
    label_names: tuple[str, ...]

    def part(self, name: str, *, prefix: str, boxes: Sequence[Box] | None = None) -> EncodedPart:
        """All rows, not decoded yet.

        Ids are ``prefix/<key>`` from a column ``key`` or ``index``, else ``prefix/<row>``.
        """
        labels = self.frame[self.label].to_list()
        if _holds_names(self.frame[self.label]):
            places = {name: place for place, name in enumerate(self.label_names)}
            labels = [places[label] for label in labels]
        ids = tuple(f"{prefix}/{key}" for key in self._keys())
        images = EncodedImages(str(self.path), self.blobs, boxes=boxes)
        return EncodedPart(name, images, torch.tensor(labels), ids, self.label_names)

    def split(
        self, name: str, how: Decoding, *, prefix: str, boxes: Sequence[Box] | None = None
    ) -> Split:
        """Decode all rows.

        Raises:
            DataError: A damaged image, or a label without a name.
        """
        return self.part(name, prefix=prefix, boxes=boxes).decode(how)

    def _keys(self) -> list[str]:
        for column in ("key", "index"):
            if column not in self.frame.columns:
                continue
            keys = self.frame[column]
            if keys.null_count() or keys.n_unique() < len(keys):
                raise DataError(
                    f"{self.path}: column {column!r} names the rows, but {len(keys)} rows have "
                    f"{keys.drop_nulls().n_unique()} different values; make them unique or drop "
                    "the column"
                )
            integers = keys.dtype.is_integer()
            return [f"{key:05d}" if column == "index" and integers else str(key) for key in keys]
        return [f"{row:05d}" for row in range(len(self.frame))]


def read_table(path: Path, files: Sequence[Path] = ()) -> ImageTable:
    """Read a parquet file, or a folder of parquet shards, and find image and label columns.

    Args:
        path: The file or folder, for messages too.
        files: The shards to read; by default all of the folder.

    Raises:
        DataError: Missing, truncated, not parquet, or without the columns; names what it has.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a parquet file with columns img and label")
    files = files or _files(path)
    if not files:
        raise DataError(f"{path} holds no .parquet file")
    schema, features = _schema(path, files)
    image = next((name for name in IMAGE_COLUMNS if name in schema), None)
    frames = [_read(file, [name for name in schema if name != image]) for file in files]
    frame = pl.concat(frames)
    if not len(frame):
        raise DataError(f"{path}: there is no row")
    image = _column(path, schema, IMAGE_COLUMNS, "image")
    label = _column(path, schema, LABEL_COLUMNS, "label")
    kind = schema[image]
    fields = {field.name for field in kind.fields} if isinstance(kind, pl.Struct) else set()
    if kind != pl.Binary and "bytes" not in fields:
        raise DataError(f"{path}: column {image!r} is {kind}, not struct{{bytes, path}} nor binary")
    ends = tuple(itertools.accumulate(map(len, frames)))
    blobs = ParquetRows(tuple(files), ends, image, np.arange(len(frame), dtype=np.int64))
    named = _label_names(features, label)
    return ImageTable(path, frame, blobs, label, label_names(path, frame[label], named))


def label_names(path: Path, labels: pl.Series, named: tuple[str, ...]) -> tuple[str, ...]:
    """The classes of a label column, which is checked.

    Args:
        path: Where the labels lie, for messages.
        labels: The column.
        named: What its numbers stand for, where that is known.

    Raises:
        DataError: Labels that are neither names nor numbers from 0, or are missing.
    """
    if not (labels.dtype.is_integer() or _holds_names(labels)):
        raise DataError(
            f"{path}: column {labels.name!r} is {labels.dtype}, neither integers nor names; number "
            "the classes from 0"
        )
    if labels.null_count():
        raise DataError(f"{path}, row {labels.is_null().arg_max()}: the label is missing")
    if _holds_names(labels):
        return tuple(sorted(labels.cast(pl.String).unique()))
    _check_numbers(path, labels)
    return named or tuple(str(k) for k in range(int(str(labels.max())) + 1))


def _holds_names(labels: pl.Series) -> bool:
    return isinstance(labels.dtype, pl.String | pl.Categorical | pl.Enum)


def string_names(files: Sequence[Path]) -> tuple[str, ...]:
    """The classes that parquet files name in their rows; nothing where they are numbers.

    Images are not read.
    """
    names: set[str] = set()
    for file in files:
        schema = pl.read_parquet_schema(file)
        label = next((name for name in LABEL_COLUMNS if name in schema), None)
        if label is None:
            return ()
        labels = pl.read_parquet(file, columns=[label])[label]
        if not _holds_names(labels):
            return ()
        names |= {*labels.cast(pl.String).drop_nulls()}
    return tuple(sorted(names))


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def _check_numbers(path: Path, labels: pl.Series) -> None:
    wrong = (labels < 0) | (labels >= MOST_CLASSES)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"{path}, row {row}: the label is {labels[row]}; labels count the classes from 0"
        )


def _schema(path: Path, files: Sequence[Path]) -> tuple[Schema, str]:
    """The columns of all files, and what the last says of their features."""
    found: list[Schema] = []
    for file in files:
        with whole(file):
            found.append(pl.read_parquet_schema(file))
            features = pl.read_parquet_metadata(file).get("huggingface", "{}")
    for file, schema in zip(files, found, strict=True):
        if schema != found[0]:
            raise DataError(
                f"{path}: the shards have different columns: {file.name} has {', '.join(schema)}, "
                f"{files[0].name} has {', '.join(found[0])}, or these in other types"
            )
    return found[0], features


def _read(file: Path, columns: Sequence[str]) -> pl.DataFrame:
    with whole(file):
        return pl.read_parquet(file, columns=list(columns))


@dataclass(frozen=True)
class ParquetFiles(Reading):
    """Parquet files (or folders of shards) of images: files in bytes, or as Hugging Face has them.

    Attributes:
        train: Training file or folder, a path or a name below the data root.
        test: Test file; None where the one file is all there is: a pool, cut 70 / 10 / 20 %
            (:mod:`recuse.data.pool`).
        validation: Share of the training rows held out, stratified, where there are two files.
        seed: Of the cuts.
    """

    train: Path
    test: Path | None = None
    validation: float = 0.1
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """Decode the files and cut what is one part too few.

        Raises:
            DataError: Damaged files, or test images that are training images.
        """
        if self.test is None:
            whole = replace(self, limit=None).load_pool(data_root)
            return cut(whole, seed=self.seed, limit=self.limit)
        path = self._find(data_root, self.train)
        if path.resolve() == self._find(data_root, self.test).resolve():
            raise DataError(
                f"{path} is to be trained on and judged; leave the test file out to have it "
                "cut in three, or name another"
            )
        name = path.stem
        found = {
            "train": read_table(path).part(f"{name}/train", prefix=f"{name}/train"),
            "test": self._test(data_root, self.test),
        }
        splits = self.three(found, name=name, fraction=self.validation, seed=self.seed)
        rows = join(splits.train, splits.validation, name=splits.train.name)
        return replace(splits, note=require_disjoint(rows, splits.test))

    def load_test(self, data_root: Path | None = None) -> Split:
        """Decode the test file alone."""
        if self.test is None:
            return self.load(data_root).test
        names = string_names(_files(self._find(data_root, self.train)))
        return self.split(self._test(data_root, self.test).counted_by(names))

    def in_parts(self, data_root: Path | None = None) -> bool:
        """Whether training and test images lie in different files."""
        return self.test is not None

    def load_pool(self, data_root: Path | None = None) -> Split:
        """All images of the first file."""
        table = read_table(self._find(data_root, self.train))
        return self.split(table.part(table.path.stem, prefix=table.path.stem))

    def _test(self, data_root: Path | None, test: Path) -> EncodedPart:
        table = read_table(self._find(data_root, test))
        name = f"{table.path.stem}/test"
        return table.part(name, prefix=name)

    def _find(self, data_root: Path | None, path: Path) -> Path:
        if path.is_absolute() or path.exists():
            return path
        return data_file(data_root, str(path), how="a parquet file with columns img and label")


def _column(path: Path, schema: Schema, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in schema:
            return name
    raise DataError(
        f"{path}: no {what} column; expected {' or '.join(names)}, found "
        f"{', '.join(schema) or 'no column'}"
    )


def _label_names(features: str, label: str) -> tuple[str, ...]:
    # Damaged metadata only costs the names; the rows are still right.
    try:
        names = json.loads(features)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(str(name) for name in names)
