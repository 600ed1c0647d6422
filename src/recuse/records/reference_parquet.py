"""All published logs in one tidy parquet: one row per log and sample."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from recuse.errors import RecordError
from recuse.radius import parse_norm
from recuse.records.parquet import POLARS_ERRORS
from recuse.records.reference_columns import SAMPLE, Imported, imported, record_column
from recuse.records.reference_names import ATTACKS, LogName, radius_of, read_name
from recuse.records.store import read_parquet

REQUIRED = ("log", SAMPLE, "pred")
# Column of the parquet -> tag of the record. What is null is left to the path.
TAGS = {
    "loss": "loss",
    "base_model": "base",
    "init_model": "init",
    "train_eps": "train_eps",
    "train_sigma": "train_sigma",
    "beta": "beta",
    "augmentation": "augmentation",
    "finetuned": "finetuned",
    "timestamp": "timestamp",
    "ckpt_epoch": "epoch",
    "quality": "quality",
}
# What a log cannot do without, as kind of record column and as published.
ATTACKED = {"prediction": "pred", "robust": "is_rob_<radius>"}
NEEDED = {
    "apgd-conf": ATTACKED | {"confidence": "nat_conf", "adv_confidence": "adv_conf_<radius>"},
    "smoothing": {"prediction": "pred", "radius": "l2_radius"},
}
CONSTANT = ("dataset", "attack", "norm", *TAGS)


def is_log_table(path: Path) -> bool:
    """Whether a parquet file holds published logs, whole or not, and not something else."""
    try:
        return not {"log", SAMPLE}.isdisjoint(pl.read_parquet_schema(path))
    except (OSError, *POLARS_ERRORS) as error:
        raise RecordError(f"{path} cannot be read as parquet ({error})") from error


def read_tidy(path: Path) -> Iterator[Imported]:
    """Read every log of a tidy parquet, in the order of the file.

    Raises:
        RecordError: Missing columns, bad sample ids or values, or a log whose rows do not
            agree on data set, norm or attack.
    """
    table = read_parquet(path)
    for column in REQUIRED:
        if column not in table.columns:
            raise RecordError(f"{path}: column {column!r} is missing")
    table = table.with_columns(pl.col("log").cast(pl.String))
    facts = _facts(table, path)
    kept = [c for c in table.columns if record_column(c)]
    groups = table.select("log", SAMPLE, *kept).partition_by(
        "log", maintain_order=True, include_key=False, as_dict=True
    )
    for (log,), frame in groups.items():
        name = _name(str(log), facts[str(log)])
        yield imported(name, PurePosixPath(name.folder).name, _bare(frame, name, path), str(path))


def _facts(table: pl.DataFrame, path: Path) -> dict[str, dict[str, Any]]:
    present = [c for c in CONSTANT if c in table.columns]
    grouped = table.group_by("log").agg(
        pl.col(present).first(), pl.col(present).n_unique().name.suffix("#")
    )
    for row in grouped.iter_rows(named=True):
        for column in present:
            if row[f"{column}#"] > 1:
                raise RecordError(
                    f"{path}: log {row['log']!r} mixes several values in column {column!r}"
                )
    return {row["log"]: row for row in grouped.iter_rows(named=True)}


def _name(log: str, facts: dict[str, Any]) -> LogName:
    name = read_name(log)
    tags = {t: facts[c] for c, t in TAGS.items() if facts.get(c) is not None}
    if "train_eps" in tags:
        tags["train_eps"] = radius_of(tags["train_eps"])
    split = name.dataset.partition("/")[2]
    attack = facts.get("attack")
    return replace(
        name,
        dataset=f"{facts['dataset']}/{split}" if facts.get("dataset") else name.dataset,
        norm=parse_norm(facts["norm"]) if facts.get("norm") else name.norm,
        attack=ATTACKS.get(attack, attack) if attack else name.attack,
        tags=name.tags | tags,
    )


def _bare(frame: pl.DataFrame, name: LogName, path: Path) -> pl.DataFrame:
    """The columns that belong to this kind of log; the table is wide and mostly empty.

    Raises:
        RecordError: A column that this kind of log cannot do without is absent or empty.
    """
    filled = [c for c in frame.columns if frame[c].null_count() < frame.height]
    kinds = {(record_column(c) or "").partition("@")[0] for c in filled}
    for kind, published in NEEDED.get(name.attack, ATTACKED).items():
        if kind not in kinds:
            raise RecordError(f"{path}, log {name.log}: column {published!r} is missing or empty")
    if name.attack != "smoothing":
        return frame.select(SAMPLE, *(c for c in filled if c != SAMPLE))
    return frame.select(SAMPLE, *(c for c in ("label", "pred", "l2_radius") if c in filled))
