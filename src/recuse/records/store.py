"""Records on disk: ``<folder>/<model>-<key>/`` with ``meta.json`` and parquet shards.

Every file appears whole or not at all (written beside, then renamed), so a killed run leaves
only finished shards and a rerun computes what is missing. A shard carries the checksum of its
bytes in its name, ``shard-00003-<16 hex digits>.parquet``, so that damage is noticed and two
writers never overwrite each other; shards of before there were checksums are read without.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from recuse.errors import RecordError, RecuseError
from recuse.records.duplicates import split_duplicates
from recuse.records.layout import RECORDS
from recuse.records.schema import Record, RecordMeta, check_record, non_monotone, typed
from recuse.records.sealed import DamagedError, checksum, read_bytes, sealed, unsealed

META = "meta.json"
_SHARD = re.compile(r"shard-\d+(?:-([0-9a-f]{16}))?\.parquet")
_KEYED = re.compile(r".*-([0-9a-f]{16})")


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
        return sorted(self.folder.glob("shard-*.parquet"))

    def write_meta(self) -> None:
        """Say in the folder what is measured."""
        path, data = self.folder / META, sealed(asdict(self.meta))
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)

    def append(self, frame: pl.DataFrame) -> Path:
        """Add one finished shard."""
        data = parquet_bytes(frame)
        path = self.folder / f"shard-{len(self.paths):05d}-{checksum(data)}.parquet"
        write_atomically(path, data)
        return path

    def seal(self, path: Path) -> None:
        """Give a shard of before there were checksums its own."""
        if path.stem.count("-") == 1:
            path.rename(path.with_stem(f"{path.stem}-{checksum(path.read_bytes())}"))

    def frame(self) -> pl.DataFrame:
        """All finished rows as they lie there, checked shard by shard.

        Raises:
            RecordError: A damaged shard.
        """
        frames = [read_shard(path) for path in self.paths]
        if not frames:
            return pl.DataFrame(schema={"sample_id": pl.String})
        return pl.concat(frames, how="diagonal_relaxed")

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
        name = _SHARD.fullmatch(path.name)
        if name is None or name[1] not in (None, checksum(data)):
            raise RecordError("it does not match the checksum in its name")
        frame = typed(_parsed(data))
        if frame["sample_id"].null_count():
            raise RecordError("sample ids are missing")
        if count := non_monotone(frame):
            raise RecordError(f"{count} verdicts are robust beyond a broken radius")
    except RecuseError as error:
        raise DamagedError(path, error) from error
    return frame


def _parsed(data: bytes) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(data))
    # A panic of polars is no Exception, so that it would pass every border.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RecordError(f"not a parquet file: {reason}") from error


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as parquet bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def read_parquet(path: Path) -> pl.DataFrame:
    """Read one parquet file.

    Raises:
        RecordError: Missing, truncated or not parquet.
    """
    try:
        return _parsed(path.read_bytes())
    except (OSError, RecordError) as error:
        raise RecordError(
            f"{path} cannot be read as parquet ({error}); delete it and rerun"
        ) from error


def write_record(records: Path, record: Record) -> Path:
    """Store a finished record, in place of one of the same key; returns its folder."""
    shards = Shards.of(records, record.meta)
    former = shards.paths
    shards.write_meta()
    written = shards.append(record.frame)
    for path in former:
        if path != written:
            path.unlink()
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


def read_records(run: Path) -> Iterator[Record]:
    """All records of a run folder (or of a ``records`` folder), sorted by name.

    Raises:
        RecordError: No record below ``run``.
    """
    base = run / RECORDS if (run / RECORDS).is_dir() else run
    folders = sorted(path.parent for path in base.glob(f"*/{META}"))
    if not folders:
        raise RecordError(f"no records below {run}; run recuse evaluate or recuse run first")
    for folder in folders:
        yield read_record(folder)
