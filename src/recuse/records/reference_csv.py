"""One published CSV: ``sample_idx`` and columns ``<model>_is_acc``, ``<model>_is_rob2_255`` ..."""

from pathlib import Path

import polars as pl

from recuse.errors import RecordError
from recuse.records.parquet import POLARS_ERRORS
from recuse.records.reference_columns import IGNORED, SAMPLE, Imported, imported, record_column
from recuse.records.reference_names import LogName, read_name

_INDEX = {"", "Unnamed: 0"}
_SMOOTHING = ("label", "prediction", "l2_radius")


def read_csv(path: Path, log: str) -> Imported:
    """Read one published CSV.

    Args:
        path: The file.
        log: Its path below the folder of all logs; the names in it say what was measured.

    Raises:
        RecordError: Missing, unknown or renamed columns; bad sample ids or values.
    """
    name = read_name(log)
    frame = _table(path)
    if SAMPLE not in frame.columns:
        raise RecordError(f"{path}: column {SAMPLE!r} is missing")
    model = Path(name.folder).name
    if name.attack == "smoothing":
        return imported(name, model, _smoothing(frame, path), str(path))
    prefix = _prefix(frame, path)
    bare = _unprefixed(frame, prefix, name, path)
    return imported(name, model, bare, str(path), prefix=prefix)


def _table(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema_length=None)
    except (OSError, *POLARS_ERRORS) as error:
        reason = str(error).splitlines()[0]
        raise RecordError(f"{path} cannot be read as CSV ({reason})") from error


def _smoothing(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    for column in frame.columns:
        if column not in _INDEX | IGNORED | {SAMPLE} and record_column(column) is None:
            raise RecordError(f"{path}: column {column!r} is unknown in a smoothing log")
    for column in _SMOOTHING[1:]:
        if column not in frame.columns:
            raise RecordError(f"{path}: column {column!r} is missing")
    return frame.select(SAMPLE, *(c for c in _SMOOTHING if c in frame.columns))


def _unprefixed(frame: pl.DataFrame, prefix: str, name: LogName, path: Path) -> pl.DataFrame:
    bare = {}
    for column in frame.columns:
        if column in _INDEX or column == SAMPLE:
            continue
        rest = column.removeprefix(prefix)
        if rest == column or (record_column(rest) is None and rest not in IGNORED):
            raise RecordError(
                f"{path}: column {column!r} is unknown; expected {prefix}is_acc, {prefix}pred, "
                f"{prefix}is_rob<radius> and the like"
            )
        if rest not in IGNORED:
            bare[column] = rest
    if not any((record_column(rest) or "").startswith("robust@") for rest in bare.values()):
        raise RecordError(f"{path}: column '{prefix}is_rob<radius>' is missing")
    if name.attack == "apgd-conf":
        _check_confidences(set(bare.values()), prefix, path)
    return frame.select(SAMPLE, *bare).rename(bare)


def _prefix(frame: pl.DataFrame, path: Path) -> str:
    found = [c for c in frame.columns if c.endswith("_pred") and not c.endswith("_base_pred")]
    if not found:
        raise RecordError(f"{path}: column '<model>_pred' is missing")
    if len(found) > 1:
        raise RecordError(f"{path}: columns {found[0]!r} and {found[1]!r} belong to two models")
    return found[0].removesuffix("pred")


def _check_confidences(columns: set[str], prefix: str, path: Path) -> None:
    if "nat_conf" not in columns:
        raise RecordError(f"{path}: column '{prefix}nat_conf' is missing")
    if not any((record_column(c) or "").startswith("adv_confidence@") for c in columns):
        raise RecordError(f"{path}: column '{prefix}adv_conf<radius>' is missing")
