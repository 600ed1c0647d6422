"""CIFAR-10 and CIFAR-100: the official python archives, or parquet files of the data folder."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from recuse.data.decode import Decoding, to_unit_interval
from recuse.data.parquet import read_table
from recuse.data.roots import data_file, find_data_root
from recuse.data.split import Split, Splits, hold_out
from recuse.errors import DataError

_VALIDATION = 0.1
_SIDE = 32
# The only names that the official pickles need; anything else could run code.
_PICKLE_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class Archive:
    """The official python version of a CIFAR data set.

    Attributes:
        tar: Name of the archive as downloaded.
        folder: Folder it unpacks to.
        train: Training files in order, with their published MD5.
        test: Test file, with its MD5.
        meta: File of the label names, with its MD5.
        labels: Key of the labels in the pickles.
        names: Key of the label names in ``meta``.
    """

    tar: str
    folder: str
    train: tuple[tuple[str, str], ...]
    test: tuple[str, str]
    meta: tuple[str, str]
    labels: str
    names: str


CIFAR10_ARCHIVE = Archive(
    tar="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    train=(
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test=("test_batch", "40351d587109b95175f43aff81a1287e"),
    meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    labels="labels",
    names="label_names",
)
CIFAR100_ARCHIVE = Archive(
    tar="cifar-100-python.tar.gz",
    folder="cifar-100-python",
    train=(("train", "16019d7e3df5f24257cddd939b257f8d"),),
    test=("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
    labels="fine_labels",
    names="fine_label_names",
)


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLE_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not image data")
        return super().find_class(module, name)


def unpickle(data: bytes, where: str) -> dict[str, Any]:
    """Read a CIFAR pickle without letting it name anything but numpy arrays.

    Raises:
        DataError: Damaged, or it asks for anything else.
    """
    try:
        raw = _NumpyUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(f"{where} is not a CIFAR pickle: {error}") from error
    if not isinstance(raw, dict):
        raise DataError(f"{where} is not a CIFAR pickle: it holds {type(raw).__name__}, not a dict")
    return raw


def read_archive(root: Path | None, archive: Archive, *, train: bool, name: str) -> Split:
    """One part from the official archive, packed or unpacked, below the data folder.

    Ids are ``<set>/train/<official index>``, whatever the part is called.

    Raises:
        DataError: Missing, a wrong checksum, or damaged.
    """
    files = archive.train if train else (archive.test,)
    batches = [_read_member(root, archive, *file) for file in files]
    names = _read_member(root, archive, *archive.meta)[archive.names]
    try:
        pixels = np.concatenate([np.asarray(batch["data"], np.uint8) for batch in batches])
        pixels = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        labels = [int(label) for batch in batches for label in batch[archive.labels]]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{archive.folder}: a file is not as published ({error})") from error
    prefix = name.partition("/")[0] + ("/train" if train else "/test")
    ids = tuple(f"{prefix}/{row:05d}" for row in range(len(labels)))
    return Split(name, to_unit_interval(pixels), torch.tensor(labels), ids, tuple(names))


def archive_place(root: Path | None, archive: Archive) -> Path | None:
    """The folder that holds an official archive, packed or not: the data folder or one in it.

    Args:
        root: The data folder; None takes ``RECUSE_DATA``.
        archive: Which.
    """
    root = root or find_data_root()
    if root is None:
        return None
    for place in (root, *sorted(entry for entry in root.iterdir() if entry.is_dir())):
        if (place / archive.folder).is_dir() or (place / archive.tar).is_file():
            return place
    return None


def _read_member(root: Path | None, archive: Archive, name: str, md5: str) -> dict[str, Any]:
    how = (
        f"the official {archive.tar} (or the folder {archive.folder} it unpacks to), "
        "from https://www.cs.toronto.edu/~kriz/cifar.html (recuse data get)"
    )
    place = archive_place(root, archive)
    if place is not None and (file := place / archive.folder / name).is_file():
        where, data = str(file), file.read_bytes()
    else:
        path = data_file(place or root, archive.tar, how=how)
        where, data = f"{path}:{name}", _tar_member(path, f"{archive.folder}/{name}")
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"{where} has MD5 {found}, published is {md5}; download {archive.tar} again"
        )
    return unpickle(data, where)


def _tar_member(path: Path, member: str) -> bytes:
    try:
        with tarfile.open(path, "r:*") as archive:
            file = archive.extractfile(member)
            if file is None:
                raise KeyError(member)
            return file.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{path} is truncated or not a tar archive ({error})") from error
    except KeyError as error:
        raise DataError(f"{path} holds no {member}; download it again") from error


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10: 50,000 and 10,000 images ``[3, 32, 32]`` of 10 classes.

    Attributes:
        train: ``"jpeg"`` (all, JPEG quality 75), ``"lossless"`` (the first 1,017 of each
            official file), ``"mixed"`` (all, lossless where there is a lossless one) or
            ``"official"`` (the published archive).
        test: The same; report numbers on lossless or official test images.
        seed: Of the validation part, a tenth of the training rows, stratified.
    """

    train: Literal["jpeg", "lossless", "mixed", "official"] = "jpeg"
    test: Literal["jpeg", "lossless", "mixed", "official"] = "lossless"
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts; sample ids carry the official index."""
        rows = self._part(data_root, self.train, "train")
        train, validation = hold_out(rows, _VALIDATION, seed=self.seed, name="cifar10/validation")
        return Splits(train, validation, self.load_test(data_root))

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone, without decoding the training images."""
        return self._part(data_root, self.test, "test")

    def _part(self, root: Path | None, kind: str, part: str) -> Split:
        name = f"cifar10/{part}"
        if kind == "official":
            return read_archive(root, CIFAR10_ARCHIVE, train=part == "train", name=name)
        if kind == "mixed":
            whole, better = (self._part(root, known, part) for known in ("jpeg", "lossless"))
            return with_images_of(better, whole)
        how = f"a parquet file of CIFAR-10 {part} images (img, label), or use the official archive"
        table = read_table(data_file(root, f"cifar10_{kind}_{part}.parquet", how=how))
        return table.split(name, Decoding(), prefix=name)


def with_images_of(better: Split, whole: Split) -> Split:
    """``whole`` with the images of ``better`` where ids agree.

    Raises:
        DataError: An id that ``whole`` has not, or another label under it.
    """
    rows = {name: row for row, name in enumerate(whole.ids)}
    if unknown := [name for name in better.ids if name not in rows]:
        raise DataError(f"{whole.name}: there is no image {unknown[0]!r} to replace")
    places = torch.tensor([rows[name] for name in better.ids])
    if bool((whole.labels[places] != better.labels).any()):
        raise DataError(f"{whole.name}: images of one id have different labels in two files")
    images = whole.images.clone()
    images[places] = better.images
    return Split(whole.name, images, whole.labels, whole.ids, whole.label_names)


@dataclass(frozen=True)
class Cifar100:
    """CIFAR-100: images ``[3, 32, 32]`` of 100 classes.

    Attributes:
        source: ``"official"`` (the published archive) or ``"subset"`` (the few hundred images
            ``cifar100_lossless_*.parquet`` of the data folder: for trying things out).
        seed: Of the validation part, a tenth of the training rows, stratified.
    """

    source: Literal["official", "subset"] = "official"
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts; sample ids carry the official index."""
        rows = self._part(data_root, "train", "train_prefix")
        fraction = _VALIDATION if self.source == "official" else 0.25
        train, validation = hold_out(rows, fraction, seed=self.seed, name="cifar100/validation")
        return Splits(train, validation, self.load_test(data_root))

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        return self._part(data_root, "test", "test_subset")

    def _part(self, root: Path | None, part: str, file: str) -> Split:
        name = f"cifar100/{part}"
        if self.source == "official":
            return read_archive(root, CIFAR100_ARCHIVE, train=part == "train", name=name)
        how = "a parquet file of CIFAR-100 images (img, label), or use the official archive"
        table = read_table(data_file(root, f"cifar100_lossless_{file}.parquet", how=how))
        return table.split(name, Decoding(), prefix=name)
