"""Every data set by name, as one literal table of frozen loaders."""

from pathlib import Path
from typing import Protocol, runtime_checkable

from recuse.data.cifar import Cifar10, Cifar100
from recuse.data.digits import Digits
from recuse.data.folder import ImageFolder
from recuse.data.gaussians import Gaussians
from recuse.data.gtsrb import Gtsrb
from recuse.data.mnist import Mnist
from recuse.data.parquet import ParquetFiles
from recuse.data.roots import find_data_root
from recuse.data.shards import ShardFolder
from recuse.data.split import Split, Splits
from recuse.errors import DataError


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
}
NEED_PATHS = ("parquet", "folder", "shards")
# What a set reads from the data folder by default; sets that are not named need no file.
FILES: dict[str, tuple[str, ...]] = {
    "cifar10": ("cifar10_jpeg_train.parquet", "cifar10_lossless_test.parquet"),
    "cifar100": ("cifar-100-python.tar.gz",),
    "gtsrb": ("gtsrb_train.parquet", "gtsrb_test.parquet"),
    "mnist": ("mnist_train.parquet", "mnist_test.parquet"),
}


def source(name: str) -> Source:
    """The data set of that name with its default settings.

    Raises:
        DataError: Unknown (lists the known), or one that needs paths.
    """
    known = [key for key in DATASETS if key not in NEED_PATHS]
    if name in NEED_PATHS:
        raise DataError(f"data set {name!r} needs its paths; construct {DATASETS[name].__name__}")
    if name not in DATASETS:
        raise DataError(f"data set {name!r} is unknown; known: {', '.join(known)}")
    return DATASETS[name]()


def source_at(path: Path) -> Source:
    """The data set at a path: a parquet file, a folder of shards, or a folder of images.

    A single parquet file is both training and test rows: for evaluation, not for training.

    Raises:
        DataError: Nothing is there.
    """
    if path.suffix == ".parquet":
        return ParquetFiles(train=path, test=path)
    if any(path.glob("train/*.parquet")):
        return ShardFolder(path)
    if path.is_dir():
        return ImageFolder(path)
    raise DataError(f"{path} is neither a folder nor a parquet file")


__all__ = ["DATASETS", "FILES", "NEED_PATHS", "Source", "find_data_root", "source", "source_at"]
