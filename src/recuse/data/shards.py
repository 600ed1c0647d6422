"""A folder of parquet shards per part, as ``recuse data crop`` writes it."""

from dataclasses import dataclass
from pathlib import Path

from recuse.data.decode import Decoding
from recuse.data.folder import part_folders
from recuse.data.parquet import read_table
from recuse.data.roots import located
from recuse.data.split import Split, Splits, hold_out
from recuse.errors import DataError


@dataclass(frozen=True)
class ShardFolder:
    """``<path>/train``, ``validation`` (or ``val``) and ``test``, each with parquet shards.

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
        folder, parts = self._parts(data_root)
        train, test = self._read(folder, parts, "train"), self.load_test(data_root)
        if {"validation", "test"} <= parts.keys():
            return Splits(train, self._read(folder, parts, "validation"), test)
        name = f"{folder.name}/held-out" if "test" not in parts else f"{folder.name}/validation"
        kept, held = hold_out(train, 0.1, seed=self.seed, name=name)
        return Splits(kept, held, test)

    def load_test(self, data_root: Path | None = None) -> Split:
        """The test part alone."""
        folder, parts = self._parts(data_root)
        part = next((part for part in ("test", "validation") if part in parts), None)
        if part is None:
            raise DataError(f"{folder} holds neither test nor validation images")
        return self._read(folder, parts, part)

    def _read(self, folder: Path, parts: dict[str, Path], part: str) -> Split:
        name = f"{folder.name}/{part}"
        return read_table(parts[part]).split(name, Decoding(size=self.size), prefix=name)

    def _parts(self, data_root: Path | None) -> tuple[Path, dict[str, Path]]:
        folder = located(self.path, data_root).absolute()
        parts = part_folders(folder, lambda path: any(path.glob("*.parquet")))
        if "train" not in parts:
            raise DataError(f"{folder} holds no train/*.parquet; write it with recuse data crop")
        return folder, parts
