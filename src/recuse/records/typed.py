"""Rows that were read, in the types that a record's columns have."""

import numpy as np
import polars as pl

from recuse.errors import RecordError
from recuse.records.parquet import POLARS_ERRORS
from recuse.records.schema import column_type


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that were read, in the types of the schema; only the width of numbers may differ.

    Certified radii that were kept in single precision may have been rounded up, and are lowered.

    Raises:
        RecordError: An unknown column, or one of another type.
    """
    if "sample_id" not in frame.columns:
        raise RecordError("column 'sample_id' is missing")
    for name, found in frame.schema.items():
        wanted = column_type(name)
        alike = (found.is_integer() and wanted.is_integer()) or (
            found.is_float() and wanted.is_float()
        )
        if not alike and found not in (wanted, pl.Null):
            raise RecordError(f"column {name!r} holds {found}, not {wanted}")
    if frame.schema.get("radius") == pl.Float32:
        frame = frame.with_columns(pl.col("radius").map_batches(_lowered, pl.Float64))
    try:
        return frame.cast({name: column_type(name) for name in frame.columns})
    except POLARS_ERRORS as error:
        raise RecordError(str(error).partition("\n")[0]) from error


def _lowered(radii: pl.Series) -> pl.Series:
    lower = np.nextafter(radii.to_numpy(), np.float32(0)).astype(np.float64)
    return pl.Series(lower, nan_to_null=True)


__all__ = ["typed"]
