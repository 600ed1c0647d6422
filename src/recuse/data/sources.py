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
}
NEED_PATHS = ("parquet", "folder")


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


__all__ = ["DATASETS", "NEED_PATHS", "Source", "find_data_root", "source"]
