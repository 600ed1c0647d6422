"""Rows of the comparison of losses: every network on every test image, in one file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from recuse.analysis.accounting import Core, sound_account
from recuse.analysis.mechanisms import indicator_stage
from recuse.analysis.verdicts import Mask, add_radii, verdicts
from recuse.records.schema import Record
from recuse.records.store import parquet_bytes, read_parquet, read_records, write_atomically

Values = npt.NDArray[np.float64]
ROWS = "rows.parquet"
CORE = "core"
CELL = ("dataset", "network", "eps", "seed", "loss", "inside_era", "weights")


@dataclass(frozen=True)
class Judged:
    """One network of the comparison, one number per quantity and test image.

    Attributes:
        dataset: Data set.
        network: Architecture.
        eps: Radius of training and judgement.
        seed: Of training.
        loss: Robust loss, in capitals.
        inside_era: Whether it is the robust half of ERA.
        weights: Digest of the trained weights.
        values: Rates of the network alone and before the core.
        core: Rates of the core alone.
    """

    dataset: str
    network: str
    eps: str
    seed: int
    loss: str
    inside_era: bool
    weights: str
    values: dict[str, Values]
    core: dict[str, Values]


def collect(records: Path, out: Path) -> None:
    """Write the rows of every record below a work folder as one file."""
    folders = sorted(path for path in records.glob("*/*") if path.is_dir())
    frames = [rows_of(record) for folder in folders for record in read_records(folder)]
    rows = pl.concat(frames).sort(*CELL, "sample_id")
    write_atomically(out / ROWS, parquet_bytes(rows))


def rows_of(record: Record) -> pl.DataFrame:
    """What the comparison needs of a record; ``doubled`` is judged at twice eps."""
    tags, judged = record.meta.tags, verdicts(record)
    eps = str(tags["eps"])
    cell = {
        "dataset": str(tags["dataset"]),
        "network": str(tags["network"]),
        "eps": eps,
        "seed": int(tags.get("seed", 0)),
        "loss": str(tags.get("loss", CORE)),
        "inside_era": bool(tags.get("era", False)),
        "weights": record.meta.weights,
    }
    return pl.DataFrame(
        {
            "sample_id": record.frame["sample_id"],
            "accurate": judged.accurate(),
            "robust": judged.robust(eps),
            "doubled": judged.robust(add_radii(eps, eps)),
        }
    ).with_columns(pl.lit(value).alias(name) for name, value in cell.items())


def read_cells(folder: Path) -> list[Judged]:
    """Every network, composed with the core of its data set."""
    rows = read_parquet(folder / ROWS)
    groups = ["dataset", "network", "eps"]
    return [
        cell for _, group in rows.group_by(groups, maintain_order=True) for cell in composed(group)
    ]


def composed(group: pl.DataFrame) -> Iterator[Judged]:
    """The networks of one data set, architecture and radius."""
    core = group.filter(pl.col("loss") == CORE)
    others = group.filter(pl.col("loss") != CORE)
    for _, cell in others.group_by(list(CELL), maintain_order=True):
        if cell["sample_id"].to_list() == core["sample_id"].to_list():
            yield judged(cell, core)


def judged(cell: pl.DataFrame, core: pl.DataFrame) -> Judged:
    """A network's rates per image, alone and behind its indicator before the core."""
    accurate, robust, doubled = (mask(cell, k) for k in ("accurate", "robust", "doubled"))
    last = Core(mask(core, "accurate"), mask(core, "robust"))
    whole = sound_account([indicator_stage(accurate, robust, robust, doubled)], last)
    tags = cell.row(0, named=True)
    return Judged(
        tags["dataset"],
        tags["network"],
        tags["eps"],
        tags["seed"],
        tags["loss"].upper(),
        tags["inside_era"],
        tags["weights"],
        floats(
            {
                "natural": accurate,
                "robust": accurate & robust,
                "robust_inaccurate": ~accurate & robust,
                "composed_natural": whole.natural,
                "composed_robust": whole.robust,
            }
        ),
        floats({"composed_natural": last.accurate, "composed_robust": last.accurate & last.robust}),
    )


def mask(frame: pl.DataFrame, name: str) -> Mask:
    """A column of verdicts."""
    return frame[name].to_numpy().astype(bool)


def floats(masks: dict[str, Mask]) -> dict[str, Values]:
    """Masks as numbers."""
    return {name: np.asarray(found, dtype=np.float64) for name, found in masks.items()}
