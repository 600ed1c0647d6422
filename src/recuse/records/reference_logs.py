"""The paper's published logs, or any logs of the same layout, as records.

A folder may hold tidy parquet files, trees of the original CSV files (below ``raw/`` or at
its top), or both. Nothing here knows a data set, a model, a class count or a sample count.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recuse.errors import RecordError
from recuse.records.reference_columns import Imported
from recuse.records.reference_csv import read_csv
from recuse.records.reference_parquet import is_log_table, read_tidy


@dataclass(frozen=True)
class Logs:
    """Published logs, one entry a model, attack and file.

    Attributes:
        imports: In the order of their paths.
        compared: CSV files that repeat a log of a parquet.
        differing: Those among them whose verdicts differ from the parquet's.
    """

    imports: tuple[Imported, ...]
    compared: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()


def read_logs(folder: Path) -> Logs:
    """Read all logs below a folder.

    Raises:
        RecordError: No log below the folder, a damaged log, or models of one data set,
            norm and attack family that were not judged on the same samples.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder; give the folder that holds the logs")
    tidy: dict[str, Imported] = {}
    for path in sorted(folder.glob("*.parquet")):
        if is_log_table(path):
            tidy |= {str(item.record.meta.tags["log"]): item for item in read_tidy(path)}
    raw = {log: read_csv(path, log) for log, path in csv_logs(folder)}
    if not tidy and not raw:
        raise RecordError(f"{folder} holds no logs: no parquet with a column 'log', no *set_*.csv")
    both = sorted(set(tidy) & set(raw))
    differing = tuple(log for log in both if not _same(tidy[log], raw[log]))
    merged = raw | tidy
    imports = tuple(merged[log] for log in sorted(merged))
    check_same_samples(imports)
    return Logs(imports, tuple(both), differing)


def csv_logs(folder: Path) -> list[tuple[str, Path]]:
    """The original CSV files below ``folder/raw`` (or ``folder``): path as published, file."""
    root = folder / "raw" if (folder / "raw").is_dir() else folder
    files = sorted(root.rglob("*set_*.csv"))
    return [(path.relative_to(root).as_posix(), path) for path in files]


def check_same_samples(imports: Iterable[Imported]) -> None:
    """Refuse logs of one data set and attack family that cover different samples.

    Smoothing runs on a subset and is compared with smoothing only.

    Raises:
        RecordError: Names the file, the column and a sample that is missing.
    """
    first: dict[tuple[str, str, bool], Imported] = {}
    for item in imports:
        meta = item.record.meta
        key = (meta.dataset, meta.norm, meta.method == "smoothing")
        other = first.setdefault(key, item)
        mine, theirs = item.raw["sample_id"], other.raw["sample_id"]
        if not mine.equals(theirs):
            odd = sorted(set(mine) ^ set(theirs))[0]
            raise RecordError(
                f"{meta.tags['log']}: column 'sample_idx' differs from "
                f"{other.record.meta.tags['log']} (sample {odd} is in one of them only); "
                "models must be judged on the same samples"
            )


def _same(one: Imported, two: Imported) -> bool:
    shared = [c for c in one.raw.columns if c in two.raw.columns and c != "label"]
    return one.raw.select(shared).equals(two.raw.select(shared))
