"""Commands that are started again and again, and what happens to them: for ``soak.py``.

Commands are forked from this program, which has imported what they need; workers start as ever.
"""

import ctypes
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401

import recuse.cli.datasets
import recuse.cli.show
import recuse.evaluation
import recuse.training
from recuse.cli.main import main as recuse_main
from store import Store
from struck import FAULTS_FOLDER, NAN

HERE = Path(__file__).parent
CAPABILITIES, MAY_WRITE_ANYWHERE = 0x20080522, 1
IMAGES, PATIENCE_S, BEGUN_S, TRAINED_S = 600, 30, 120.0, 6.0
AWAY_S = 5.0
# The network has code of its own, which a checkpoint cannot hold.
JUDGE = f"""evaluate struck:network --data digits --part all --threat linf:0.1 --no-prepared
--attack apgd(steps=20) --limit {IMAGES} --device cpu --repair"""
TRAIN = """train small(size=8,channels=1) --data digits --objective robust(attack=pgd(steps=3))
--threat linf:0.05 --epochs 30 --device cpu"""


class Process:
    """A function in a process of its own, and what it said on standard error."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._read, write = os.pipe()
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.close(self._read)
            os.close(write)
            os._exit(_exit_code(work))
        os.close(write)

    def poll(self) -> int | None:
        """The exit code, minus the signal that ended it, or None while it runs."""
        if self.code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if found else None
        return self.code

    def end(self) -> tuple[int, str]:
        """Wait; its exit code and what it said."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with os.fdopen(self._read, errors="replace") as said:
            return self.code, said.read()

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def workers(self) -> list[int]:
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        with suppress(OSError):
            return [int(pid) for pid in path.read_text().split()]
        return []


def _exit_code(work: Callable[[], object]) -> int:
    os.chdir(HERE)
    sys.modules["__main__"] = types.ModuleType("__main__")  # workers do not import this program
    obey_permissions()
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.stdout = os.fdopen(1, "w")
    recuse.cli.console.console.file = sys.stderr
    try:
        work()
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def obey_permissions() -> None:
    """Give up the administrator's right to write where it is forbidden."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    libc.capget(header, held)
    held[0] &= ~(1 << MAY_WRITE_ANYWHERE)
    libc.capset(header, held)


@dataclass
class Command:
    """One command that is started until its work is whole.

    Attributes:
        words: As typed, without ``--out``.
        folder: Where it works, or where the store keeps what is written at the URL.
        done: Glob of what it leaves while it works.
        url: Where it works, if behind a URL.
        store: What is there, then.
        locked: Folders that are read-only until the process ends.
    """

    words: str
    folder: Path
    done: str
    url: str = ""
    store: Store | None = None
    locked: list[Path] = field(default_factory=list)

    @property
    def out(self) -> str:
        return self.url or str(self.folder)

    def start(self, *more: str) -> Process:
        words = [*self.words.split(), *more, "--out", self.out]
        return Process(lambda: recuse_main(words))

    def files(self) -> list[Path]:
        return sorted(self.folder.glob(self.done))

    def begin_anew(self, kept: Path | None = None) -> None:
        """Forget what was done, or keep it elsewhere."""
        if self.store is not None:
            self.store.empty()
        elif kept is not None:
            self.folder.rename(kept)
        else:
            shutil.rmtree(self.folder)


def cut(workers: int) -> list[str]:
    patience = ["--patience", str(PATIENCE_S)] if workers > 1 else []
    size = random.choice(["10", "15", "20"])
    return ["--workers", str(workers), "--shard-size", size, *patience]


def kill(process: Process, command: Command) -> bool:
    process.signal(signal.SIGKILL)
    return True


def terminate(process: Process, command: Command) -> bool:
    process.signal(signal.SIGTERM)
    return True


def kill_worker(process: Process, command: Command) -> bool:
    found = process.workers()
    with suppress(ProcessLookupError):
        if found:
            os.kill(random.choice(found), signal.SIGKILL)
    return bool(found)


def full_disk(process: Process, command: Command) -> bool:
    """From now on no file that it writes may be longer than a few bytes."""
    with suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))
        return True
    return False


def read_only(process: Process, command: Command) -> bool:
    command.locked += [path.parent for path in command.files()[:1]]
    for folder in command.locked:
        folder.chmod(0o555)
    return bool(command.locked)


def cut_short(process: Process, command: Command) -> bool:
    return damaged(process, command, lambda data: data[: random.randrange(len(data))])


def flip_bit(process: Process, command: Command) -> bool:
    def turned(data: bytes) -> bytes:
        at = random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]

    return damaged(process, command, turned)


def damaged(process: Process, command: Command, change: Callable[[bytes], bytes]) -> bool:
    """Stop it, and damage a file that it finished, if there is one."""
    if not command.files():
        return False
    process.signal(signal.SIGKILL)
    while process.poll() is None:
        time.sleep(0.01)
    path = random.choice(command.files())
    path.write_bytes(change(path.read_bytes()))
    return True


def rival(process: Process, command: Command) -> bool:
    """Start another driver in the same folder: one waits for the other, and both end well."""
    code, said = command.start(*cut(1)).end()
    if code != 0:
        raise SystemExit(f"a second driver ended with {code}: {said[-2000:]}")
    return True


def restart_store(process: Process, command: Command) -> bool:
    """Kill the server behind the URL; it is away for a while."""
    assert command.store is not None
    command.store.restart(AWAY_S)
    return True


def from_within(name: str) -> Callable[[Process, Command], bool]:
    """A fault of whichever process computes next."""

    def strike(process: Process, command: Command) -> bool:
        (Path(os.environ[FAULTS_FOLDER]) / name).touch()
        return True

    return strike


Struck = Callable[[Process, Command], bool]
# What happens to judging, at a URL too, and to training, and how often in proportion; only workers
# may be silent.
OF_WORKERS: dict[str, tuple[Struck, int]] = {
    "worker killed": (kill_worker, 20),
    "worker hangs": (from_within("worker hangs"), 3),
    "worker never comes back": (from_within("worker never comes back"), 2),
}
JUDGING = OF_WORKERS | {
    "driver killed": (kill, 16),
    "driver told to stop": (terminate, 6),
    "second driver in the folder": (rival, 3),
    "disk full": (full_disk, 6),
    "folder read-only": (read_only, 4),
    "shard cut short": (cut_short, 6),
    "bit of a shard flipped": (flip_bit, 6),
    NAN: (from_within(NAN), 4),
    "memory runs out": (from_within("memory runs out"), 3),
    "clock jumps": (from_within("clock jumps"), 3),
}
AT_URL: dict[str, tuple[Struck, int]] = {
    "S3 server restarted": (restart_store, 10),
    "worker killed": (kill_worker, 2),
    "driver killed": (kill, 4),
    "driver told to stop": (terminate, 1),
    "second driver in the folder": (rival, 1),
}
TRAINING: dict[str, tuple[Struck, int]] = {
    "training killed": (kill, 14),
    "training told to stop": (terminate, 3),
    "disk full while training": (full_disk, 3),
}
