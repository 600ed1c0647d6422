"""A report says what no search could judge, and which networks hide their gradient."""

from dataclasses import replace

import polars as pl
import pytest

from recuse.analysis.masking import masking_warning
from recuse.analysis.verdicts import verdicts
from recuse.records.schema import Recheck, Record, make_record
from recuse.report.page.blocks import Column, Text
from recuse.report.run.report import build_report


def changed(record: Record, **columns: object) -> Record:
    frame = record.frame.with_columns(**columns)
    return make_record(replace(record.meta), {c: frame[c] for c in frame.columns})


def models_of(page):
    return next(t for t in page.tables() if t.title == "Every model at every radius")


def names(shown):
    return [c.name if isinstance(c, Column) else c for c in shown.columns]


def test_a_report_says_what_was_not_judged_and_who_hides_a_gradient(
    write_run, known_records, demo_page
):
    core, era, trades = known_records
    first = pl.Series(range(era.frame.height)) < 7
    gaps = {c: pl.when(first).then(None).otherwise(c) for c in era.frame.columns if "@" in c}
    looked = pl.Series([None] * 198 + [Recheck.BLACK_BOX.value, Recheck.HELD.value])
    blind = changed(era, flat=first, recheck=looked, **gaps)
    page = build_report([write_run("gaps", [core, blind, trades])])
    shown = models_of(page)
    place = names(shown).index("not judged")
    assert {row[0]: row[place] for row in shown.rows} == {"core": 0, "era_1": 7, "trades": 0}
    blocks = [block for section in page.sections for block in section.blocks]
    told = [text for block in blocks if isinstance(block, Text) for text in block.paragraphs]
    assert sum(text.startswith("era_1: of 2 robust answers") for text in told) == 1
    assert "not judged" not in names(models_of(demo_page))


@pytest.mark.parametrize("sign", Recheck)
def test_each_sign_of_a_hidden_gradient_is_told(known_records, sign):
    era = known_records[1]
    looked = pl.Series([sign.value, Recheck.HELD.value, *[None] * (era.frame.height - 2)])
    warning = masking_warning(verdicts(changed(era, recheck=looked)))
    assert warning.startswith("era_1: of 2 robust answers") == (sign is not Recheck.HELD)
