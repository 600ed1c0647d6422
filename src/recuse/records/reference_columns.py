"""Published column names to record columns, and the repair of contradictory verdicts."""

import re
from dataclasses import dataclass

import polars as pl
from polars.datatypes import DataTypeClass

from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.records.parquet import POLARS_ERRORS
from recuse.records.reference_names import LogName, radius_of
from recuse.records.schema import (
    Record,
    RecordMeta,
    check_record,
    column_type,
    non_monotone,
    radius_column,
    robust_columns,
)

SAMPLE = "sample_idx"
PLAIN = {
    "is_acc": "accurate",
    "pred": "prediction",
    "prediction": "prediction",
    "label": "label",
    "nat_conf": "confidence",
    "is_select": "selected",
    "l2_radius": "radius",
}
PER_RADIUS = {"is_rob": "robust", "adv_conf": "adv_confidence", "is_cert": "certified"}
# Judged, by the selector of its own, at the largest radius of the log: the name has none.
SELECTION = {"select_rob": "selected_robust", "select_cert": "selected_certified"}
# Known, and not part of a record: the same information in another unit or without the noise.
IGNORED = {"linf_radius", "base_prediction", "base_pred", "nA_derived"}
_RADIUS = re.compile(r"(is_rob|adv_conf|is_cert)_?(\d+_255|\d+(?:\.\d+)?)")
_ABSTAINED = -1
# Records sort by id as text: zeros in front keep the order of the data set.
ID_WIDTH = 6


@dataclass(frozen=True)
class Imported:
    """A published log as a record, and as it was published.

    Attributes:
        record: Verdicts made monotone by carrying a break outward to every larger radius.
        raw: The same columns and order without the repair: what the printed cells used.
        non_monotone: Verdicts that were robust beyond a broken radius.
        source: The file it came from.
    """

    record: Record
    raw: pl.DataFrame
    non_monotone: int
    source: str


def record_column(name: str) -> str | None:
    """The record column of a published column; None where it is unknown.

    The selector's ball verdicts keep their published name until the radii are known.

    >>> record_column("is_rob2_255"), record_column("adv_conf_4_255"), record_column("is_robust")
    ('robust@2/255', 'adv_confidence@4/255', None)
    """
    if name in SELECTION:
        return name
    if found := _RADIUS.fullmatch(name):
        return radius_column(PER_RADIUS[found[1]], radius_of(found[2]))
    return PLAIN.get(name)


def imported(
    name: LogName, model: str, frame: pl.DataFrame, source: str, *, prefix: str = ""
) -> Imported:
    """A published log as a record.

    Args:
        name: What the log's path says.
        model: Model name for people.
        frame: ``sample_idx`` and published columns, model prefix removed; columns that are
            null throughout count as not evaluated.
        source: The file, for messages.
        prefix: What was removed from the column names, for messages.

    Raises:
        RecordError: Sample ids that are missing or duplicated, a value of the wrong kind,
            or a column that is null for some samples only.
    """
    where = source if name.log in source else f"{source}, log {name.log}"
    _check_samples(frame, where)
    columns = {c: record_column(c) for c in frame.columns if c != SAMPLE}
    kept = {c: r for c, r in columns.items() if r and frame[c].null_count() < frame.height}
    raw = _typed(frame, kept, where, prefix)
    raw = _smoothed(raw) if name.attack == "smoothing" else raw
    raw = _selection(raw, where).sort("sample_id")
    meta = RecordMeta(
        model=model,
        dataset=name.dataset,
        method=name.attack,
        norm=name.norm,
        radii=tuple(c.partition("@")[2] for c in robust_columns(raw)),
        settings=name.settings,
        tags=name.tags,
    )
    record = check_record(Record(meta, carry_outward(raw)))
    return Imported(record, raw, non_monotone(raw), source)


def carry_outward(frame: pl.DataFrame) -> pl.DataFrame:
    """Make verdicts monotone: what is broken at a radius is broken at every larger one."""
    names = robust_columns(frame)
    return frame.with_columns(
        pl.all_horizontal(names[: index + 1]).alias(name) for index, name in enumerate(names)
    )


def _check_samples(frame: pl.DataFrame, where: str) -> None:
    if SAMPLE not in frame.columns:
        raise RecordError(f"{where}: column {SAMPLE!r} is missing")
    ids = frame[SAMPLE]
    if nulls := ids.null_count():
        raise RecordError(f"{where}: column {SAMPLE!r} is empty in {nulls} rows")
    if ids.n_unique() != ids.len():
        twice = ids.filter(ids.is_duplicated())[0]
        raise RecordError(f"{where}: column {SAMPLE!r} holds {twice} more than once")


def _typed(frame: pl.DataFrame, kept: dict[str, str], where: str, prefix: str) -> pl.DataFrame:
    ids = _cast(frame[SAMPLE], pl.Int64, f"{where}: column {SAMPLE!r}")
    columns = [ids.cast(pl.String).str.zfill(ID_WIDTH).alias("sample_id")]
    for published, name in kept.items():
        series = frame[published]
        if published != "label" and (nulls := series.null_count()):
            raise RecordError(f"{where}: column '{prefix}{published}' is empty in {nulls} rows")
        kind = pl.Boolean if published in SELECTION else column_type(name)
        columns.append(_cast(series, kind, f"{where}: column '{prefix}{published}'").alias(name))
    return pl.DataFrame(columns)


def _cast(series: pl.Series, kind: DataTypeClass, where: str) -> pl.Series:
    if series.dtype == kind:
        return series
    try:
        if kind != pl.Boolean:
            return series.cast(kind)
        values = set(series.drop_nulls().unique())
        if values <= {0, 1}:
            return series.cast(pl.Boolean)
    except (*POLARS_ERRORS, TypeError) as error:
        raise RecordError(f"{where} holds values that are not numbers") from error
    odd = min(values - {0, 1}, key=str)
    raise RecordError(f"{where} holds {odd!r} where only 0 and 1 are allowed")


def _smoothed(frame: pl.DataFrame) -> pl.DataFrame:
    """A smoothed classifier that abstained has no prediction; it is wrong, and not a class."""
    answered = frame.with_columns(
        pl.col("prediction").replace(_ABSTAINED, None).cast(pl.Int32),
    )
    if "label" not in frame.columns:
        return answered
    right = (pl.col("prediction") == pl.col("label")).fill_null(value=False)
    return answered.with_columns(right.alias("accurate"))


def _selection(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Name the selector's ball verdicts by the largest radius judged; both imply selection."""
    present = [name for name in SELECTION if name in frame.columns]
    if not present:
        return frame
    judged = robust_columns(frame) + robust_columns(frame, "certified")
    radii = [column.partition("@")[2] for column in judged]
    if "selected" not in frame.columns or not radii:
        raise RecordError(f"{where}: column {present[0]!r} needs 'is_select' and a judged radius")
    largest = max(radii, key=parse_radius)
    return frame.with_columns(
        (pl.col("selected") & pl.col(name)).alias(radius_column(SELECTION[name], largest))
        for name in present
    ).drop(present)
