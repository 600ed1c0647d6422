"""A folder of parquet shards per part: ``recuse data crop`` and the Hugging Face hub write it."""

from dataclasses import dataclass
from pathlib import Path

from recuse.data.encoded import EncodedPart, Reading
from recuse.data.folder import PART_FOLDERS
from recuse.data.parquet import read_table, string_names
from recuse.data.roots import located
from recuse.data.split import Split, Splits
from recuse.errors import DataError


@dataclass(frozen=True)
class ShardFolder(Reading):
    """Parquet shards of the parts train, validation (or val) and test.

    The shards of a part are ``train/*.parquet``, ``train-*.parquet`` or ``train.parquet``, in the
    folder or in ``data`` below it. Where there is no test part (test annotations are often not
    published), validation is the test part, and a new validation part is cut from the training
    rows.

    Attributes:
        path: The folder; relative paths may also lie below the data root.
        seed: Of a cut, where one is needed.
    """

    path: Path
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts."""
        folder, parts = self._parts(data_root)
        _judged(folder, parts)
        found = {part: _read(folder, parts, part) for part in parts}
        return self.three(found, name=folder.name, fraction=0.1, seed=self.seed)

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        folder, parts = self._parts(data_root)
        part = _read(folder, parts, _judged(folder, parts))
        return self.split(part.counted_by(string_names(parts["train"])))

    def _parts(self, data_root: Path | None) -> tuple[Path, dict[str, list[Path]]]:
        folder = located(self.path, data_root).absolute()
        parts = shards_of_parts(folder)
        if "train" not in parts:
            raise DataError(
                f"{folder} holds no train/*.parquet, nor train-*.parquet; write it with recuse "
                "data crop, or name a single parquet file"
            )
        return folder, parts


def shards_of_parts(folder: Path) -> dict[str, list[Path]]:
    """The parquet files of each part that is there.

    Raises:
        DataError: A part of two names.
    """
    found: dict[str, list[Path]] = {}
    for part, names in PART_FOLDERS.items():
        there = {name: shards for name in names if (shards := _shards(folder, name))}
        if len(there) > 1:
            first, second, *_ = there
            raise DataError(
                f"{folder} holds {first} and {second}, two folders for the {part} part; keep one"
            )
        if there:
            found[part] = next(iter(there.values()))
    return found


def _shards(folder: Path, name: str) -> list[Path]:
    patterns = [f"{name}/*.parquet", f"{name}-*.parquet", f"{name}.parquet"]
    for place in (folder, folder / "data"):
        for pattern in patterns:
            if shards := sorted(place.glob(pattern)):
                return shards
    return []


def _judged(folder: Path, parts: dict[str, list[Path]]) -> str:
    part = next((part for part in ("test", "validation") if part in parts), None)
    if part is None:
        raise DataError(f"{folder} holds neither test nor validation images")
    return part


def _read(folder: Path, parts: dict[str, list[Path]], part: str) -> EncodedPart:
    name, files = f"{folder.name}/{part}", parts[part]
    where = files[0] if len(files) == 1 else files[0].parent
    return read_table(where, files).part(name, prefix=name)
