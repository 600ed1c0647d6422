"""Parquet files with the Hugging Face image schema: ``img`` or ``image`` = struct{bytes, path}."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import torch

from recuse.data.decode import Box, Decoding, EncodedImages
from recuse.data.pool import cut, require_disjoint
from recuse.data.roots import data_file
from recuse.data.split import Split, Splits, hold_out
from recuse.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")
# Larger labels are no numbers of classes but identifiers of another kind.
MOST_CLASSES = 100_000
_DAMAGED = (OSError, pl.exceptions.PolarsError)


@dataclass(frozen=True, eq=False)
class ImageTable:
    """A parquet file of encoded images, read but not decoded.

    Attributes:
        path: The file.
        frame: Its rows.
        image: Name of the image column.
        label: Name of the label column.
        label_names: From the file's features, else the numbers.
    """

    path: Path
    frame: pl.DataFrame
    image: str
    label: str
    label_names: tuple[str, ...]

    @property
    def blobs(self) -> list[bytes | None]:
        """The encoded images."""
        return self.frame[self.image].struct.field("bytes").to_list()

    def split(
        self, name: str, how: Decoding, *, prefix: str, boxes: Sequence[Box] | None = None
    ) -> Split:
        """Decode all rows.

        Ids are ``prefix/<key>`` from a column ``key`` or ``index``, else ``prefix/<row>``.

        Raises:
            DataError: A damaged image, a missing label, or a label without a name.
        """
        labels = self.frame[self.label]
        ids = tuple(f"{prefix}/{key}" for key in self._keys())
        images = EncodedImages(str(self.path), self.blobs, boxes=boxes).decode(how)
        y = torch.tensor(labels.to_list(), dtype=torch.int64)
        try:
            return Split(name, images, y, ids, self.label_names)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

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


def read_table(path: Path) -> ImageTable:
    """Read a parquet file, or a folder of parquet shards, and find image and label columns.

    Raises:
        DataError: Missing, truncated, not parquet, or without the columns; names what it has.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a parquet file with columns img and label")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .parquet file")
    frame, features = _read(path, files)
    if not len(frame):
        raise DataError(f"{path}: there is no row")
    image = _column(path, frame, IMAGE_COLUMNS, "image")
    label = _column(path, frame, LABEL_COLUMNS, "label")
    kind = frame.schema[image]
    if not (isinstance(kind, pl.Struct) and "bytes" in {field.name for field in kind.fields}):
        raise DataError(f"{path}: column {image!r} is {kind}, not struct{{bytes, path}}")
    if not frame.schema[label].is_integer():
        raise DataError(
            f"{path}: column {label!r} is {frame.schema[label]}, not integers; number the classes "
            "from 0"
        )
    _check_labels(path, frame[label])
    names = _label_names(features, label)
    if names is None:
        names = tuple(str(k) for k in range(int(str(frame[label].max())) + 1))
    return ImageTable(path, frame, image, label, names)


def _check_labels(path: Path, labels: pl.Series) -> None:
    if labels.null_count():
        raise DataError(f"{path}, row {labels.is_null().arg_max()}: the label is missing")
    wrong = (labels < 0) | (labels >= MOST_CLASSES)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"{path}, row {row}: the label is {labels[row]}; labels count the classes from 0"
        )


def _read(path: Path, files: Sequence[Path]) -> tuple[pl.DataFrame, str]:
    frames: list[pl.DataFrame] = []
    for file in files:
        try:
            frames.append(pl.read_parquet(file))
            features = pl.read_parquet_metadata(file).get("huggingface", "{}")
        except _DAMAGED as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{file} is truncated or not a parquet file ({reason})") from error
    try:
        return pl.concat(frames), features
    except _DAMAGED as error:
        raise DataError(f"{path}: the shards have different columns ({error})") from error


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files (or folders of shards) with the Hugging Face image schema.

    Attributes:
        train: Training file or folder, a path or a name below the data root.
        test: Test file; None where the one file is all there is: a pool, cut 70 / 10 / 20 %
            (:mod:`recuse.data.pool`).
        size: Side to resize to, or None where all images have one size.
        channels: 3 for RGB, 1 for grey.
        validation: Share of the training rows held out, stratified, where there are two files.
        seed: Of the cuts.
    """

    train: Path
    test: Path | None = None
    size: int | None = None
    channels: Literal[1, 3] = 3
    validation: float = 0.1
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """Decode the files and cut what is one part too few.

        Raises:
            DataError: Damaged files, or test images that are training images.
        """
        if self.test is None:
            return cut(self.load_pool(data_root), seed=self.seed)
        table = read_table(self._find(data_root, self.train))
        if table.path.resolve() == self._find(data_root, self.test).resolve():
            raise DataError(
                f"{table.path} is to be trained on and judged; leave the test file out to have it "
                "cut in three, or name another"
            )
        name = table.path.stem
        rows = table.split(f"{name}/train", self._how, prefix=f"{name}/train")
        test = self.load_test(data_root).relabelled(rows.label_names)
        shared = require_disjoint(rows, test)
        train, validation = hold_out(
            rows, self.validation, seed=self.seed, name=f"{name}/validation"
        )
        return Splits(train, validation, test, shared)

    def load_test(self, data_root: Path | None = None) -> Split:
        """Decode the test file alone."""
        if self.test is None:
            return self.load(data_root).test
        table = read_table(self._find(data_root, self.test))
        name = f"{table.path.stem}/test"
        return table.split(name, self._how, prefix=name)

    def in_parts(self, data_root: Path | None = None) -> bool:
        """Whether training and test images lie in different files."""
        return self.test is not None

    def load_pool(self, data_root: Path | None = None) -> Split:
        """All images of the first file."""
        table = read_table(self._find(data_root, self.train))
        return table.split(table.path.stem, self._how, prefix=table.path.stem)

    @property
    def _how(self) -> Decoding:
        return Decoding(self.channels, self.size)

    def _find(self, data_root: Path | None, path: Path) -> Path:
        if path.is_absolute() or path.exists():
            return path
        return data_file(data_root, str(path), how="a parquet file with columns img and label")


def _column(path: Path, frame: pl.DataFrame, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in frame.columns:
            return name
    raise DataError(
        f"{path}: no {what} column; expected {' or '.join(names)}, found "
        f"{', '.join(frame.columns) or 'no column'}"
    )


def _label_names(features: str, label: str) -> tuple[str, ...] | None:
    # Damaged metadata only costs the names; the rows are still right.
    try:
        names = json.loads(features)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(str(name) for name in names)
