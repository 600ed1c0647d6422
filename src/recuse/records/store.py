"""Records on disk: ``<folder>/<model>-<key>/`` with ``meta.json`` and parquet shards, or packed.

Every file appears whole or not at all (written beside, then renamed), so a killed run leaves
only finished shards and a rerun computes what is missing. A shard carries the checksum of its
bytes in its name, ``shard-00003-<16 hex digits>.parquet``, so that damage is noticed and two
writers never overwrite each other; shards of before there were checksums are read without.
"""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl

from recuse.errors import RecordError, RecuseError
from recuse.records.duplicates import split_duplicates
from recuse.records.layout import META, PACK, RECORDS, SHARD, SHARDS, shard_name
from recuse.records.packed import read_pack
from recuse.records.parquet import parquet_bytes, parsed
from recuse.records.places import RemotePath
from recuse.records.schema import Record, RecordMeta, check_record, non_monotone
from recuse.records.sealed import (
    DamagedError,
    GoneError,
    checksum,
    read_bytes,
    sealed,
    unsealed,
)
from recuse.records.typed import typed

T = TypeVar("T")
NO_ROWS = pl.DataFrame(schema={"sample_id": pl.String})
_KEYED = re.compile(r".*-([0-9a-f]{16})")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        RecordError: The disk is full or the folder cannot be written.
    """
    write = path.write_bytes if isinstance(path, RemotePath) else partial(_write_beside, path)
    try:
        write(data)
    except OSError as error:
        raise RecordError(
            f"cannot write {path}: {error.strerror or error}; nothing was left half-written"
        ) from error


def _write_beside(path: Path, data: bytes) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:  # stopped, too
        with contextlib.suppress(OSError):  # there may be no folder to delete from
            beside.unlink()
        raise


def slug(name: str) -> str:
    """A model name as a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "record"


@dataclass(frozen=True)
class Shards:
    """The finished rows of one record.

    Attributes:
        folder: ``<records>/<model>-<key>``.
        meta: What is measured.
    """

    folder: Path
    meta: RecordMeta

    @classmethod
    def of(cls, records: Path, meta: RecordMeta) -> "Shards":
        """The rows of ``meta`` under ``records``, whether or not there are any."""
        return cls(records / f"{slug(meta.model)}-{meta.key}", meta)

    @property
    def paths(self) -> list[Path]:
        """The shards, in the order in which they were begun."""
        return sorted(self.folder.glob(SHARDS))

    def write_meta(self) -> bool:
        """Say in the folder what is measured; returns whether it did not say so before."""
        path, data = self.folder / META, sealed(self.meta.fields())
        if path.is_file() and path.read_bytes() == data:
            return False
        write_atomically(path, data)
        return True

    def append(self, frame: pl.DataFrame) -> Path:
        """Add one finished shard."""
        return self._write(len(self.paths), frame)

    def replace(self, former: Sequence[Path], frame: pl.DataFrame) -> None:
        """Put one shard in place of former ones; cut short, it leaves rows twice.

        Args:
            former: Shards whose rows are in the frame, or are to be dropped.
            frame: The rows; no shard where there are none.
        """
        written = None if frame.is_empty() else self._write(0, frame)
        for path in former:
            if path != written:
                path.unlink(missing_ok=True)

    def _write(self, number: int, frame: pl.DataFrame) -> Path:
        data = parquet_bytes(frame)
        path = self.folder / shard_name(number, checksum(data))
        write_atomically(path, data)
        return path

    def seal(self, path: Path) -> Path:
        """Give a shard of before there were checksums its own; returns what it is called now."""
        if path.stem.count("-") > 1:
            return path
        return path.rename(path.with_stem(f"{path.stem}-{checksum(path.read_bytes())}"))

    def each(self, read: Callable[[Path], T]) -> list[T]:
        """What is read of every shard, all anew where another writer merged some meanwhile."""
        while True:
            paths = self.paths
            try:
                return [read(path) for path in paths]
            except GoneError:
                if self.paths == paths:
                    raise

    def frame(self) -> pl.DataFrame:
        """All finished rows as they lie there, checked shard by shard.

        Raises:
            RecordError: A damaged shard.
        """
        frames = self.each(read_shard)
        return pl.concat(frames, how="diagonal_relaxed") if frames else NO_ROWS

    def record(self) -> Record:
        """All finished rows, each sample once, checked.

        Raises:
            RecordError: A damaged shard, or samples judged twice with different results.
        """
        frame, unequal = split_duplicates(self.frame())
        if unequal:
            raise RecordError(
                f"{self.folder} holds {len(unequal)} samples judged twice with different results, "
                f"first {unequal[0]!r}; run the command that wrote it again, which judges them anew"
            )
        return check_record(Record(self.meta, frame))


def read_shard(path: Path) -> pl.DataFrame:
    """The rows of one shard.

    Raises:
        DamagedError: Its bytes or its values are not those of a shard.
        RecordError: It cannot be read.
    """
    data = read_bytes(path)
    try:
        name = SHARD.fullmatch(path.name)
        if name is None or name[1] not in (None, checksum(data)):
            raise RecordError("it does not match the checksum in its name")
        frame = typed(parsed(data))
        if frame["sample_id"].null_count():
            raise RecordError("sample ids are missing")
        if count := non_monotone(frame):
            raise RecordError(f"{count} verdicts are robust beyond a broken radius")
    except RecuseError as error:
        raise DamagedError(path, error) from error
    return frame


def read_parquet(path: Path) -> pl.DataFrame:
    """Read one parquet file.

    Raises:
        RecordError: Missing, truncated or not parquet.
    """
    try:
        return parsed(path.read_bytes())
    except (OSError, RecordError) as error:
        raise RecordError(
            f"{path} cannot be read as parquet ({error}); delete it and rerun"
        ) from error


def write_record(records: Path, record: Record) -> Path:
    """Store a finished record, in place of one of the same key; returns its folder."""
    shards = Shards.of(records, record.meta)
    shards.write_meta()
    shards.replace(shards.paths, record.frame)
    return shards.folder


def read_meta(path: Path) -> RecordMeta:
    """Read what a record measured.

    Raises:
        DamagedError: Not a meta, or of another record than its folder's name says.
        RecordError: Written by a newer version, or cannot be read.
    """
    fields = unsealed(path)
    try:
        meta = RecordMeta.from_fields(fields)
    except RecuseError as error:
        raise DamagedError(path, error) from error
    named = _KEYED.fullmatch(path.parent.name)
    if named and named[1] != meta.key:
        raise DamagedError(path, f"what it says belongs in the folder of another key, {meta.key}")
    return meta


def read_record(folder: Path) -> Record:
    """Read one record folder.

    Raises:
        RecordError: Not a record folder, or damaged.
    """
    path = folder / META
    if not path.is_file():
        raise RecordError(f"{folder} holds no {META}; give a folder that recuse evaluate wrote")
    return Shards(folder, read_meta(path)).record()


def record_folders(records: Path) -> list[Path]:
    """The folder of each record that is not packed, sorted by name."""
    return sorted(path.parent for path in records.glob(f"*/{META}"))


def holds_records(records: Path) -> bool:
    """Whether a folder is one of records, packed or not."""
    return (records / PACK).is_file() or bool(record_folders(records))


def read_records(run: Path) -> Iterator[Record]:
    """All records of a run folder (or of a ``records`` folder), sorted by name.

    A record with a folder of its own went on after it was packed: the folder counts.

    Raises:
        RecordError: No record below ``run``, or a damaged one.
    """
    base = run / RECORDS if (run / RECORDS).is_dir() else run
    if not holds_records(base):
        raise RecordError(f"no records below {run}; run recuse evaluate or recuse run first")
    packed = read_pack(base / PACK) if (base / PACK).is_file() else {}
    folders = {path.name: path for path in record_folders(base)}
    for name in sorted({*packed, *folders}):
        yield read_record(folders[name]) if name in folders else packed[name].record
