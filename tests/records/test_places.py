"""Run folders behind a URL: the same records as on a disk, through failures, by two writers."""

import itertools
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec.registry  # noqa: F401
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recuse.cli.main import main
from recuse.errors import ConfigError, OutageError, RecordError
from recuse.records import packing, places, writing
from recuse.records.hashes import records_hash
from recuse.records.layout import PACK
from recuse.records.packing import pack
from recuse.records.places import RemotePath, local_copy, place
from recuse.records.store import Shards, read_record, read_records, write_atomically
from recuse.records.upgrade import upgrade

from .conftest import META, opened, rows

NAMES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """An S3 server of this process, whose buckets outlive its being stopped."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    found = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    found._port = found.get_host_and_port()[1]  # where it starts again
    yield found
    found.stop()


@pytest.fixture
def bucket(server: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bucket of that server."""
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server._port}",
    }.items():
        monkeypatch.setenv(name, value)
    places._system.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket{next(NAMES)}"
    s3fs.S3FileSystem().mkdir(name)
    return place(f"s3://{name}/run")


@pytest.fixture(params=["memory", "local", "s3"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty run folder behind a URL."""
    monkeypatch.setattr(places, "FIRST_PAUSE_S", 1e-3)
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    monkeypatch.chdir(tmp_path)  # what fsspec's own local files begin at
    return place(f"{request.param}://run{next(NAMES)}/here")


class Faulty:
    """A file system that fails at chosen requests."""

    def __init__(self, system: Any, fails: Any) -> None:
        self.system, self.fails = system, fails

    def __getattr__(self, name: str) -> Any:
        if self.fails():
            raise OSError(5, "We encountered an internal error. Please try again.")
        return getattr(self.system, name)


def failing(monkeypatch: pytest.MonkeyPatch, fails: Any) -> None:
    real = places._system
    monkeypatch.setattr(
        places, "_system", lambda url: (lambda s, p: (Faulty(s, fails), p))(*real(url))
    )


def test_a_place_is_a_path_and_says_its_url(run: Path) -> None:
    url = str(run)
    assert isinstance(run, RemotePath)
    assert str(run / "a" / "b") == f"{url}/a/b"
    assert (run / "a" / "b").parent.parent == run == place(f"{url}/")
    assert pickle.loads(pickle.dumps(run)) == run
    assert str(run.resolve()) == str(run.absolute()) == url
    with pytest.raises(ConfigError, match="URL where a local file is needed"):
        open(run / "x", "w")  # noqa: PTH123, SIM115
    assert list(Path().glob("*:*")) == []


def test_what_is_written_is_found_again(run: Path) -> None:
    assert not run.exists()
    assert list(run.glob("*")) == []
    for name in ("b.txt", "a/one.json", "a/two.json", "a/deep/three.json"):
        write_atomically(run / name, name.encode())
    write_atomically(run / "b.txt", b"again")
    assert (run.is_dir(), (run / "b.txt").is_file(), (run / "a").is_file()) == (True, True, False)
    assert list(run.iterdir()) == [run / "a", run / "b.txt"]
    assert list(run.glob("*/t*.json")) == [run / "a/two.json"]
    assert {p.name for p in run.rglob("*.json")} == {"one.json", "two.json", "three.json"}
    assert (run / "b.txt").read_text() == "again"
    assert (run / "b.txt").stat().st_size == 5
    with (run / "b.txt").open("rb") as file, (run / "b.txt").open(encoding="utf-8") as text:
        assert (file.read(2), text.read()) == (b"ag", "again")
    with local_copy(run / "b.txt") as copy:
        assert copy.read_text() == "again"
    assert (run / "b.txt").rename(run / "c.txt").read_bytes() == b"again"
    (run / "c.txt").unlink()
    (run / "c.txt").unlink(missing_ok=True)
    assert list(run.iterdir()) == [run / "a"]
    with pytest.raises(FileNotFoundError):
        (run / "c.txt").read_bytes()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nowhere://bucket/run", "Protocol not known"),
        ("s3://bucket/run", r"pip install 'recuse\[s3\]'"),
        ("gs://bucket/run", "install gcsfs"),
        ("hdfs:///run", "name its host"),
    ],
)
def test_what_cannot_be_read_or_written_is_refused_before_any_work(
    url: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places._system.cache_clear()
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=sentence):
        place(url)
    for words in (["evaluate", "m", "--data", "digits", "--out", url], ["report", url]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        told = capsys.readouterr().err
        assert stop.value.code == 2
        assert told.count("\n") == 1
        assert url in told


def test_a_path_of_this_machine_stays_one_and_imports_nothing() -> None:
    assert type(place("runs/s3")) is type(place("file:///runs")) is type(Path())
    code = "import sys, recuse.cli.main; print('fsspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


def test_a_record_behind_a_url_is_the_one_on_a_disk(run: Path, tmp_path: Path) -> None:
    for folder in (run, tmp_path / "local"):
        for first in (0, 8):  # stopped once, and gone on with
            with opened(folder / "records") as record:
                record.shards.append(rows(first, first + 8))
        with opened(folder / "records") as record:
            assert_frame_equal(record.finish().frame, rows(0, 16))
    here, there = (sorted((f / "records").rglob("*")) for f in (tmp_path / "local", run))
    files = [{p.name: p.read_bytes() for p in found if p.is_file()} for found in (here, there)]
    assert files[0] == files[1]
    found = records_hash(read_records(run))
    assert upgrade(run, print) == []
    assert pack(run / "records", print)
    assert [path.name for path in (run / "records").rglob("*.*")] == [PACK]
    assert records_hash(read_records(run)) == found
    with opened(run / "records") as record:
        record.shards.append(rows(16, 20))
    assert_frame_equal(read_record(record.shards.folder).frame, rows(0, 20))


def test_failures_that_pass_change_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    failing(monkeypatch, lambda: draw.random() < 0.3)
    for first in (0, 8, 16):
        with opened(run) as record:
            record.shards.append(rows(first, first + 8))
    with opened(run) as record:
        assert len(record.finish().frame) == 24
    monkeypatch.undo()
    (shard,) = record.shards.paths
    assert_frame_equal(read_record(record.shards.folder).frame, rows(0, 24))
    assert len(list(run.rglob("*.*"))) == 3, shard


def test_a_store_that_is_waited_for_is_said_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for failures in (1, 2, 20):
        left = [failures]

        def fails(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] >= 0

        with monkeypatch.context() as away:
            failing(away, fails)
            (run / "x").write_bytes(b"x")
    (line,) = [said.getMessage() for said in caplog.records if said.name == places.__name__]
    assert f"{run}/x does not answer (" in line
    assert "internal error" in line
    assert line.endswith("asked again for 60 s")


def test_a_store_that_stays_away_is_told_once_and_the_rows_stay(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(run) as record:
        record.shards.append(rows(0, 8))
        with monkeypatch.context() as away:
            away.setattr(places, "PATIENCE_S", 0.05)
            failing(away, lambda: True)
            for ask in (lambda: record.shards.append(rows(8, 16)), record.shards.folder.is_dir):
                with pytest.raises(OutageError, match=r"did not answer .* internal error"):
                    ask()
    with opened(run) as record:
        assert_frame_equal(record.frame, rows(0, 8))


@pytest.mark.parametrize("seed", range(2))
def test_two_writers_at_once_lose_and_double_nothing(run: Path, seed: int) -> None:
    """Drivers that judge the same pieces, in turns that a seed draws, and merge at their ends."""
    draw = random.Random(seed)
    pieces = [(first, first + 4) for first in range(0, 24, 4)]

    def driver(cost: int) -> Iterator[None]:
        with opened(run) as record:
            yield
            finished = set(record.frame["sample_id"])
            for first, last in pieces:
                frame = rows(first, last, forwards=[cost] * (last - first))
                if not finished >= set(frame["sample_id"]):
                    record.shards.append(frame)
                    yield
            found = record.finish().frame
            assert_frame_equal(found.drop("forwards"), rows(0, 24).drop("forwards"))

    drivers = [driver(9), driver(11), driver(13)]
    while drivers:
        chosen = draw.choice(drivers)
        if next(chosen, "ended") == "ended":
            drivers.remove(chosen)
    assert_frame_equal(
        read_record(Shards.of(run, META).folder).frame.drop("forwards"),
        rows(0, 24).drop("forwards"),
    )


def test_a_shard_that_another_writer_merges_meanwhile_is_read_where_it_went(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(run) as one, opened(run) as two:
        one.shards.append(rows(0, 8))
        one.shards.append(rows(4, 12))
        real, left = RemotePath.read_bytes, [1]

        def late(path: RemotePath) -> bytes:
            if path.name.startswith("shard") and left and left.pop():
                two.finish()
            return real(path)

        monkeypatch.setattr(RemotePath, "read_bytes", late)
        assert_frame_equal(one.shards.record().frame, rows(0, 12))
        assert len(one.shards.paths) == 1
        left.append(1)
        one.shards.append(rows(8, 16))
        with opened(run) as three:
            assert_frame_equal(three.frame.sort("sample_id"), rows(0, 16))


def test_a_shard_that_comes_while_others_are_put_right_stays(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(run) as one:
        one.shards.append(rows(0, 8))
        one.shards.append(rows(4, 12))
        real = writing.split_duplicates

        def late(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
            one.shards.append(rows(12, 16))
            return real(frame)

        monkeypatch.setattr(writing, "split_duplicates", late)
        with opened(run):
            pass
    assert_frame_equal(read_record(one.shards.folder).frame, rows(0, 16))


def test_a_shard_that_comes_while_its_record_is_packed_stays(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(run) as one:
        one.shards.append(rows(0, 8))
        real, looks = packing._state, []

        def late(folder: Path) -> tuple[object, ...]:
            found = real(folder)
            looks.append(found)
            if len(looks) == 2:  # the last look before it is removed
                one.shards.append(rows(8, 16))
            return found

        monkeypatch.setattr(packing, "_state", late)
        pack(run, print)
    assert len(looks) == 2
    with opened(run) as two:
        assert_frame_equal(two.frame.sort("sample_id"), rows(0, 16))


def test_a_server_that_restarts_is_waited_for(
    bucket: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    with opened(bucket) as record:
        record.shards.append(rows(0, 8))
        server.stop()
        again = threading.Timer(1.0, server.start)
        again.start()
        record.shards.append(rows(8, 16))
        again.join()
        assert_frame_equal(record.finish().frame, rows(0, 16))
    monkeypatch.setattr(places, "PATIENCE_S", 0.1)
    server.stop()
    with pytest.raises(OutageError, match=r"did not answer"):
        read_record(record.shards.folder)
    server.start()
    assert_frame_equal(read_record(record.shards.folder).frame, rows(0, 16))


def test_a_bucket_or_credentials_that_are_missing_are_one_sentence(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    missing = place("s3://no-such-bucket/run")
    with pytest.raises(RecordError, match=r"cannot write s3://no-such-bucket/run/.*bucket"):
        write_atomically(missing / "x", b"x")
    assert not s3fs.S3FileSystem().exists("no-such-bucket")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    places._system.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RecordError, match="check the URL, and the credentials"):
        write_atomically(bucket / "x", b"x")
