"""A certified radius is never larger on disk than it was proven."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recuse.analysis.verdicts import verdicts
from recuse.radius import parse_radius
from recuse.records.schema import Record, RecordMeta, make_record
from recuse.records.store import read_record, write_record
from recuse.records.typed import typed

META = RecordMeta("m", "d", "smoothing", "l2")


def log(*radii: float) -> Record:
    return make_record(
        META,
        {
            "sample_id": [f"s{i}" for i in range(len(radii))],
            "prediction": [0] * len(radii),
            "accurate": [True] * len(radii),
            "radius": list(radii),
        },
    )


@pytest.mark.parametrize("asked", ["0.1", "0.12", "0.3", "2/255", "0.7"])
def test_what_is_proven_a_hair_below_a_radius_does_not_reach_it(asked: str, tmp_path: Path) -> None:
    """In single precision 0.1 is more than 0.1, and so is everything within 3e-9 below it."""
    radius = parse_radius(asked)
    written = log(radius, float(np.nextafter(radius, 0)), radius - 1e-9, radius + 1e-9)
    for record in (written, read_record(write_record(tmp_path, written))):
        assert verdicts(record).certified(asked).tolist() == [True, False, False, True]


@given(st.floats(min_value=1e-6, max_value=10.0))
def test_radii_of_older_records_are_read_as_no_more_than_they_were(radius: float) -> None:
    frame = pl.DataFrame({"sample_id": ["a", "b"], "radius": [radius, None]})
    old = frame.with_columns(pl.col("radius").cast(pl.Float32))
    read = typed(old)["radius"]
    assert read.dtype == pl.Float64
    assert read.null_count() == 1
    assert radius * (1 - 2e-7) < read[0] <= radius
