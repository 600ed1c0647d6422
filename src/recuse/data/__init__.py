"""Data sets: one ``Split`` type, many sources, seeded augmentation, detection data as crops."""

from recuse.data.cifar import Cifar10, Cifar100
from recuse.data.digits import Digits
from recuse.data.folder import ImageFolder
from recuse.data.gaussians import Gaussians
from recuse.data.gtsrb import Gtsrb
from recuse.data.mnist import Mnist
from recuse.data.parquet import ParquetFiles
from recuse.data.shards import ShardFolder
from recuse.data.sources import (
    DATASETS,
    Source,
    TrainTest,
    find_data_root,
    load_part,
    source,
    source_at,
)
from recuse.data.split import Split, Splits
from recuse.data.subset import Subset

__all__ = [
    "DATASETS",
    "Cifar10",
    "Cifar100",
    "Digits",
    "Gaussians",
    "Gtsrb",
    "ImageFolder",
    "Mnist",
    "ParquetFiles",
    "ShardFolder",
    "Source",
    "Split",
    "Splits",
    "Subset",
    "TrainTest",
    "find_data_root",
    "load_part",
    "source",
    "source_at",
]
