"""Records on disk: every flipped bit is named, and what came before checksums is still read."""

import json
import random
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recuse.errors import RecordError
from recuse.records.layout import ANSWERS, META
from recuse.records.schema import Record
from recuse.records.store import (
    Shards,
    read_meta,
    read_parquet,
    read_record,
    write_atomically,
    write_record,
)

from .conftest import META as MEASURED
from .conftest import opened, rows

FLIPS = 250


def as_before_checksums(folder: Path) -> None:
    """Turn a record into what earlier versions wrote."""
    fields = json.loads((folder / META).read_text())
    del fields["format"], fields["checksum"]
    (folder / META).write_text(json.dumps(fields, sort_keys=True, indent=1))
    (folder / "answers.json").unlink()
    for path in folder.glob("shard-*"):
        path.rename(folder / (path.name[: len("shard-00000")] + ".parquet"))


def change(path: Path, **changes: object) -> None:
    """Edit a meta by hand, and leave no seal that would tell."""
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in fields.items() if k != "checksum"}))


def test_a_record_comes_back_as_it_was_written(folder: Path) -> None:
    record = read_record(folder)
    assert record.meta == MEASURED
    assert_frame_equal(record.frame, rows(0, 24))
    assert len(list(folder.glob("shard-*"))) == 3


def test_every_flipped_bit_is_named(folder: Path) -> None:
    draw, good, answers = random.Random(1), read_record(folder), 0
    files = sorted(path for path in folder.iterdir())
    for _ in range(FLIPS):
        path = draw.choice(files)
        whole = path.read_bytes()
        place = draw.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        if path.name == "answers.json":  # is read by who goes on with the record
            answers += 1
            with pytest.raises(RecordError, match=f"{path.name}.*--repair"), opened(folder.parent):
                pass
            assert_frame_equal(read_record(folder).frame, good.frame)
        else:
            with pytest.raises(RecordError, match=re.escape(path.name)):
                read_record(folder)
        path.write_bytes(whole)
    assert 20 < answers < FLIPS - 20


def test_a_shard_cut_short_or_exchanged_is_named(folder: Path) -> None:
    one, two, _ = sorted(folder.glob("shard-*"))
    whole = one.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], two.read_bytes()):
        one.write_bytes(damaged)
        with pytest.raises(RecordError, match=f"{one.name} is damaged .*checksum"):
            read_record(folder)


def test_a_panic_of_the_parquet_reader_is_a_sentence(tmp_path: Path, monkeypatch) -> None:
    # No Exception: it passes "except Exception", and ends in a traceback of Rust.
    def panic(_: object) -> pl.DataFrame:
        raise pl.exceptions.PanicException("index out of bounds\nstack")

    path = tmp_path / "x.parquet"
    rows(0, 2).write_parquet(path)
    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(RecordError, match=r"x.parquet cannot be read .*index out of bounds"):
        read_parquet(path)


def test_a_record_of_before_checksums_is_read_and_sealed_when_it_goes_on(folder: Path) -> None:
    as_before_checksums(folder)
    assert_frame_equal(read_record(folder).frame, rows(0, 24))
    with opened(folder.parent) as record:
        assert not record.known
    assert all(
        re.fullmatch(r"shard-\d{5}-[0-9a-f]{16}.parquet", p.name) for p in record.shards.paths
    )
    assert json.loads((folder / META).read_text())["format"] == 2
    assert_frame_equal(read_record(folder).frame, rows(0, 24))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"accurate": ["yes"] * 8}, "'accurate' holds String, not Boolean"),
        ({"robusk@1/255": [True] * 8}, "'robusk@1/255' is unknown"),
        ({"sample_id": [None, *"abcdefg"]}, "sample ids are missing"),
        ({"robust@1/255": [False] * 8, "robust@2/255": [True] * 8}, "beyond a broken radius"),
        ({"label": [1 << 40] * 8}, "conversion from `i64` to `i32` failed"),
    ],
)
def test_shards_without_checksum_must_make_sense(folder, columns, message) -> None:
    as_before_checksums(folder)
    path = folder / "shard-00001.parquet"
    frame = rows(8, 16).with_columns(pl.Series(k, v) for k, v in columns.items())
    frame.write_parquet(path)
    with pytest.raises(RecordError, match=f"{path.name} is damaged .*{re.escape(message)}"):
        read_record(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": 3}, "norm must be a str, got 3"),
        ({"norm": "l7"}, "norm 'l7' of 'm' is unknown"),
        ({"tags": []}, r"tags must be a dict, got \[\]"),
        ({"settings": None}, "settings must be a dict, got None"),
        ({"seed": True}, "seed must be a int, got True"),
        ({"seed": "0"}, "seed must be a int, got '0'"),
        ({"model": ""}, "must not be empty"),
        ({"weights": 7}, "weights must be a str"),
        ({"radii": "1/255"}, "radii must be a list"),
        ({"radii": [0.1]}, "radii must be text"),
        ({"radii": ["2/255", "1/255"]}, "must ascend"),
        ({"radii": ["nan"]}, "radius 'nan'"),
        ({"speed": 1}, "field 'speed' is unknown"),
        ({"model": "other"}, "belongs in the folder of another key"),
        ({"seed": 1}, "belongs in the folder of another key"),
        ({"format": "two"}, "format 'two' is not a number"),
        ({"format": True}, "format True is not a number"),
        ({"format": 2}, "does not match its checksum"),
    ],
)
def test_a_meta_is_checked_field_by_field(folder: Path, changes, message) -> None:
    change(folder / META, **({"format": 1} | changes))
    with pytest.raises(RecordError, match=f"{META} .*{message}"):
        read_record(folder)


def test_a_meta_that_lacks_a_field_or_is_none_is_refused(folder: Path) -> None:
    whole = json.loads((folder / META).read_text())
    for field in ("model", "radii"):
        less = {k: v for k, v in whole.items() if k not in (field, "format", "checksum")}
        (folder / META).write_text(json.dumps(less))
        with pytest.raises(RecordError, match=f"{META} is damaged .*{field!r} is missing"):
            read_record(folder)
    for text in ("[]", "3", "null", "", "{", '"x"', "\ud800".encode("utf-8", "surrogatepass")):
        (folder / META).write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(RecordError, match=f"{META} is damaged"):
            read_record(folder)


@pytest.mark.parametrize("depth", [65, 500, 200_000])
def test_a_meta_nested_without_end_is_a_sentence(folder: Path, depth: int) -> None:
    fields = json.loads((folder / META).read_text())
    text = json.dumps(fields).replace('"abc"', "[" * depth + "]" * depth)
    (folder / META).write_text(text)
    with pytest.raises(RecordError, match=f"{META} is damaged .*nested deeper"):
        read_record(folder)


def test_a_meta_too_large_to_be_one_is_not_read(folder: Path) -> None:
    with (folder / META).open("ab") as file:
        file.truncate(1 << 33)  # sparse: takes no disk
    with pytest.raises(RecordError, match=f"{META} is damaged .larger than 16 MiB"):
        read_record(folder)


@pytest.mark.parametrize("name", [META, "answers.json"])
def test_a_newer_format_is_called_newer_and_is_never_repaired(folder: Path, name: str) -> None:
    fields = json.loads((folder / name).read_text()) | {"format": 3}
    (folder / name).write_text(json.dumps(fields))
    before = (folder / name).read_bytes()
    message = f"{name} was written by a newer version of recuse .format 3, .*up to 2.; update"
    for repair in (False, True):
        with pytest.raises(RecordError, match=message), opened(folder.parent, repair=repair):
            pass
    assert (folder / name).read_bytes() == before


def test_a_meta_edited_by_hand_says_how_to_accept_it(folder: Path) -> None:
    path = folder / META
    fields = json.loads(path.read_text())
    fields["tags"]["beta"] = 0.5
    path.write_text(json.dumps(fields))
    with pytest.raises(RecordError, match='delete its entries "checksum" and "format"'):
        read_meta(path)
    del fields["checksum"], fields["format"]
    path.write_text(json.dumps(fields))
    assert read_meta(path).tags["beta"] == 0.5


def test_what_cannot_be_read_is_not_taken_for_damage(folder: Path) -> None:
    # A shard that another user wrote, or on a disk that fails for a moment, is not dropped.
    shard = sorted(folder.glob("shard-*"))[1]
    hidden = shard.rename(folder / "hidden")
    shard.mkdir()
    for repair in (False, True):
        with pytest.raises(RecordError, match=f"cannot read .*{shard.name}: Is a directory"):
            opened(folder.parent, repair=repair).__enter__()
    shard.rmdir()
    hidden.rename(shard)
    assert_frame_equal(read_record(folder).frame, rows(0, 24))


def test_a_folder_may_be_copied_under_a_name_of_its_own(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "kept")
    assert_frame_equal(read_record(tmp_path / "elsewhere" / "kept").frame, rows(0, 24))


def test_writing_a_record_again_replaces_it(tmp_path: Path) -> None:
    for last in (8, 5):
        folder = write_record(tmp_path, Record(MEASURED, rows(0, last)))
    assert_frame_equal(read_record(folder).frame, rows(0, 5))
    assert Shards.of(tmp_path, MEASURED).paths == list(folder.glob("shard-*"))


@pytest.mark.parametrize(("name", "lost"), [(META, 0), (ANSWERS, 0), ("shard-00001*", 8)])
def test_a_damaged_file_may_be_deleted(folder: Path, name: str, lost: int) -> None:
    (path,) = folder.glob(name)
    path.write_bytes(b"x")
    with pytest.raises(RecordError, match="or after deleting the file"), opened(folder.parent):
        pass
    path.unlink()
    with opened(folder.parent) as record:
        assert record.frame.height == 24 - lost


def test_a_write_that_is_stopped_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", b"x")
    assert not list(tmp_path.iterdir())
