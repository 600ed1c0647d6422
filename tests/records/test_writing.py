"""Records opened for writing: one writer at a time, samples judged twice, damage, identity."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from recuse.errors import RecordError
from recuse.records import lock
from recuse.records.answers import Answers
from recuse.records.layout import LOCK, PACK
from recuse.records.packing import pack
from recuse.records.store import Shards, read_record
from recuse.records.writing import writing

from .conftest import ANSWERS, META, opened, rows

# Writes the first half of a record, and the rest when it is told to.
WRITER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from conftest import opened, rows
with opened(Path({records!r}), waiting=lambda who: print("waits for", who, flush=True)) as record:
    finished = set(record.frame["sample_id"])
    for i in range(12):
        if i == 6:
            print("writes", flush=True)
            sys.stdin.readline()
        if f"p{{i:03d}}" not in finished:
            record.shards.append(rows(i, i + 1))
"""


# Merges a record, and is killed at the n-th change of a file: no handler runs.
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from conftest import opened, rows
left = int({count})
def counted(method):
    def change(self, *args, **kwargs):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *args, **kwargs)
    return change
with opened(Path({records!r})) as record:
    for name in ("replace", "unlink"):
        setattr(Path, name, counted(getattr(Path, name)))
    record.finish()
"""


def shards_and_meta(folder: Path) -> dict[str, bytes]:
    """What lies in a record; the lock file says who held it last, and when."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


def writer(records: Path) -> subprocess.Popen:
    code = WRITER.format(tests=str(Path(__file__).parent), records=str(records))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes)


def first_line(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_waits_and_judges_nothing_twice(tmp_path: Path) -> None:
    with writer(tmp_path) as first:
        assert first_line(first) == "writes"
        with writer(tmp_path) as second:
            seen = re.fullmatch(r"waits for process (\d+) on \S+ since \S+", first_line(second))
            assert seen
            assert int(seen[1]) == first.pid
            first.communicate("go on\n", timeout=60)
            second.communicate("go on\n", timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    folder = next(tmp_path.iterdir())
    assert len(list(folder.glob("shard-*"))) == 12
    assert not list(folder.glob("*.lock"))
    assert_frame_equal(read_record(folder).frame, rows(0, 12))


def test_who_is_killed_lets_go_and_another_goes_on(tmp_path: Path) -> None:
    with writer(tmp_path) as first:
        assert first_line(first) == "writes"
        first.kill()
    folder = next(tmp_path.iterdir())
    assert (folder / "writer.lock").is_file()
    assert len(list(folder.glob("shard-*"))) == 6
    with writer(tmp_path) as second:
        assert first_line(second) == "writes"
        second.communicate("go on\n", timeout=60)
    assert second.returncode == 0
    assert len(list(folder.glob("shard-*"))) == 12
    assert_frame_equal(read_record(folder).frame, rows(0, 12))


@pytest.mark.parametrize(("count", "left"), [(1, 3), (2, 4), (3, 3), (4, 2), (5, 1)])
def test_who_is_killed_while_merging_loses_no_row(folder: Path, count: int, left: int) -> None:
    names = {"tests": str(Path(__file__).parent), "records": str(folder.parent), "count": count}
    done = subprocess.run([sys.executable, "-c", KILLED.format(**names)], check=False)
    assert done.returncode == -9
    assert len(list(folder.glob("shard-*"))) == left
    assert_frame_equal(read_record(folder).frame, rows(0, 24))
    with opened(folder.parent) as record:
        assert record.known
        assert_frame_equal(record.finish().frame, rows(0, 24))
    assert len(list(folder.glob("shard-*"))) == 1
    pack(folder.parent, print)
    assert [path.name for path in folder.parent.iterdir()] == [PACK]


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch) -> None:
    import fcntl

    def unknown(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with opened(tmp_path) as one, opened(tmp_path) as two:
        one.shards.append(rows(0, 8))
        two.shards.append(rows(0, 8))
        two.shards.append(rows(0, 12))
    assert_frame_equal(read_record(one.shards.folder).frame, rows(0, 12))


def test_two_shards_begun_at_once_do_not_overwrite_each_other(tmp_path: Path, monkeypatch) -> None:
    with opened(tmp_path) as record:
        monkeypatch.setattr(Shards, "paths", property(lambda _: []))
        record.shards.append(rows(0, 8))
        record.shards.append(rows(8, 12))
        monkeypatch.undo()
    assert_frame_equal(read_record(record.shards.folder).frame, rows(0, 12))


def test_a_lock_on_a_file_that_is_gone_keeps_nobody_out_and_is_taken_anew(
    tmp_path: Path, monkeypatch
) -> None:
    import fcntl

    path, real = tmp_path / "lock", fcntl.flock
    first = lock.locked(path, print)
    first.__enter__()

    def late(file: object, how: int) -> None:
        # Let go, and the file is gone, between the second's opening it and locking it.
        monkeypatch.setattr(fcntl, "flock", real)
        first.__exit__(None, None, None)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock.locked(path, print):
        assert path.is_file()
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("a file")
    with pytest.raises(RecordError, match="cannot write"), opened(tmp_path / "records"):
        pass


def test_equal_rows_are_dropped_and_unequal_ones_are_missing_again(folder: Path) -> None:
    with opened(folder.parent) as record:
        record.shards.append(rows(0, 8, forwards=[11] * 8))  # the same verdicts at another cost
        record.shards.append(rows(8, 12, label=[7] * 4))
    with pytest.raises(RecordError, match=r"4 samples judged twice .*'p008'; run the command"):
        read_record(folder)
    with opened(folder.parent) as record:
        assert set(rows(0, 24)["sample_id"]) - set(record.frame["sample_id"]) == {
            f"p{i:03d}" for i in range(8, 12)
        }
        assert "16 rows of samples" in record.notes[0]
        assert "4 samples whose rows differed are judged again" in record.notes[0]
        record.shards.append(rows(8, 12))
    assert_frame_equal(read_record(folder).frame, rows(0, 24))
    with opened(folder.parent) as record:
        assert record.notes == ()


def test_equal_rows_are_read_once_without_being_opened(folder: Path) -> None:
    with opened(folder.parent) as record:
        record.shards.append(rows(4, 30))
    assert_frame_equal(read_record(folder).frame, rows(0, 30))


def test_a_repair_cut_short_leaves_the_rows(folder: Path, monkeypatch) -> None:
    with opened(folder.parent) as record:
        record.shards.append(rows(4, 30))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError), opened(folder.parent):
        pass
    monkeypatch.undo()
    assert_frame_equal(read_record(folder).frame, rows(0, 30))
    with opened(folder.parent) as record:
        assert len(record.shards.paths) == 1
    assert_frame_equal(read_record(folder).frame, rows(0, 30))


def test_damage_is_refused_and_repaired_where_it_is_asked_for(folder: Path) -> None:
    for name in ("shard-00001", "meta", "answers"):
        path = next(folder.glob(f"{name}*"))
        path.write_bytes(b"x" + path.read_bytes()[1:])
    for _ in range(2):
        with pytest.raises(RecordError, match="--repair"), opened(folder.parent):
            pass
    with opened(folder.parent, repair=True) as record:
        assert sorted(record.frame["sample_id"]) == sorted({*rows(0, 24)["sample_id"]} - lost())
        assert [note.split()[0].split("-")[0] for note in record.notes] == [
            "meta.json",
            "shard",
            "answers.json",
        ]
        assert not record.known  # its rows must come out again
        record.shards.append(rows(8, 16))
        record.adopt(ANSWERS)
    with opened(folder.parent) as record:
        assert record.known
        assert record.notes == ()
    assert read_record(folder).meta == META
    assert_frame_equal(read_record(folder).frame, rows(0, 24))


def lost() -> set[str]:
    return set(rows(8, 16)["sample_id"])


def test_rows_of_a_network_that_answers_otherwise_are_not_gone_on_with(folder: Path) -> None:
    (kept,) = ANSWERS.values()
    others = {
        "moved": replace(kept, outputs=((1.0, -2.0), (0.5, 0.27))),
        "one image more": replace(kept, outputs=(*kept.outputs, (0.0, 0.0))),
        "not finite": replace(kept, outputs=((1.0, None), (0.5, 0.25))),
        "draws noise": replace(kept, spread=0.3),
        "no gradient": replace(kept, differentiable=False),
    }
    for other in others.values():
        with pytest.raises(RecordError, match=r"another function .*m answers otherwise"):
            opened(folder.parent, answers={"m": other}).__enter__()
    with pytest.raises(RecordError, match="another function"):
        opened(folder.parent, answers={**ANSWERS, "n": kept}).__enter__()
    left = shards_and_meta(folder)
    other = replace(META, tags={"role": "core"})
    with pytest.raises(RecordError, match="another function"):
        writing(
            folder.parent, other, {"m": others["moved"]}, repair=True, waiting=print
        ).__enter__()
    assert shards_and_meta(folder) == left
    near = {"m": replace(kept, outputs=((1.004, -2.0), (0.5, 0.25)))}
    with opened(folder.parent, answers=near) as record:
        assert record.known


def test_networks_that_draw_noise_are_compared_within_it() -> None:
    one = Answers(((1.0, -1.0),), 0.1, 5e-3)
    assert one.same_function(Answers(((1.2, -1.1),), 0.15, 5e-3))
    assert not one.same_function(Answers(((-1.0, 1.0),), 0.15, 5e-3))
    assert not one.same_function(Answers(((1.0, -1.0),), 0.0, 5e-3))
    assert not one.same_function(Answers(((1.0, -1.0),), 0.9, 5e-3))
    zero = Answers(((0.0, 0.0),), 0.0, 5e-3)
    assert zero.same_function(zero)
    assert not zero.same_function(Answers(((0.0, 1e-9),), 0.0, 5e-3))


def test_a_record_begun_without_rows_takes_the_answers_of_who_goes_on(tmp_path: Path) -> None:
    other = {"m": Answers(((3.0,),), 0.0, 5e-3)}
    for answers in (ANSWERS, other, other):
        with opened(tmp_path, answers=answers) as record:
            assert record.known
    record.shards.append(rows(0, 4))
    with pytest.raises(RecordError, match="another function"):
        opened(tmp_path).__enter__()


def test_a_record_that_says_no_weights_is_named(tmp_path: Path) -> None:
    for weights, count in (("", 0), ("b" * 64, 1), ("b" * 64, 0)):
        meta = replace(META, weights=weights)
        with writing(tmp_path, meta, ANSWERS, repair=False, waiting=print) as record:
            assert len(record.notes) == count
            record.shards.append(rows(0, 2))
    assert len(list(tmp_path.iterdir())) == 2
