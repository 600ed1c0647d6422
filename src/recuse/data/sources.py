"""Every data set by name, as one literal table of frozen loaders."""

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from recuse.data.cifar import (
    CIFAR10_ARCHIVE,
    CIFAR100_ARCHIVE,
    Cifar10,
    Cifar100,
    archive_place,
)
from recuse.data.digits import Digits
from recuse.data.folder import ImageFolder
from recuse.data.gaussians import Gaussians
from recuse.data.gtsrb import Gtsrb
from recuse.data.lazy import join
from recuse.data.mnist import Mnist
from recuse.data.parquet import ParquetFiles
from recuse.data.pool import Pool, pooled, require_disjoint
from recuse.data.roots import find_data_root
from recuse.data.shards import ShardFolder, shards_of_parts
from recuse.data.split import Split, Splits, hold_out
from recuse.errors import ConfigError, DataError
from recuse.vocabulary import Family, Vocabulary

PARTS = ("test", "validation", "train", "all")


@runtime_checkable
class Source(Protocol):
    """A data set that knows how to load itself."""

    def load(self, data_root: Path | None = None) -> Splits:
        """Train, validation and test.

        Raises:
            DataError: A file is missing or damaged; says how to get it.
        """
        ...

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone, without reading the training images where that is possible."""
        ...


@dataclass(frozen=True)
class TrainTest:
    """Two data sets, one to train on and one to judge.

    Of a set that comes in parts, the training set gives its training and validation parts, the
    test set its test part; one that does not is used whole, a tenth of the training images being
    held out to validate. Labels are counted in the order of the training set.

    Attributes:
        train: To train on; None where something is only judged.
        test: To judge.
        seed: Of the cut.
    """

    train: Source | None
    test: Source
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts.

        Raises:
            DataError: No training set, a damaged one, or test images that are training images.
        """
        if self.train is None:
            raise ConfigError("there is nothing to train on; name it (--train-on)")
        if (rows := pooled(self.train, data_root)) is not None:
            name = f"{rows.name}/validation"
            train, validation = hold_out(rows, 0.1, seed=self.seed, name=name)
        else:
            parts = self.train.load(data_root)
            train, validation = parts.train, parts.validation
            rows = join(train, validation, name=train.name)
        test = self._judged(data_root).relabelled(train.label_names)
        return Splits(train, validation, test, require_disjoint(rows, test))

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test set, checked against the training set where that is named."""
        return self._judged(data_root) if self.train is None else self.load(data_root).test

    def _judged(self, data_root: Path | None) -> Split:
        pool = pooled(self.test, data_root)
        return self.test.load_test(data_root) if pool is None else pool


DATASETS: dict[str, type[Source]] = {
    "digits": Digits,
    "gaussians": Gaussians,
    "cifar10": Cifar10,
    "cifar100": Cifar100,
    "gtsrb": Gtsrb,
    "mnist": Mnist,
    "parquet": ParquetFiles,
    "folder": ImageFolder,
    "shards": ShardFolder,
    "train_test": TrainTest,
}
NEED_PATHS = ("parquet", "folder", "shards", "train_test")
# What a set reads from the data folder by default; sets that are not named need no file.
FILES: dict[str, tuple[str, ...]] = {
    "cifar10": ("cifar10_jpeg_train.parquet", "cifar10_lossless_test.parquet"),
    "cifar100": ("cifar-100-python.tar.gz",),
    "gtsrb": ("gtsrb_train.parquet", "gtsrb_test.parquet"),
    "mnist": ("mnist_train.parquet", "mnist_test.parquet"),
}

ARCHIVES = {"cifar10": CIFAR10_ARCHIVE, "cifar100": CIFAR100_ARCHIVE}


def missing_files(name: str, data_root: Path | None) -> tuple[str, ...]:
    """What is missing of a data set; nothing where its official archive is there."""
    if name in ARCHIVES and archive_place(data_root, ARCHIVES[name]):
        return ()
    files = FILES.get(name, ())
    return tuple(file for file in files if data_root is None or not (data_root / file).exists())


def source(name: str, data_root: Path | None = None) -> Source:
    """The data set of that name, with default settings or those that are typed.

    Where of CIFAR-10 only the official archive is in the data folder, that is read.

    Args:
        name: A key of ``DATASETS``, alone or with settings: ``"gtsrb(crop=true, slack=0.2)"``.
        data_root: The data folder; without it no file is looked for.

    Raises:
        DataError: Unknown (lists the known), or one that needs paths.
        ConfigError: Settings that it does not have, or refuses.
    """
    known = [key for key in DATASETS if key not in NEED_PATHS]
    if name in NEED_PATHS:
        raise DataError(f"data set {name!r} needs its paths; construct {DATASETS[name].__name__}")
    if name.partition("(")[0] in known and name not in known:
        family = Family("data set", {key: DATASETS[key] for key in known}, Source)
        found: Source = Vocabulary((family,)).read(name, family.name)
        return found
    if name not in DATASETS:
        raise DataError(f"data set {name!r} is unknown; known: {', '.join(known)}")
    if name == "cifar10" and data_root is not None and _only_archive(data_root):
        return Cifar10(train="official", test="official")
    return DATASETS[name]()


def _only_archive(data_root: Path) -> bool:
    converted = all((data_root / file).exists() for file in FILES["cifar10"])
    return not converted and archive_place(data_root, CIFAR10_ARCHIVE) is not None


def source_at(path: Path) -> Source:
    """The data set at a path: a parquet file, a folder of shards, or a folder of images.

    Raises:
        DataError: Nothing is there.
    """
    if path.suffix == ".parquet":
        return ParquetFiles(path)
    if shards_of_parts(path):
        return ShardFolder(path)
    if any(path.glob("*.parquet")):
        return ParquetFiles(path)
    if path.is_dir():
        return ImageFolder(path)
    raise DataError(
        f"{path} is neither a folder nor a parquet file; give a folder <class>/<file>.png, or a "
        ".parquet file with columns img and label"
    )


def read_as(source: Source, **settings: object) -> Source:
    """The data set, read with settings of :class:`~recuse.data.encoded.Reading`.

    Raises:
        ConfigError: A data set that has no such setting.
    """
    known: list[str] = [field.name for field in fields(source)] if is_dataclass(source) else []
    if unknown := sorted(settings.keys() - {*known}):
        name = next(
            (key for key, kind in DATASETS.items() if type(source) is kind), "this data set"
        )
        raise ConfigError(
            f"{name} takes no {' and no '.join(unknown)}; that is for folders and parquet files"
        )
    return replace(source, **settings)  # type: ignore[type-var]


def load_part(source: Source, part: str, data_root: Path | None = None) -> tuple[Split, str]:
    """One part of a data set, or all of it, and how the parts were made, in one sentence or none.

    Args:
        source: The data set.
        part: One of ``PARTS``.
        data_root: The data folder.

    Raises:
        ConfigError: No such part.
        DataError: A file is missing or damaged.
    """
    if part not in PARTS:
        raise ConfigError(f"part {part!r} is unknown; known: {', '.join(PARTS)}")
    if part == "all" and (pool := pooled(source, data_root)) is not None:
        return pool, ""
    cut = isinstance(source, Pool) and not source.in_parts(data_root)
    compared = isinstance(source, TrainTest) and source.train is not None
    if part == "test" and not (cut or compared):
        return source.load_test(data_root), ""
    splits = source.load(data_root)
    if part != "all":
        found: Split = getattr(splits, part)
        return found, splits.note
    whole = join(splits.train, splits.validation, name=splits.train.name)
    return join(whole, splits.test, name=splits.train.name.partition("/")[0]), splits.note


__all__ = [
    "DATASETS",
    "FILES",
    "NEED_PATHS",
    "PARTS",
    "Source",
    "TrainTest",
    "find_data_root",
    "load_part",
    "read_as",
    "source",
    "source_at",
]
