"""A folder of parquet shards per part, as ``recuse data crop`` writes it."""

from dataclasses import dataclass
from pathlib import Path

from recuse.data.decode import Decoding
from recuse.data.parquet import read_table
from recuse.data.split import Split, Splits, hold_out
from recuse.errors import DataError


@dataclass(frozen=True)
class ShardFolder:
    """``<path>/train``, ``validation`` and ``test``, each with parquet shards.

    Where there is no test part (test annotations are often not published), validation is the
    test part, and a new validation part is cut from the training rows.

    Attributes:
        path: The folder; relative paths may also lie below the data root.
        size: Side to resize to, or None where all images have one size.
        seed: Of a cut, where one is needed.
    """

    path: Path
    size: int | None = None
    seed: int = 0

    def load(self, data_root: Path | None = None) -> Splits:
        """The three parts."""
        folder = self._folder(data_root)
        train, test = self._read(folder, "train"), self.load_test(data_root)
        if self._has(folder, "validation") and self._has(folder, "test"):
            return Splits(train, self._read(folder, "validation"), test)
        kept, held = hold_out(train, 0.1, seed=self.seed, name=f"{folder.name}/validation")
        return Splits(kept, held, test)

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        folder = self._folder(data_root)
        part = next((part for part in ("test", "validation") if self._has(folder, part)), None)
        if part is None:
            raise DataError(f"{folder} holds neither test nor validation images")
        return self._read(folder, part)

    def _read(self, folder: Path, part: str) -> Split:
        name = f"{folder.name}/{part}"
        return read_table(folder / part).split(name, Decoding(size=self.size), prefix=name)

    def _has(self, folder: Path, part: str) -> bool:
        return any((folder / part).glob("*.parquet"))

    def _folder(self, data_root: Path | None) -> Path:
        below = data_root / self.path if data_root else self.path
        folder = self.path if self.path.is_dir() or not below.is_dir() else below
        if not self._has(folder, "train"):
            raise DataError(f"{folder} holds no train/*.parquet; write it with recuse data crop")
        return folder
