"""The Ray engine: what it says without a cluster, and that it loses nothing on one."""

import importlib.util
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recuse.engine import RayTasks
from recuse.engine.processes import unpacked
from recuse.engine.ray_tasks import _compute, _lack
from recuse.engine.scheduling import Failed
from recuse.errors import EngineError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install 'recuse[ray]'",
)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:port", "127.0.0.1:99999999"])
def test_an_address_that_is_none_is_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recuse.engine.ray_tasks._imported", lambda: Silent())
    with pytest.raises(EngineError, match=f"no Ray cluster answers at {address}.*HOST:PORT"):
        list(RayTasks(address=address).map(eval, ["1"], told=print))


def test_a_port_where_nobody_listens_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("recuse.engine.ray_tasks._imported", lambda: Silent())
    with pytest.raises(EngineError, match="no Ray cluster answers"):
        list(RayTasks(address=f"127.0.0.1:{port}").map(eval, ["1"], told=print))


def test_a_worker_that_is_not_as_its_driver_is_one_sentence() -> None:
    outcome = _compute([None], "0.0.1", "1")
    assert isinstance(outcome, Failed)
    with pytest.raises(EngineError, match=r"a worker has recuse .* and the driver 0\.0\.1"):
        raise outcome.error
    with pytest.raises(EngineError, match=r"cannot build the network: .*nowhere.*install"):
        unpacked(b"cnowhere\nnetwork\n.")


class Silent:
    """Ray that is not connected and must not be asked to."""

    def is_initialized(self) -> bool:
        return False


class Taking(Silent):
    """Ray that takes SIGTERM when it is connected, as it does, and then answers nothing."""

    def init(self, **settings: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        raise ConnectionError("nobody")


def test_sigterm_stays_with_whom_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recuse.engine.ray_tasks._imported", lambda: Taking())
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(EngineError, match=r"no Ray cluster answers at this machine \(nobody\)"):
        list(RayTasks().map(eval, ["1"], told=print))
    assert signal.getsignal(signal.SIGTERM) is before


class Stopped(Taking):
    """Ray that meets SIGTERM while it is being connected."""

    def init(self, **settings: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_while_ray_starts_is_heard_by_whom_it_belongs_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recuse.engine.ray_tasks._imported", lambda: Stopped())

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(RayTasks().map(eval, ["1"], told=print))
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)


class Small(Silent):
    """Ray on a cluster of one machine with two processors, and of one that is gone."""

    exceptions = cloudpickle = None

    def init(self, **settings: Any) -> Any:
        return SimpleNamespace(dashboard_url=None)

    def nodes(self) -> list[dict[str, Any]]:
        gone = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [{"Alive": True, "Resources": {"CPU": 2.0, "memory": 1e9}}, gone]

    def shutdown(self) -> None:
        pass


@pytest.mark.parametrize("asked", [{"cpus": 4.0}, {"gpus": 0.5}])
def test_what_no_machine_has_is_not_waited_for_in_silence(
    asked: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recuse.engine.ray_tasks._imported", lambda: Small())
    with pytest.raises(EngineError, match=r"no machine of the Ray cluster has .*; ask for less"):
        list(RayTasks(**asked).map(eval, ["1"], told=print))
    told: list[str] = []
    with pytest.raises(AttributeError):  # it goes on, to where this cluster ends
        list(RayTasks(address="auto", **asked).map(eval, ["1"], told=told.append))
    assert "waiting for one that has" in told[0]
    assert not _lack(Small().nodes(), RayTasks(cpus=2.0))


SCRIPT = """
import os
import signal
from recuse.engine import RayTasks, Retries
seen = "__import__('pathlib').Path({seen!r})"
die = "__import__('os').kill(__import__('os').getpid(), 9)"
pieces = [f"5 if {{seen}}.exists() else ({{seen}}.touch(), {{die}})", *map(str, range(5))]
told = []
found = RayTasks(2, retries=Retries(pause=0.01)).map(eval, pieces, told=told.append)
assert sorted(found) == [0, 1, 2, 3, 4, 5]
assert "a worker was lost" in told[-1], told
try:
    list(RayTasks(1).map(eval, ["1 / 0"], told=told.append))
except ZeroDivisionError:
    print("all there")
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
for _ in RayTasks(1).map(eval, ["1"], told=told.append):
    os.kill(os.getpid(), signal.SIGTERM)
print(heard)
"""


@needs_ray
@pytest.mark.slow
def test_a_cluster_computes_every_piece_once_and_survives_a_dead_worker(tmp_path: Path) -> None:
    script = SCRIPT.format(seen=str(tmp_path / "seen"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-2:] == ["all there", "[15]"], done.stderr
