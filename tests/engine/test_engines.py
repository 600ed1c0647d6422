"""Every piece comes back once, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from recuse.engine import InProcess, Processes, Retries
from recuse.engine.processes import undisturbed
from recuse.errors import ConfigError, EngineError, RecordError
from recuse.records.sealed import DamagedError

FAST = Retries(pause=0.01)
# Work that every process can import: it evaluates the text that a piece is.
COMPUTE = eval
DIE = "__import__('os').kill(__import__('os').getpid(), 9)"


def once(path: Path, act: str, value: int) -> str:
    """Text that acts the first time it is evaluated, and is a value from then on."""
    seen = f"__import__('pathlib').Path({str(path)!r})"
    return f"{value} if {seen}.exists() else ({seen}.touch(), {act})"


def results(engine, pieces, told=None):
    return list(engine.map(COMPUTE, pieces, told=(told if told is not None else []).append))


@pytest.mark.parametrize("engine", [InProcess(), Processes(2), Processes(3, retries=FAST)])
def test_every_piece_comes_back_once(engine):
    pieces = [f"{n} * {n}" for n in range(25)]
    assert sorted(results(engine, pieces)) == [n * n for n in range(25)]


def test_pieces_are_taken_as_workers_are_free():
    taken = []

    def pieces():
        for n in range(20):
            taken.append(n)
            yield str(n)

    found = Processes(2).map(COMPUTE, pieces(), told=print)
    next(found)
    assert len(taken) <= 4
    found.close()


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (DIE, "SIGKILL"),
        ("__import__('os')._exit(7)", "exit code 7"),
        ("exec('raise OSError(5, \"the disk is gone\")')", "the disk is gone"),
        ("exec('raise MemoryError(\"no room\")')", "no room"),
    ],
)
def test_a_lost_piece_is_computed_again_and_the_loss_is_told(tmp_path, act, why):
    told = []
    pieces = [once(tmp_path / "acted", act, 5), *(str(n) for n in range(5))]
    assert sorted(results(Processes(2, retries=FAST), pieces, told)) == list(range(6))
    assert len(told) == 1
    assert why in told[0]


HANG = "__import__('time').sleep(1000)"
DEAF = f"(__import__('signal').signal(15, __import__('signal').SIG_IGN), {HANG})"


@pytest.mark.parametrize("silence", [HANG, DEAF], ids=["hangs", "deaf to SIGTERM"])
def test_a_worker_that_never_answers_is_given_up(tmp_path, monkeypatch, silence):
    monkeypatch.setattr("recuse.engine.processes.STOP_S", 0.2)
    seen, told = tmp_path / "worker", []
    note = f"__import__('pathlib').Path({str(seen)!r}).write_text(str(__import__('os').getpid()))"
    pieces = [once(tmp_path / "hung", f"({note}, {silence})", 1), "2"]
    # A worker may take longer than that to start, so that there are attempts enough.
    engine = Processes(2, retries=Retries(attempts=8, pause=0.01, patience=1.0))
    began = time.monotonic()
    assert sorted(results(engine, pieces, told)) == [1, 2]
    assert time.monotonic() - began < 200
    assert "did not answer" in told[0]
    assert not Path("/proc", seen.read_text()).exists()


def test_a_piece_that_kills_every_worker_is_one_sentence():
    with pytest.raises(
        EngineError, match="failed 2 times, at last because a worker was ended by SIGKILL"
    ):
        results(Processes(2, retries=Retries(attempts=2, pause=0.01)), [DIE, "1"])


def test_what_the_work_itself_raises_is_raised_here():
    with pytest.raises(ZeroDivisionError) as caught:
        results(Processes(1), ["1 / 0"])
    assert "in a worker" in caught.value.__notes__[0]
    text = "exec('from recuse.errors import RecordError; raise RecordError(\"not so\")')"
    with pytest.raises(RecordError, match="not so"):
        results(Processes(1), [text])


def test_an_error_that_cannot_be_sent_keeps_its_sentence(tmp_path):
    with pytest.raises(DamagedError) as here:
        raise DamagedError(tmp_path / "shard", "no rows")
    source = (
        "from pathlib import Path; from recuse.records.sealed import DamagedError; "
        f"raise DamagedError(Path({str(tmp_path / 'shard')!r}), 'no rows')"
    )
    text = f"exec({source!r})"
    with pytest.raises(EngineError) as sent:
        results(Processes(1), [text])
    assert str(sent.value) == str(here.value)


def test_results_that_were_finished_come_before_the_error():
    found = Processes(1).map(COMPUTE, ["1", "2", "1 / 0", "3"], told=print)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_no_worker_stays():
    pieces = [f"(__import__('os').getpid(), {n})" for n in range(4)]
    workers = {pid for pid, _ in results(Processes(2), pieces)}
    assert os.getpid() not in workers
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_ends_with_its_driver_in_the_midst_of_a_piece(tmp_path):
    seen = tmp_path / "worker"
    note = f"__import__('pathlib').Path({str(seen)!r}).write_text(str(__import__('os').getpid()))"
    piece = f"({note}, __import__('time').sleep(1000))"
    script = "from recuse.engine import Processes\nlist(Processes(2).map(eval, [{!r}], told=print))"
    driver = subprocess.Popen([sys.executable, "-c", script.format(piece)])
    try:
        assert until(lambda: seen.is_file() and seen.read_text())
    finally:
        driver.kill()
        driver.wait()
    assert until(lambda: not Path("/proc", seen.read_text()).exists())


def until(holds, most=60.0):
    end = time.monotonic() + most
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def test_a_signal_waits_until_a_worker_is_whole():
    heard, before = [], signal.getsignal(signal.SIGINT)
    former = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            assert not heard
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # what a new process inherits
        assert heard == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGTERM, former)


def test_work_of_this_process_alone_is_refused():
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        list(Processes(2).map(lambda piece: piece, ["1"], told=print))


@pytest.mark.parametrize("make", [InProcess, Processes, partial(Processes, 2)])
def test_counts_below_one_are_refused(make):
    with pytest.raises(ConfigError, match="1 or more"):
        make(shard_size=0)


def test_settings_of_retries_are_checked():
    for wrong in ({"attempts": 0}, {"pause": -1.0}, {"patience": 0.0}):
        with pytest.raises(ConfigError, match="attempts"):
            Retries(**wrong)
