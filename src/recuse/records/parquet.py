"""Parquet bytes as rows: what is none is one sentence, not a panic of the reader."""

import io
from collections.abc import Callable, Mapping
from typing import TypeVar

import polars as pl

from recuse.errors import RecordError

T = TypeVar("T")
# A panic of polars is no Exception, so that it would pass every border.
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def parsed(data: bytes) -> pl.DataFrame:
    """The rows of a parquet file.

    Raises:
        RecordError: Not a parquet file.
    """
    return _guarded(pl.read_parquet, data)


def described(data: bytes) -> Mapping[str, str]:
    """What the writer of a parquet file noted beside the rows.

    Raises:
        RecordError: Not a parquet file.
    """
    return _guarded(pl.read_parquet_metadata, data)


def parquet_bytes(frame: pl.DataFrame, notes: Mapping[str, str] | None = None) -> bytes:
    """A frame as parquet bytes, with notes that :func:`described` gives back."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata=None if notes is None else dict(notes))
    return buffer.getvalue()


def _guarded(read: Callable[[io.BytesIO], T], data: bytes) -> T:
    try:
        return read(io.BytesIO(data))
    except (*POLARS_ERRORS, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RecordError(f"not a parquet file: {reason}") from error


__all__ = ["POLARS_ERRORS", "described", "parquet_bytes", "parsed"]
