"""What a record found, as one number: equal for equal findings, however they came to lie there."""

import hashlib
import json
from collections.abc import Iterable

import polars as pl

from recuse.records.duplicates import COSTS
from recuse.records.schema import Record

# Softmax outputs: their last bits depend on the samples that were judged together.
OUTPUTS = (
    "confidence",
    "adv_confidence",
    "entropy",
    "largest_entropy",
    "margin",
    "worst_margin",
    "worst_confidence",
    "least_confidence",
    "stable_margin",
    "stable_confidence",
    "least_score",
    "largest_score",
)


def record_hash(record: Record) -> str:
    """SHA-256 of what was measured and of the verdict on every sample.

    It does not depend on the order of rows or columns, on shards, packing, batches or columns
    without a value. What judging cost and softmax outputs, whose last bits depend on the batch,
    are left out; predictions, verdicts and certified radii are not.
    """
    frame = record.frame.sort("sample_id")
    digest = hashlib.sha256(record.meta.key.encode())
    for name in sorted(frame.columns):
        left_out = name.partition("@")[0] in (*COSTS, *OUTPUTS)
        if not left_out and frame[name].null_count() < frame.height:
            digest.update(json.dumps([name, _exact(frame[name])]).encode())
    return digest.hexdigest()


def records_hash(records: Iterable[Record]) -> str:
    """SHA-256 of several records, independent of their order."""
    each = sorted(record_hash(record) for record in records)
    return hashlib.sha256(" ".join(each).encode()).hexdigest()


def _exact(values: pl.Series) -> list[object]:
    found = values.to_list()
    return [v.hex() if isinstance(v, float) else v for v in found]


__all__ = ["record_hash", "records_hash"]
