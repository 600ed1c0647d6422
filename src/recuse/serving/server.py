"""Running a server: a front process, workers behind a queue, and a stop that answers all first."""

import multiprocessing
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litserve import LitServer
from litserve.server import RegularRequestHandler
from starlette.requests import Request

from recuse.errors import ConfigError
from recuse.serving.front import Front, Row
from recuse.serving.worker import Asked, SystemApi
from recuse.systems import System, load

HOSTS = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "0.0.0.0": "0.0.0.0", "::": "::"}
_LOWEST_PORT, _HIGHEST_PORT = 1024, 65535
_DRAIN_S, _LOOK_S = 30.0, 0.02


@dataclass(frozen=True)
class Serving:
    """How a system is served.

    Attributes:
        host: ``127.0.0.1`` for this machine alone, ``0.0.0.0`` or ``::`` for others.
        port: 1024 to 65535.
        workers: Processes that compute.
        budget_ms: Milliseconds that may be computed for a request; what is undecided then is
            abstained on.
        max_bytes: Of one request.
        batch: Most images of a batch.
        wait_ms: How long a batch waits for more.
        max_waiting: Requests that may wait at once; more are told to come again.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    budget_ms: float = 1000.0
    max_bytes: int = 10_000_000
    batch: int = 32
    wait_ms: float = 5.0
    max_waiting: int = 1024

    def __post_init__(self) -> None:
        if self.host not in HOSTS:
            raise ConfigError(
                f"host {self.host!r} is none to listen on; take 127.0.0.1 for this machine alone, "
                "0.0.0.0 or :: for others"
            )
        if not _LOWEST_PORT <= self.port <= _HIGHEST_PORT:
            raise ConfigError(f"port {self.port} is not between {_LOWEST_PORT} and {_HIGHEST_PORT}")
        if min(self.workers, self.max_bytes, self.batch, self.max_waiting) < 1:
            raise ConfigError("workers, bytes, batch and waiting requests must be 1 or more")
        if not (self.budget_ms > 0 and self.wait_ms >= 0):
            raise ConfigError(f"a budget of {self.budget_ms:g} ms leaves no time to answer")


class _Submitter(RegularRequestHandler):  # type: ignore[misc]
    """Hands an image that was read already to the queue of the workers."""

    async def _prepare_request(self, request: Any, request_type: Any) -> Any:
        return request


def serve(folder: Path, how: Serving, *, say: Callable[[str], None]) -> None:
    """Serve a system until SIGTERM or Ctrl-C, then answer what was taken and stop.

    Args:
        folder: Of the system.
        how: Where and how.
        say: Told when the server answers and when it stops.

    Raises:
        DataError: No system, or a changed one.
        ConfigError: The port is in use.
    """
    system = load(folder)
    require_free(how)
    server, state = _lit_server(folder, how), _State()
    front = _front(system, server, state, how)
    server.app.router.routes[:0] = front.routes
    del system  # workers load their own
    _stop_on_signals(server, state, say)
    say(f"serving {front.about['system']} on http://{how.host}:{how.port} ({how.workers} workers)")
    server.run(
        host=HOSTS[how.host],
        port=how.port,
        num_api_servers=1,
        api_server_worker_type="process",
        generate_client_file=False,
        pretty_logs=False,
        log_level="error",
        access_log=False,
    )
    if state.interrupted:
        raise KeyboardInterrupt


class _State:
    """What two processes know: the front counts, the main one waits for 0 before it stops."""

    def __init__(self) -> None:
        self.open_requests = multiprocessing.Value("i", 0)
        self.stopping = multiprocessing.Event()
        self.interrupted = False

    def busy(self, change: int) -> None:
        with self.open_requests.get_lock():
            self.open_requests.value += change


def _lit_server(folder: Path, how: Serving) -> Any:
    api = SystemApi(
        str(folder.resolve()),
        budget_s=how.budget_ms / 1000,
        threads=max(1, (os.cpu_count() or 1) // how.workers),
        rows=how.batch,
        wait_s=how.wait_ms / 1000,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LitServe's about its own parts
        return LitServer(
            api,
            workers_per_device=how.workers,
            timeout=False,
            healthcheck_path="/litserve/health",
            info_path="/litserve/info",
            restart_workers=True,
            disable_openapi_url=True,
        )


def _front(system: System, server: Any, state: _State, how: Serving) -> Front:
    submitter = _Submitter(server.lit_api, server)

    async def submit(asked: Asked) -> Row:
        row: Row = await submitter.handle_request(asked, Request)
        return row

    return Front(
        name=system.name,
        budget=str(system.cascade.budget),
        form=system.form,
        submit=submit,
        draining=state.stopping.is_set,
        busy=state.busy,
        most_bytes=how.max_bytes,
        most_waiting=how.max_waiting,
        patience_s=max(60.0, 10 * how.budget_ms / 1000),
    )


def require_free(how: Serving) -> None:
    """Refuse a port that somebody listens on.

    Raises:
        ConfigError: It is in use.
    """
    family = socket.AF_INET6 if HOSTS[how.host] == "::" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOSTS[how.host], how.port))
        except OSError as error:
            raise ConfigError(
                f"port {how.port} on {how.host} is in use; choose another (--port)"
            ) from error


def _stop_on_signals(server: Any, state: _State, say: Callable[[str], None]) -> None:
    """Let SIGTERM and Ctrl-C stop the server when what it has taken is answered."""
    main = os.getpid()

    def drain() -> None:
        deadline = time.monotonic() + _DRAIN_S
        while state.open_requests.value > 0 and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        while server._shutdown_event is None:  # told to stop while it starts
            time.sleep(_LOOK_S)
        server._shutdown_event.set()

    def stop(number: int, frame: object) -> None:
        if os.getpid() != main or state.stopping.is_set():  # a child, or once more
            return
        state.stopping.set()
        state.interrupted = number == signal.SIGINT
        say("stopping: answering what was taken")
        threading.Thread(target=drain, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


__all__ = ["Serving", "require_free", "serve"]
