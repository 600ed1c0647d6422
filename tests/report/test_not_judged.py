"""A report says what no search could judge, and which networks hide their gradient."""

from dataclasses import replace

import polars as pl
import pytest

from recuse.records.schema import Recheck, Record, make_record
from recuse.report.page.blocks import Column, Text
from recuse.report.run.report import build_report


def changed(record: Record, **columns: object) -> Record:
    frame = record.frame.with_columns(**columns)
    return make_record(replace(record.meta), {c: frame[c] for c in frame.columns})


def test_what_was_not_judged_has_a_column(write_run, known_records):
    core, era, trades = known_records
    first = pl.Series(range(era.frame.height)) < 7
    verdicts = {c: pl.when(first).then(None).otherwise(c) for c in era.frame.columns if "@" in c}
    blind = changed(era, flat=first, **verdicts)
    page = build_report([write_run("gaps", [core, blind, trades])])
    shown = next(t for t in page.tables() if t.title == "Every model at every radius")
    names = [c.name if isinstance(c, Column) else c for c in shown.columns]
    place = names.index("not judged")
    assert {row[0]: row[place] for row in shown.rows} == {"core": 0, "era_1": 7, "trades": 0}
    whole = build_report([write_run("whole", known_records)])
    shown = next(t for t in whole.tables() if t.title == "Every model at every radius")
    assert "not judged" not in [c.name if isinstance(c, Column) else c for c in shown.columns]


@pytest.mark.parametrize("sign", Recheck)
def test_a_network_that_hides_its_gradient_is_named(write_run, known_records, sign):
    core, era, trades = known_records
    looked = pl.Series([sign.value, Recheck.HELD.value, *[None] * (era.frame.height - 2)])
    page = build_report([write_run("masked", [core, changed(era, recheck=looked), trades])])
    blocks = [block for section in page.sections for block in section.blocks]
    told = [text for block in blocks if isinstance(block, Text) for text in block.paragraphs]
    warned = [text for text in told if text.startswith("era_1: of 2 robust answers")]
    assert len(warned) == (sign is not Recheck.HELD)
