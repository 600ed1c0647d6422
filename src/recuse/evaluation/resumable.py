"""The loop over what a record still lacks, which evaluating, certifying and attacking share."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from recuse.data.split import Split
from recuse.progress import Progress
from recuse.records.schema import Record, RecordMeta
from recuse.records.store import Shards


def judge_missing(
    wanted: Split,
    meta: RecordMeta,
    records: Path,
    judge: Callable[[Split], Record],
    *,
    task: str,
    size: int,
    progress: Progress,
) -> Record:
    """Judge what a record lacks, a batch at a time, and keep every batch at once.

    Args:
        wanted: The samples that the record is to hold.
        meta: What identifies the record.
        records: Folder that holds all records of a run.
        judge: The rows of a batch.
        task: What progress calls the work.
        size: Samples judged and written together: what a kill can cost.
        progress: Told after every batch.

    Returns:
        The record of the wanted samples alone; others that it holds stay on disk.

    Raises:
        RecordError: The folder cannot be written, or holds damaged shards.
    """
    shards = Shards.open(records, meta)
    finished = shards.finished_ids()
    missing = [row for row, i in enumerate(wanted.ids) if i not in finished]
    done = len(wanted) - len(missing)
    progress(task, done, len(wanted))
    for batch in wanted.take(missing).batches(size) if missing else ():
        shards.append(judge(batch).frame)
        done += len(batch)
        progress(task, done, len(wanted))
    frame = shards.record().frame
    return Record(meta, frame.filter(pl.col("sample_id").is_in(list(wanted.ids))))


__all__ = ["judge_missing"]
