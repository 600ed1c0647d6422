"""A server as its users meet it: a process, real HTTP, many requests at once, an orderly stop."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from recuse.cli.main import main
from recuse.systems import load

pytest.importorskip("litserve", reason="serving needs the extra serve")
pytestmark = pytest.mark.slow
STARTING_S = 120


@dataclass
class Server:
    process: subprocess.Popen
    port: int

    def send(
        self, method: str, path: str, body: bytes | None = None, kind: str = "image/png"
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def end(self) -> None:
        """Kill it with its workers, which outlive a parent that is killed alone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def counters(self) -> dict[str, float]:
        lines = self.send("GET", "/metrics")[1].decode().splitlines()
        return {l.rpartition(" ")[0]: float(l.split()[-1]) for l in lines if l[0] != "#"}  # noqa: E741


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(system: Path, log: Path, *words: object) -> Server:
    port = free_port()
    code = "import sys; from recuse.cli.main import main; main(sys.argv[1:])"
    asked = ["serve", str(system), "--port", str(port), *map(str, words)]
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *asked], stdout=out, stderr=out, start_new_session=True
        )
    server, end = Server(process, port), time.monotonic() + STARTING_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if server.send("GET", "/health")[0] == 200:
                return server
        except OSError:
            time.sleep(0.1)
    server.end()
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def server(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    found = started(saved, log, "--workers", 2, "--budget-ms", 20000, "--max-bytes", 5000)
    yield found
    found.end()


MALFORMED = [
    (b"nonsense", "image/png", 400),
    (b"x", "text/plain", 415),
    (b"x" * 6000, "image/png", 413),
    (b'{"image": 1}', "application/json", 400),
    (b"--y", "multipart/form-data; boundary=x", 400),
]


def test_every_request_is_answered_and_counted(
    server: Server, saved: Path, files: list[bytes]
) -> None:
    before = server.counters()
    wanted = load(saved).predict(files, seed=0).label
    requests = [("good", i % 8) for i in range(200)] + [("bad", i % 5) for i in range(40)]
    random.Random(0).shuffle(requests)

    def one(request: tuple[str, int]) -> int:
        kind, which = request
        if kind == "good":
            status, body = server.send("POST", "/predict", files[which])
            row = json.loads(body)
            assert row["label"] == wanted[which]
            assert row["timed_out"] is False
            return status
        body, content, expected = MALFORMED[which]
        status, text = server.send("POST", "/predict", body, content)
        assert (status, set(json.loads(text))) == (expected, {"error"})
        return status

    with ThreadPoolExecutor(24) as pool:
        statuses = Counter(pool.map(one, requests))
    assert statuses == {200: 200, 400: 24, 413: 8, 415: 8}
    after = server.counters()
    for status, count in statuses.items():
        name = f'recuse_requests_total{{status="{status}"}}'
        assert after[name] - before.get(name, 0) == count
    stages = sum(v for name, v in after.items() if name.startswith("recuse_answers_total"))
    assert (
        stages + after["recuse_abstentions_total"] == after['recuse_requests_total{status="200"}']
    )
    assert after["recuse_latency_seconds_count"] - before["recuse_latency_seconds_count"] == 240


def test_health_page_and_neighbour(server: Server, files: list[bytes]) -> None:
    status, body = server.send("GET", "/health")
    assert (status, json.loads(body)) == (
        200, {"status": "ok", "system": "digits", "budget": "linf:0.05"}
    )  # fmt: skip
    status, page = server.send("GET", "/")
    assert status == 200
    assert b'<input id="file" type="file"' in page
    assert b"http://" not in page.replace(b"http://www.w3.org", b"")  # it works offline
    status, body = server.send("POST", "/explain", files[0])
    explanation = json.loads(body)["explanation"]
    assert status == 200
    assert explanation["picture"].startswith("data:image/png;base64,")
    assert explanation["distance"] > 0


def test_too_many_requests_are_all_answered_and_a_stop_answers_what_was_taken(
    saved: Path, files: list[bytes], tmp_path: Path
) -> None:
    server = started(saved, tmp_path / "log", "--budget-ms", 15, "--max-waiting", 12)
    try:
        with ThreadPoolExecutor(48) as pool:
            found = list(
                pool.map(lambda i: server.send("POST", "/predict", files[i % 8]), range(150))
            )
        rows = [json.loads(body) for status, body in found if status == 200]
        statuses = Counter(status for status, _ in found)
        assert set(statuses) <= {200, 503}
        assert statuses[200] + statuses[503] == 150
        assert all(r["abstained"] and r["label"] is None for r in rows if r["timed_out"])
        counted = server.counters()
        assert counted['recuse_requests_total{status="200"}'] == statuses[200]
        assert counted["recuse_timeouts_total"] == sum(row["timed_out"] for row in rows)
        with ThreadPoolExecutor(8) as pool:
            late = [pool.submit(server.send, "POST", "/predict", files[0]) for _ in range(8)]
            time.sleep(0.01)
            os.kill(server.process.pid, signal.SIGTERM)
            assert {f.result()[0] for f in late} <= {200, 503}
        assert server.process.wait(60) == 0
    finally:
        server.end()
    with pytest.raises(OSError):
        server.send("GET", "/health")


def test_a_port_in_use_and_no_system_are_one_sentence(
    server: Server, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in (
        ([str(saved), "--port", str(server.port)], "is in use"),
        ([str(tmp_path)], "holds no system"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["serve", *words])
        said = capsys.readouterr().err
        assert stop.value.code == 2
        assert says in said
        assert said.count("\n") == 1
