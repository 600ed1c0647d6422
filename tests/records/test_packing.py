"""Packed records: nothing is lost or changed on the way in and out, whatever is cut short."""

import json
import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recuse.errors import RecordError
from recuse.records import packing
from recuse.records.duplicates import COSTS
from recuse.records.hashes import OUTPUTS, record_hash, records_hash
from recuse.records.layout import ANSWERS, LOCK, META, PACK
from recuse.records.lock import locked
from recuse.records.packed import Packed, pack_bytes, read_pack
from recuse.records.packing import folders_of_records, pack
from recuse.records.schema import COLUMNS, RADIUS_COLUMNS, Record, RecordMeta, make_record
from recuse.records.sealed import unsealed
from recuse.records.sources import load_records
from recuse.records.store import read_record, read_records, write_record

from .conftest import ANSWERS as NETWORKS
from .conftest import META as MEASURED
from .conftest import opened, rows

FLIPS = 400


class Cut(BaseException):
    """The power goes: no handler of the code under test may catch it."""


def other_records(folder: Path) -> None:
    """A record with other columns, one without rows, and one of before there were answers."""
    proof = RecordMeta("proof", "d/test", "ibp", "l2", ("0.25",), tags={"sigma": 0.25})
    columns = {"sample_id": ["a", "b"], "certified@0.25": [True, None], "radius": [0.3, None]}
    write_record(folder, make_record(proof, columns))
    none = {"sample_id": [], "accurate": [], "robust@1/255": []}
    write_record(folder, make_record(replace(MEASURED, model="none"), none))


@pytest.fixture
def records(folder: Path) -> Path:
    """A folder of three records, the first of them with answers and three shards."""
    other_records(folder.parent)
    return folder.parent


def found(records: Path) -> list[tuple[RecordMeta, pl.DataFrame]]:
    return [(record.meta, record.frame) for record in read_records(records)]


def assert_same(mine, theirs) -> None:
    assert [meta for meta, _ in mine] == [meta for meta, _ in theirs]
    for (_, one), (_, two) in zip(mine, theirs, strict=True):
        assert_frame_equal(one, two)


def test_a_pack_holds_what_the_folders_held_and_nothing_else_is_left(records: Path) -> None:
    before, seal = found(records), records_hash(read_records(records))
    assert len(pack(records, print)) == 3
    assert [path.name for path in records.iterdir()] == [PACK]
    assert_same(found(records), before)
    assert records_hash(load_records(records)) == seal
    once = (records / PACK).read_bytes()
    pack(records, print)
    assert (records / PACK).read_bytes() == once


def test_all_kinds_of_records_of_a_run_are_packed(tmp_path: Path) -> None:
    kinds = ["records", "compositions", "attacked"]
    for name in kinds:
        other_records(tmp_path / "run" / name)
    folders = folders_of_records(tmp_path / "run")
    assert [folder.name for folder in folders] == kinds
    for folder in folders:
        pack(folder, print)
        assert folders_of_records(folder) == [folder]
    assert len(list(read_records(tmp_path / "run"))) == 2
    with pytest.raises(RecordError, match=r"no records below .*; give a run folder"):
        folders_of_records(tmp_path)


def test_a_packed_record_goes_on_in_a_folder_and_is_packed_again(records: Path, folder) -> None:
    answers = unsealed(folder / ANSWERS)
    pack(records, print)
    with opened(records) as record:
        assert record.known
        assert record.notes == ()
        assert_frame_equal(record.frame, rows(0, 24))
        assert unsealed(folder / ANSWERS) == answers
        record.shards.append(rows(24, 30))
    assert sorted(path.name for path in records.iterdir()) == [folder.name, PACK]
    assert_frame_equal(read_record(folder).frame, rows(0, 30))
    assert {m.model: f.height for m, f in found(records)} == {"m": 30, "none": 0, "proof": 2}
    pack(records, print)
    assert [path.name for path in records.iterdir()] == [PACK]
    assert {m.model: f.height for m, f in found(records)} == {"m": 30, "none": 0, "proof": 2}
    (kept,) = NETWORKS.values()
    moved = {"m": replace(kept, outputs=((3.0, -2.0), (0.5, 0.25)))}
    with pytest.raises(RecordError, match="another function"), opened(records, answers=moved):
        pass


def test_a_record_without_answers_gets_none_from_a_pack(records: Path, folder: Path) -> None:
    (folder / ANSWERS).unlink()
    pack(records, print)
    with opened(records) as record:
        assert not record.known
        assert not (folder / ANSWERS).exists()


def test_every_flipped_bit_of_a_pack_is_named(records: Path) -> None:
    pack(records, print)
    path, draw = records / PACK, random.Random(2)
    whole = path.read_bytes()
    place = whole.rindex(b"recuse checksum ")
    near = range(place, place + 32)
    for at in (*near, *(draw.randrange(len(whole)) for _ in range(FLIPS))):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(RecordError, match=f"{PACK} is damaged .*; restore it, or delete it"):
            list(read_records(records))
    for damaged in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"x", whole * 2):
        path.write_bytes(damaged)
        with pytest.raises(RecordError, match=f"{PACK} is damaged"):
            list(read_records(records))
        for refused in (lambda: pack(records, print), lambda: opened(records).__enter__()):
            with pytest.raises(RecordError, match=f"{PACK} is damaged"):
                refused()
        assert path.read_bytes() == damaged


def test_a_pack_of_a_newer_version_is_called_newer(records: Path, monkeypatch) -> None:
    monkeypatch.setattr("recuse.records.sealed.FORMAT", 3)
    pack(records, print)
    monkeypatch.undo()
    with pytest.raises(RecordError, match=f"{PACK} was written by a newer version.*update recuse"):
        list(read_records(records))


def test_what_does_not_read_back_is_not_packed(records: Path, monkeypatch) -> None:
    before = found(records)

    def forgetful(entries: list[Packed]) -> bytes:
        some = entries[0].record
        return pack_bytes(
            [replace(entries[0], record=Record(some.meta, some.frame.head(3))), *entries[1:]]
        )

    monkeypatch.setattr(packing, "pack_bytes", forgetful)
    with pytest.raises(RecordError, match="does not read back as what was packed"):
        pack(records, print)
    assert len(list(records.iterdir())) == 3
    assert_same(found(records), before)


def test_a_damaged_record_is_not_packed_over(records: Path, folder: Path) -> None:
    shard = next(folder.glob("shard-*"))
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    with pytest.raises(RecordError, match=f"{shard.name} is damaged"):
        pack(records, print)
    assert not (records / PACK).exists()
    assert len(list(folder.glob("shard-*"))) == 3


def test_what_is_appended_while_it_is_packed_is_not_removed(records, folder, monkeypatch) -> None:
    real = packing._write_checked

    def meanwhile(path: Path, entries: list[Packed]) -> None:
        real(path, entries)
        with opened(records) as record:
            record.shards.append(rows(24, 30))

    monkeypatch.setattr(packing, "_write_checked", meanwhile)
    pack(records, print)
    assert [path.name for path in records.iterdir() if path.is_dir()] == [folder.name]
    assert found(records)[0][1].height == 30


def test_who_packs_waits_for_who_writes(records: Path, folder: Path) -> None:
    holder, told = locked(folder / LOCK, print), []
    holder.__enter__()

    def waiting(owner: str) -> None:
        told.append(owner)
        holder.__exit__(None, None, None)

    pack(records, waiting)
    assert len(told) == 1
    assert [path.name for path in records.iterdir()] == [PACK]


def test_what_others_put_beside_a_record_stays(records: Path, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    pack(records, print)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert len(found(records)) == 3


def cut_at(monkeypatch, count: int) -> None:
    """Cut the power at the n-th change of a file or folder."""
    left = [count]

    def counted(method):
        def change(self, *args, **kwargs):
            left[0] -= 1
            if not left[0]:
                raise Cut
            return method(self, *args, **kwargs)

        return change

    for name in ("replace", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))


@pytest.mark.parametrize("job", ["pack", "go on", "finish", "pack what went on"])
def test_power_cuts_lose_nothing(records: Path, monkeypatch, job: str) -> None:
    def go_on() -> None:
        with opened(records) as record:
            if record.frame.height == 24:
                record.shards.append(rows(24, 30))

    def finish() -> None:
        with opened(records) as record:
            record.finish()

    if job in ("go on", "pack what went on"):
        pack(records, print)
    if job == "pack what went on":
        go_on()
    work = {"go on": go_on, "finish": finish}.get(job, lambda: pack(records, print))
    before = found(records)
    for count in range(1, 200):
        with monkeypatch.context() as patch:
            cut_at(patch, count)
            with suppress(Cut):
                work()
                break
        now = found(records)
        assert now[0][1].height in (24, 30)
        assert_same(now[1:], before[1:])
        assert_frame_equal(now[0][1], rows(0, now[0][1].height))
    assert 5 < count < 199
    assert_frame_equal(found(records)[0][1], rows(0, 24 if job in ("pack", "finish") else 30))
    if job.startswith("pack"):
        assert [path.name for path in records.iterdir()] == [PACK]


def test_hash_depends_on_findings_alone(folder: Path, tmp_path: Path) -> None:
    whole = read_record(folder)
    seal = record_hash(whole)
    shuffled = whole.frame.sample(fraction=1.0, shuffle=True, seed=1)
    nothing = shuffled.with_columns(pl.lit(None, pl.Boolean).alias("flat"))
    costs = {"forwards": pl.lit(1, pl.Int32), "confidence": pl.col("confidence") + 1e-7}
    for frame in (shuffled, nothing, shuffled.with_columns(**costs)):
        assert record_hash(Record(whole.meta, frame)) == seal
    renamed = replace(MEASURED, tags={"role": "other"})
    assert record_hash(Record(renamed, whole.frame)) == seal
    for change in (
        {"accurate": ~pl.col("accurate")},
        {"label": pl.col("label") + 1},
        {"robust@1/255": pl.lit(None, pl.Boolean)},
        {"radius": pl.lit(0.1)},
    ):
        assert record_hash(Record(whole.meta, whole.frame.with_columns(**change))) != seal
    assert record_hash(Record(whole.meta, whole.frame.head(23))) != seal
    assert record_hash(Record(replace(MEASURED, seed=1), whole.frame)) != seal
    one = write_record(tmp_path / "one", whole)
    assert record_hash(read_record(one)) == seal


def test_every_column_is_hashed_or_named_as_left_out() -> None:
    # Of the numbers that are no whole ones only radii are exact: they come from counted votes.
    floats = {name for name, kind in (COLUMNS | RADIUS_COLUMNS).items() if kind.is_float()}
    assert floats - set(OUTPUTS) == {"radius", "score"}
    assert {name for name in COLUMNS if name.endswith("passes")} <= set(COSTS)


def test_certified_radii_count_to_the_last_bit() -> None:
    meta = RecordMeta("proof", "d/test", "smoothing", "l2", ())
    made = [
        make_record(meta, {"sample_id": ["a"], "radius": [radius]}) for radius in (0.1, 0.1 + 1e-16)
    ]
    assert len({record_hash(record) for record in made}) == 2


def test_a_pack_says_in_plain_words_what_is_in_it(records: Path) -> None:
    pack(records, print)
    frame = pl.read_parquet(records / PACK)
    assert set(frame["record"]) == {
        name for name in read_pack(records / PACK) if "none" not in name
    }
    notes = json.loads(pl.read_parquet_metadata(records / PACK)["recuse"])
    assert [entry["meta"]["model"] for entry in notes["records"]] == ["m", "none", "proof"]
    assert META not in {path.name for path in records.iterdir()}
