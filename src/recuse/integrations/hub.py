"""Data sets of the Hugging Face library, through the extra ``recuse[hub]``."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recuse.data.encoded import EncodedPart, Reading
from recuse.data.folder import PART_FOLDERS
from recuse.data.parquet import IMAGE_COLUMNS, LABEL_COLUMNS, ImageTable, label_names
from recuse.data.pool import cut
from recuse.data.roots import located
from recuse.data.sources import Source
from recuse.data.split import Split, Splits
from recuse.data.stored import Blob
from recuse.errors import ConfigError, DataError
from recuse.values import Call, parse_value
from recuse.vocabulary import Family, Vocabulary

SCHEME = "hub:"
# What ``save_to_disk`` leaves: of a data set in parts, and of one part.
SAVED = ("dataset_dict.json", "state.json")
# Columns that name rows, as in parquet files.
_KEYS = ("key", "index")


@dataclass(frozen=True)
class HubDataset(Reading):
    """An image classification data set of the hub, or one that the library saved on this disk.

    The library downloads once and keeps rows on disk; images are decoded by the rules of all files.
    A part ``validation`` (or ``val``) is taken as it is, and judged where there is no test part;
    where it is missing, one is cut from the training rows. A single part is a pool, cut in three.

    Attributes:
        path: Name on the hub, for example ``"uoft-cs/cifar10"``; a folder that ``save_to_disk``
            wrote; or a builder such as ``"parquet"`` together with ``files``.
        config: Configuration of the data set, where it has several.
        revision: Commit or tag, to get the same data again.
        train: Name of the training part there.
        test: Name of the test part there.
        files: Local files per part, as (part, file).
        validation: Share of the training rows held out, stratified, where no part is for it.
        seed: Of the cuts.
        cache: Where downloads are kept; by default the library's own folder.
    """

    path: str
    config: str | None = None
    revision: str | None = None
    train: str = "train"
    test: str = "test"
    files: tuple[tuple[str, str], ...] = ()
    validation: float = 0.1
    seed: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        files = self._files_of_parts()
        both = {*files.get(self.train, ())} & {*files.get(self.test, ())}
        if self.train == self.test or both:
            raise ConfigError(
                f"{both.pop() if both else f'part {self.train!r} of {self.path}'} is to be trained "
                "on and judged; name another to judge"
            )

    def load(self, data_root: Path | None = None) -> Splits:
        """Download if need be, decode, and cut what is missing.

        Raises:
            ConfigError: The extra is not installed; names it.
            DataError: No such data set or part, or one without images and labels.
        """
        parts = self._parts(data_root)
        if not _several(parts):
            whole = self._pool(parts, limit=None)
            return cut(whole, seed=self.seed, limit=self.limit)
        self._rows(parts, "train")
        self._judged(parts)
        found = {part: self._encoded(rows, part) for part, rows in parts.items()}
        return self.three(found, name=self._name, fraction=self.validation, seed=self.seed)

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        parts = self._parts(data_root)
        if not _several(parts):
            return self.load(data_root).test
        part = self._judged(parts)
        judged = self._encoded(parts[part], part)
        if "train" in parts:
            judged = judged.counted_by(self._encoded(parts["train"], "train").label_names)
        return self.split(judged)

    def in_parts(self, data_root: Path | None = None) -> bool:
        """Whether there is more than a training part."""
        return _several(self._parts(data_root))

    def load_pool(self, data_root: Path | None = None) -> Split:
        """All images, where they come in no parts."""
        return self._pool(self._parts(data_root), limit=self.limit)

    def _pool(self, parts: dict[str, Any], *, limit: int | None) -> Split:
        return replace(self, limit=limit).split(self._encoded(parts["train"], ""))

    @property
    def _name(self) -> str:
        return Path(self.path).name

    def _files_of_parts(self) -> dict[str, list[str]]:
        grouped: dict[str, list[str]] = {}
        for part, file in self.files:
            grouped.setdefault(part, []).append(file)
        return grouped

    def _parts(self, data_root: Path | None) -> dict[str, Any]:
        """The rows of each part that is there, by what it is for."""
        opened = self._opened(located(Path(self.path), data_root))
        others = [n for n in PART_FOLDERS["validation"] if n not in (self.train, self.test)]
        called = [("train", self.train), ("test", self.test), *(("validation", n) for n in others)]
        found = {part: opened[name] for part, name in called if name in opened}
        if not found:
            raise DataError(
                f"{self.path}: no part {self.train!r} nor {self.test!r}; found {', '.join(opened)}"
            )
        return found

    def _opened(self, place: Path) -> dict[str, Any]:
        library = _datasets()
        try:
            if saved(place):
                found = library.load_from_disk(str(place))
            else:
                found = library.load_dataset(
                    self.path,
                    self.config,
                    revision=self.revision,
                    data_files=self._files_of_parts() or None,
                    cache_dir=str(self.cache) if self.cache else None,
                )
        except Exception as error:  # of the network, of formats, of files: of many kinds
            raise DataError(f"data set {self.path} cannot be loaded: {_reason(error)}") from error
        return dict(found) if isinstance(found, dict) else {self.train: found}

    def _rows(self, parts: dict[str, Any], part: str) -> Any:
        if part not in parts:
            raise DataError(f"{self.path}: there is no {part} part; found {', '.join(parts)}")
        return parts[part]

    def _judged(self, parts: dict[str, Any]) -> str:
        part = "test" if "test" in parts or "validation" not in parts else "validation"
        self._rows(parts, part)
        return part

    def _encoded(self, rows: Any, part: str) -> EncodedPart:
        place = Path(self.path) / part
        image, label = (_column(rows, names, place) for names in (IMAGE_COLUMNS, LABEL_COLUMNS))
        try:
            files = rows.select_columns(image).cast_column(image, _datasets().Image(decode=False))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"{place}: column {image!r} holds no images ({_reason(error)})"
            ) from error
        told = [name for name in rows.features if name in (label, *_KEYS)]
        frame = rows.select_columns(told).to_polars()
        named = tuple(getattr(rows.features[label], "names", None) or ())
        blobs = HubRows(files, image, range(len(frame)))
        table = ImageTable(place, frame, blobs, label, label_names(place, frame[label], named))
        name = "/".join(filter(None, (self._name, part)))
        return table.part(name, prefix=name)


@dataclass(frozen=True, eq=False)
class HubRows:
    """Rows of a data set that the library keeps on disk.

    Attributes:
        data: The data set; its images are not decoded.
        column: Of the images.
        rows: Which rows.
    """

    data: Any
    column: str
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Sequence[int]) -> "HubRows":
        """Those at ``rows``, in that order."""
        return HubRows(self.data, self.column, [self.rows[row] for row in rows])

    def read(self) -> Sequence[Blob]:
        """The files in these rows, or where they are."""
        return [_bytes(entry) for entry in self.data[list(self.rows)][self.column]]


def saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of the library wrote a folder."""
    return any((folder / name).is_file() for name in SAVED)


def hub_source(text: str) -> HubDataset:
    """The data set that is typed, for example ``hub:uoft-cs/cifar100(config=cifar100)``.

    Raises:
        ConfigError: Settings that it does not have, or refuses.
    """
    written = parse_value(text)
    name = written.name if isinstance(written, Call) else text
    family = Family("data set", {name: HubDataset}, Source)
    if not (path := name.removeprefix(SCHEME)):
        raise ConfigError(f"{text!r} names no data set; write hub:owner/name")
    found: HubDataset = Vocabulary((family,)).read(text, family.name, path=path)
    return found


def _several(parts: dict[str, Any]) -> bool:
    return [*parts] != ["train"]


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise ConfigError(
            "data sets of the hub need the library datasets; pip install 'recuse[hub]'"
        ) from error


def _column(rows: Any, names: tuple[str, ...], place: Path) -> str:
    for name in names:
        if name in rows.features:
            return name
    raise DataError(f"{place}: no column {' or '.join(names)}; found {', '.join(rows.features)}")


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _bytes(entry: dict[str, Any] | None) -> Blob:
    if entry is None:
        return None
    if entry["bytes"] is not None:
        return bytes(entry["bytes"])
    path = Path(entry["path"] or "")
    return path if path.is_file() else None
