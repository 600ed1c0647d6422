"""Records on disk: ``<folder>/<model>-<key>/`` with ``meta.json`` and parquet shards.

Every file appears whole or not at all (written beside, then renamed), so a killed run leaves
only finished shards and a rerun computes what is missing.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recuse.errors import RecordError
from recuse.records.schema import Record, RecordMeta, check_record

META = "meta.json"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        RecordError: The disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # there may be no folder to delete from
            partial.unlink()
        raise RecordError(
            f"cannot write {path}: {error.strerror or error}; nothing was left half-written"
        ) from error


def slug(name: str) -> str:
    """A model name as a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "record"


@dataclass(frozen=True)
class Shards:
    """The folder of one record while it is being written.

    Attributes:
        folder: ``<records>/<model>-<key>``.
        meta: What is measured.
    """

    folder: Path
    meta: RecordMeta

    @classmethod
    def open(cls, records: Path, meta: RecordMeta) -> "Shards":
        """Create or reopen the folder of ``meta`` under ``records``."""
        folder = records / f"{slug(meta.model)}-{meta.key}"
        write_atomically(folder / META, meta.to_json().encode())
        return cls(folder, meta)

    def finished_ids(self) -> set[str]:
        """Sample ids already on disk."""
        return set(self._frame()["sample_id"].to_list())

    def append(self, frame: pl.DataFrame) -> None:
        """Add one finished shard."""
        number = sum(1 for _ in self.folder.glob("shard-*.parquet"))
        write_atomically(self.folder / f"shard-{number:05d}.parquet", parquet_bytes(frame))

    def record(self) -> Record:
        """All finished rows, checked."""
        return check_record(Record(self.meta, self._frame()))

    def _frame(self) -> pl.DataFrame:
        frames = [read_parquet(path) for path in sorted(self.folder.glob("shard-*.parquet"))]
        if not frames:
            return pl.DataFrame(schema={"sample_id": pl.String})
        return pl.concat(frames, how="diagonal_relaxed")


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as parquet bytes."""
    import io

    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def read_parquet(path: Path) -> pl.DataFrame:
    """Read one parquet file.

    Raises:
        RecordError: Missing, truncated or not parquet.
    """
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RecordError(
            f"{path} cannot be read as parquet ({error}); delete it and rerun"
        ) from error


def write_record(records: Path, record: Record) -> Path:
    """Store a finished record; returns its folder."""
    shards = Shards.open(records, record.meta)
    write_atomically(shards.folder / "shard-00000.parquet", parquet_bytes(record.frame))
    return shards.folder


def read_record(folder: Path) -> Record:
    """Read one record folder.

    Raises:
        RecordError: Not a record folder, or damaged.
    """
    meta_path = folder / META
    if not meta_path.is_file():
        raise RecordError(f"{folder} holds no {META}; give a folder that recuse evaluate wrote")
    try:
        meta = RecordMeta.from_json(meta_path.read_text())
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{meta_path} is damaged ({error}); delete the folder and rerun"
        ) from error
    return Shards(folder, meta).record()


def read_records(run: Path) -> Iterator[Record]:
    """All records of a run folder (or of a ``records`` folder), sorted by name.

    Raises:
        RecordError: No record below ``run``.
    """
    base = run / "records" if (run / "records").is_dir() else run
    folders = sorted(path.parent for path in base.glob(f"*/{META}"))
    if not folders:
        raise RecordError(f"no records below {run}; run recuse evaluate or recuse run first")
    for folder in folders:
        yield read_record(folder)
