"""A small record, written as an evaluation writes it."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl
import pytest

from recuse.records.answers import Answers
from recuse.records.schema import RecordMeta, make_record
from recuse.records.writing import Opened, writing

META = RecordMeta(
    "m",
    "d/test",
    "apgd",
    "linf",
    ("1/255", "2/255"),
    weights="a" * 64,
    settings={"attack": {"kind": "Apgd", "steps": 40}, "data": "abc"},
    tags={"beta": 0.3, "role": "robust"},
)
ANSWERS = {"m": Answers(((1.0, -2.0), (0.5, 0.25)), 0.0, 5e-3)}


def rows(first: int, last: int, **changes: object) -> pl.DataFrame:
    """The rows of samples ``first`` to ``last``; the same each time, but for the changes."""
    draws = [random.Random(i) for i in range(first, last)]
    near = [draw.random() < 0.7 for draw in draws]
    columns = {
        "sample_id": [f"p{i:03d}" for i in range(first, last)],
        "label": [i % 3 for i in range(first, last)],
        "prediction": [i % 2 for i in range(first, last)],
        "accurate": [i % 3 == i % 2 for i in range(first, last)],
        "confidence": [draw.random() for draw in draws],
        "forwards": [9] * (last - first),
        "robust@1/255": near,
        "robust@2/255": [a and draw.random() < 0.5 for a, draw in zip(near, draws, strict=True)],
    }
    return make_record(META, columns | changes).frame


def opened(
    records: Path,
    *,
    answers: dict[str, Answers] = ANSWERS,
    repair: bool = False,
    waiting: Callable[[str], None] = print,
) -> AbstractContextManager[Opened]:
    return writing(records, META, answers, repair=repair, waiting=waiting)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a record with three shards of eight samples."""
    with opened(tmp_path) as record:
        for first in (0, 8, 16):
            record.shards.append(rows(first, first + 8))
    return record.shards.folder
