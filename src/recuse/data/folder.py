"""Image folders: ``<path>/<class>/<file>.png``, or ``<path>/train/...`` and ``<path>/test/...``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from recuse.data.decode import Decoding, EncodedImages
from recuse.data.split import Split, Splits, hold_out, stratified_parts
from recuse.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".gif", ".tif", ".tiff")
_FRACTIONS = (0.7, 0.1, 0.2)


def read_folder(path: Path, *, name: str, how: Decoding) -> Split:
    """All images below ``path``; a sub-folder is a class, classes in alphabetical order.

    Sample ids are ``name/<class>/<file>``. Files that are no images by suffix are not read.

    Raises:
        DataError: No folder, no class, a class without images, or a damaged image.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected one sub-folder of images per class")
    classes = sorted(entry for entry in path.iterdir() if entry.is_dir())
    if not classes:
        raise DataError(f"{path} holds no class folder; expected {path}/<class>/<file>.png")
    files: list[tuple[int, Path]] = []
    for label, folder in enumerate(classes):
        own = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
        if not own:
            raise DataError(f"class folder {folder} holds no image ({', '.join(SUFFIXES)})")
        files.extend((label, file) for file in own)
    rows = [f"{file.parent.name}/{file.name}" for _, file in files]
    images = EncodedImages(str(path), [file.read_bytes() for _, file in files], rows).decode(how)
    labels = torch.tensor([label for label, _ in files])
    ids = tuple(f"{name}/{row}" for row in rows)
    return Split(name, images, labels, ids, tuple(folder.name for folder in classes))


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, one sub-folder per class.

    With sub-folders ``train`` and ``test`` (and perhaps ``validation``) these are the parts;
    otherwise all images are cut 70 / 10 / 20 %, stratified.

    Attributes:
        path: The folder; relative paths may also lie below the data root.
        size: Side to resize to, or None where all images have one size.
        channels: 3 for RGB, 1 for grey.
        seed: Of the cuts.
    """

    path: Path
    size: int | None = None
    channels: Literal[1, 3] = 3
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts."""
        folder = self._folder(data_root)
        name = folder.name
        if not (folder / "train").is_dir():
            everything = self._read(folder, name)
            parts = stratified_parts(everything.labels, _FRACTIONS, seed=self.seed)
            train, validation, test = (everything.take(rows) for rows in parts)
            return Splits(
                train.renamed(f"{name}/train"),
                validation.renamed(f"{name}/validation"),
                test.renamed(f"{name}/test"),
            )
        rows = self._read(folder / "train", f"{name}/train")
        test = self._read(folder / "test", f"{name}/test")
        if (folder / "validation").is_dir():
            return Splits(rows, self._read(folder / "validation", f"{name}/validation"), test)
        train, validation = hold_out(rows, 0.1, seed=self.seed, name=f"{name}/validation")
        return Splits(train, validation, test)

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        folder = self._folder(data_root)
        if (folder / "train").is_dir():
            return self._read(folder / "test", f"{folder.name}/test")
        return self.load(data_root).test

    def _folder(self, data_root: Path | None) -> Path:
        below = data_root / self.path if data_root else self.path
        return self.path if self.path.is_dir() or not below.is_dir() else below

    def _read(self, path: Path, name: str) -> Split:
        return read_folder(path, name=name, how=Decoding(self.channels, self.size))
