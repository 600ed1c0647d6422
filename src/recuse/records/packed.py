"""All records of a folder in one parquet file: the pack, as a value and as bytes.

Its rows are those of every record, told apart by a column; what each record measured, what its
networks answered and which columns it has is noted beside the rows. The file says the checksum of
its own bytes, in a place that counts as zeros, so that damage is noticed before anything is
parsed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recuse.errors import RecordError, RecuseError
from recuse.records.parquet import POLARS_ERRORS, described, parquet_bytes, parsed
from recuse.records.schema import Record, RecordMeta, check_record
from recuse.records.sealed import DamagedError, checksum, opened, read_bytes, sealed
from recuse.records.typed import typed

REMEDY = "restore it, or delete it and run the commands that wrote its records again"
NAME = "record"
NOTES = "recuse"
SEAL = "recuse-checksum"
_MARK = b"recuse checksum "
_ZEROS = b"0" * 16


@dataclass(frozen=True, eq=False)
class Packed:
    """One record of a pack.

    Attributes:
        name: Of its folder, while it is not packed.
        record: What was measured, and the rows.
        answers: What its networks answered, as JSON values; None for a record of before that.
    """

    name: str
    record: Record
    answers: dict[str, Any] | None

    def same(self, other: "Packed") -> bool:
        """Whether both are one record, to the last value and type."""
        mine, theirs = self.record, other.record
        return (
            (self.name, mine.meta, self.answers) == (other.name, theirs.meta, other.answers)
            and mine.frame.schema == theirs.frame.schema
            and mine.frame.equals(theirs.frame)
        )


def pack_bytes(entries: Sequence[Packed]) -> bytes:
    """Records as one parquet file."""
    frames = [e.record.frame.select(pl.lit(e.name).alias(NAME), pl.all()) for e in entries]
    notes = [
        {
            "name": e.name,
            "columns": e.record.frame.columns,
            "meta": e.record.meta.fields(),
            "answers": e.answers,
        }
        for e in entries
    ]
    rows = pl.concat(frames, how="diagonal")
    texts = {NOTES: sealed({"records": notes}).decode(), SEAL: (_MARK + _ZEROS).decode()}
    data = parquet_bytes(rows, texts)
    return _with_seal(data, checksum(data).encode())


def read_pack(path: Path) -> dict[str, Packed]:
    """The records of a pack, by name.

    Raises:
        DamagedError: Not a pack, or not as it was written.
        RecordError: Written by a newer version, or cannot be read.
    """
    data = read_bytes(path)
    try:
        if _with_seal(data, checksum(_with_seal(data, _ZEROS)).encode()) != data:
            raise RecordError("it does not match its checksum")
        noted = described(data)[NOTES]
    except (RecordError, KeyError) as error:
        raise DamagedError(path, error, REMEDY) from error
    notes = opened(noted, path)
    try:
        rows = parsed(data)
        parts = rows.partition_by(NAME, as_dict=True)
        found = [_packed(e, parts.get((e["name"],), rows.clear())) for e in notes["records"]]
    except (*POLARS_ERRORS, RecuseError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, error, REMEDY) from error
    return {entry.name: entry for entry in found}


def _packed(entry: Mapping[str, Any], rows: pl.DataFrame) -> Packed:
    meta = RecordMeta.from_fields(entry["meta"])
    record = check_record(Record(meta, typed(rows.select(entry["columns"]))))
    return Packed(entry["name"], record, entry["answers"])


def _with_seal(data: bytes, seal: bytes) -> bytes:
    """The bytes with another checksum in its place, which is near the end."""
    found = data.rfind(_MARK)
    if found < 0:
        raise RecordError("it is no pack of records")
    place = found + len(_MARK)
    return data[:place] + seal + data[place + len(seal) :]


__all__ = ["Packed", "pack_bytes", "read_pack"]
