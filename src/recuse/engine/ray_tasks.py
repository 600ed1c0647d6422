"""Workers on a Ray cluster: one task a piece, the work unpacked once in each worker process."""

import functools
import math
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from recuse import __version__
from recuse.engine.contract import Retries, Told, Work, require_counts
from recuse.engine.processes import portable, sendable, unpacked
from recuse.engine.scheduling import Done, Failed, Lost, Schedule
from recuse.errors import ConfigError, EngineError
from recuse.progress import Seen, unseen

ANSWER_S = 10.0


@dataclass(frozen=True)
class RayTasks:
    """Tasks on a Ray cluster, a bounded number in flight.

    Attributes:
        workers: Tasks in flight.
        address: ``HOST:PORT`` of the cluster, ``auto`` for the one that runs here; None starts one
            on this machine for as long as the work lasts.
        shard_size: Samples of a piece; the caller's own choice if None.
        cpus: Processors that are kept for a task.
        gpus: Accelerators that are kept for a task, a part of one too.
        retries: What becomes of a piece that no result came back for.
    """

    workers: int = 2
    address: str | None = None
    shard_size: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    retries: Retries = Retries()

    def __post_init__(self) -> None:
        require_counts(self.workers, self.shard_size)
        whole = self.gpus < 1 or self.gpus % 1 == 0
        if not (0 < self.cpus < math.inf and self.gpus >= 0 and whole):
            raise ConfigError(
                f"{self.cpus:g} processors and {self.gpus:g} GPUs for a piece of work: give some "
                "processors, and a part of one GPU or whole ones"
            )

    def map(
        self, work: Work, pieces: Iterable[Any], *, told: Told, seen: Seen = unseen
    ) -> Iterator[Any]:
        """Results as they are finished; see :class:`recuse.engine.Engine`.

        Raises:
            ConfigError: Ray is not installed, or work that cannot be sent.
            EngineError: No cluster answers at the address, or a piece failed again and again.
        """
        ray = _imported()
        ours = not ray.is_initialized()
        where = _connect(ray, self) if ours else None
        try:
            if where:
                told(f"dashboard at {where}")
            if lack := _lack(ray.nodes(), self):
                if self.address is None:
                    raise EngineError(f"{lack}; ask for less")
                told(f"{lack}; waiting for one that has")
            crew = _Crew(ray, self, ray.put(portable(work, ray.cloudpickle.dumps)))
            try:
                yield from Schedule(crew, self.workers, self.retries, told, seen).results(pieces)
            finally:
                crew.dismiss()
        finally:
            if ours:
                ray.shutdown()


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "the ray engine needs the package ray, which is not installed; "
            "pip install 'recuse[ray]' or take the local engine"
        ) from error
    return ray


def _connect(ray: Any, engine: RayTasks) -> str | None:
    """Connect to the cluster, or start one; returns the address of its dashboard, if any."""
    settings: dict[str, Any] = {"address": engine.address}
    if engine.address not in (None, "auto"):
        _require_listener(str(engine.address))  # Ray itself would wait for many minutes
    if engine.address is None:
        cpus = math.ceil(engine.workers * engine.cpus)
        settings = {"address": "local", "num_cpus": cpus}
    try:
        with _sigterm_kept():
            context = ray.init(**settings, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise EngineError(
            f"no Ray cluster answers at {engine.address or 'this machine'} ({first}); start one "
            "with ray start --head, or leave the address out"
        ) from error
    where: str | None = context.dashboard_url or None
    return where


def _lack(nodes: Iterable[dict[str, Any]], engine: RayTasks) -> str:
    """What no machine of a cluster has of what a task needs; Ray would wait for it in silence."""
    there = [node["Resources"] for node in nodes if node["Alive"]]
    if any(n.get("CPU", 0) >= engine.cpus and n.get("GPU", 0) >= engine.gpus for n in there):
        return ""
    return f"no machine of the Ray cluster has {engine.cpus:g} processors and {engine.gpus:g} GPUs"


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Give SIGTERM back to whom it belongs; Ray takes it, and would end with another exit code."""
    before = signal.getsignal(signal.SIGTERM)
    taken = False
    try:
        yield
    except SystemExit as stop:  # what Ray made of a SIGTERM
        taken = stop.code == signal.SIGTERM
        if not taken:
            raise
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    if taken:
        signal.raise_signal(signal.SIGTERM)


def _require_listener(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise EngineError(
            f"no Ray cluster answers at {address} ({error}); write HOST:PORT as ray start printed "
            "it, or leave the address out"
        ) from error


@dataclass
class _Crew:
    ray: Any
    engine: RayTasks
    work: Any
    _tasks: dict[Any, int] = field(default_factory=dict)
    _begun: int = 0

    def begin(self, piece: Any) -> int:
        self._begun += 1
        remote = self.ray.remote(_compute).options(
            num_cpus=self.engine.cpus, num_gpus=self.engine.gpus, max_retries=0
        )
        # In a list, a reference arrives as one, so that only the first task of a process reads it.
        task = remote.remote([self.work], __version__, piece)
        self._tasks[task] = self._begun
        return self._begun

    def finished(self, timeout: float) -> Sequence[tuple[int, Done | Failed | Lost]]:
        ready, _ = self.ray.wait(list(self._tasks), num_returns=1, timeout=timeout)
        found: list[tuple[int, Done | Failed | Lost]] = []
        for task in ready:
            number = self._tasks.pop(task)
            try:
                found.append((number, self.ray.get(task)))
            except self.ray.exceptions.RayError as error:
                found.append((number, Lost(f"a worker was lost ({type(error).__name__})")))
        return found

    def give_up(self, number: int) -> None:
        for task in [t for t, n in self._tasks.items() if n == number]:
            self.ray.cancel(task, force=True)
            del self._tasks[task]

    def dismiss(self) -> None:
        for number in list(self._tasks.values()):
            self.give_up(number)


def _compute(work: list[Any], version: str, piece: Any) -> Done | Failed:
    """One piece, in a worker of the cluster."""
    try:
        if version != __version__:
            raise EngineError(
                f"a worker has recuse {__version__} and the driver {version}; install the same "
                "version everywhere"
            )
        return Done(_unpacked(work[0])(piece))
    except Exception as error:
        return Failed(sendable(error))


@functools.lru_cache(maxsize=1)
def _unpacked(reference: Any) -> Work:
    import ray

    return unpacked(ray.get(reference))


__all__ = ["RayTasks"]
