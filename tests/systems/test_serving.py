"""What a server is made of, without a network between: counters, the front, a worker's batch."""

import asyncio
import base64
import json
import queue
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("litserve", reason="serving needs the extra serve")

from recuse.composition import Cascade, Core, Stage
from recuse.errors import ConfigError
from recuse.selectors import SoftmaxResponse
from recuse.serving.batching import FullBatches
from recuse.serving.front import Front
from recuse.serving.metrics import BUCKETS, Metrics
from recuse.serving.server import Serving, require_free
from recuse.serving.worker import Asked, Pace, answer
from recuse.systems import System, load

from .conftest import BUDGET, FORM, LABELS

ROW = {"timed_out": False, "abstained": False, "stage": "era", "error": None}


def test_counters_add_up_and_are_prometheus_text() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.005, 0.3, 99.0):
        metrics.note(200, seconds, ROW)
    metrics.note(400, 0.01)
    metrics.note(200, 0.2, ROW | {"abstained": True, "stage": None, "timed_out": True})
    lines = metrics.text().splitlines()
    values = {line.rpartition(" ")[0]: float(line.split()[-1]) for line in lines if line[0] != "#"}
    assert values['recuse_requests_total{status="200"}'] == 5
    assert values['recuse_requests_total{status="400"}'] == 1
    assert values['recuse_answers_total{stage="era"}'] == 4
    assert values["recuse_abstentions_total"] == values["recuse_timeouts_total"] == 1
    counts = [values[f'recuse_latency_seconds_bucket{{le="{b}"}}'] for b in (*BUCKETS, "+Inf")]
    assert counts == sorted(counts)
    assert counts[0] == 2  # a bound belongs to its bucket
    assert counts[-1] == values["recuse_latency_seconds_count"] == 6
    assert counts[-2] == 5
    named = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert named == {name.partition("{")[0].removesuffix(end) for name in values for end in (
        ("_bucket" if "_bucket" in name else "_sum" if "_sum" in name else "_count"
         if "_count" in name else ""),)}  # fmt: skip


@dataclass
class Called:
    """A front with a worker that waits for nobody, called as a server calls it."""

    largest: int = 5000
    waiting: int = 2
    draining: bool = False
    patience: float = 5.0
    delay: float = 0.0
    row: dict = field(default_factory=lambda: dict(ROW))
    open: int = 0
    seen: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def submit(asked: Asked) -> dict:
            self.seen.append(asked)
            await asyncio.sleep(self.delay)
            return dict(self.row)

        def busy(change: int) -> None:
            self.open += change

        self.front = Front(
            name="s",
            budget="linf:0.05",
            form=FORM,
            submit=submit,
            draining=lambda: self.draining,
            busy=busy,
            most_bytes=self.largest,
            most_waiting=self.waiting,
            patience_s=self.patience,
        )

    async def post(self, body: bytes, kind: str | None, path: str = "predict") -> tuple[int, dict]:
        from starlette.requests import Request

        headers = [] if kind is None else [(b"content-type", kind.encode())]
        scope = {"type": "http", "method": "POST", "path": f"/{path}", "headers": headers}
        parts = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> dict:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        response = await getattr(self.front, path)(Request(scope, receive))
        return response.status_code, json.loads(response.body)

    def __call__(self, body: bytes, kind: str | None) -> tuple[int, dict]:
        return asyncio.run(self.post(body, kind))


def form_of(
    field_name: str, data: bytes, *, name: bytes = b'; filename="a.png"', again: int = 1
) -> tuple:
    part = (
        b"--x\r\nContent-Disposition: form-data; name=" + f'"{field_name}"'.encode() + name
        + b"\r\n\r\n" + data + b"\r\n"
    )  # fmt: skip
    return part * again + b"--x--\r\n", "multipart/form-data; boundary=x"


def json_of(value: object) -> tuple[bytes, str]:
    return json.dumps(value).encode(), "application/json"


def test_an_image_comes_in_three_ways(files: list[bytes], pictures: np.ndarray) -> None:
    called, text = Called(), base64.b64encode(files[0]).decode()
    ways = [
        (files[0], "image/png"),
        (files[0], "IMAGE/x; charset=?"),
        form_of("image", files[0]),
        json_of({"image": text}),
        json_of({"image": f"data:image/png;base64,{text}"}),
    ]
    assert [called(*way) for way in ways] == [(200, ROW)] * len(ways)
    wanted = torch.from_numpy(pictures[0]).permute(2, 0, 1).float() / 255
    assert all(torch.equal(torch.from_numpy(a.image), wanted) for a in called.seen)
    assert called.front.metrics.requests == {200: 5}
    assert called.open == called.front.waiting == 0


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (b"x", None, 415, "content type 'missing'"),
        (b"x", "text/plain", 415, "'text/plain' is not taken"),
        (b"x", "image/png", 400, "truncated or not an image"),
        (b"", "image/png", 400, "has no body"),
        (b"x" * 6000, "image/png", 413, "larger than the 5,000 bytes"),
        (*json_of([1]), 400, "has no text 'image'"),
        (*json_of({"image": 7}), 400, "has no text 'image'"),
        (*json_of({"image": "&&&"}), 400, "is not base64"),
        (b'{"image"', "application/json", 400, "is not JSON"),
        (b"[" * 4000, "application/json", 400, "is not JSON"),
        (*json_of({"image": base64.b64encode(b"x" * 6000).decode()}), 413, "larger than"),
        (*form_of("picture", b"x"), 400, "has no file 'image'"),
        (*form_of("image", b"x", name=b""), 400, "has no file 'image'"),
        (*form_of("image", b"x", again=2), 400, "has 2 'image'; send one a request"),
        (b"x", "multipart/form-data", 400, "form cannot be read"),
        (b"x", "multipart/form-data; boundary=x", 400, "form"),
    ],
    ids=str,
)
def test_what_is_no_image_gets_its_status_and_a_sentence(
    body: bytes, kind: str | None, status: int, says: str
) -> None:
    called = Called()
    found, row = called(body, kind)
    assert (found, set(row)) == (status, {"error"})
    assert says in row["error"]
    assert "\n" not in row["error"]
    assert called.seen == []
    assert called.front.metrics.requests == {status: 1}
    assert called.open == called.front.waiting == 0


def test_a_draining_server_takes_nothing(files: list[bytes]) -> None:
    called = Called(draining=True)
    assert called(files[0], "image/png")[0] == 503
    assert asyncio.run(called.front.health(None)).status_code == 503
    assert called.front.metrics.requests == {503: 1}


def test_too_many_at_once_are_told_to_come_again(files: list[bytes]) -> None:
    called = Called(delay=0.05, waiting=3)

    async def many() -> list[int]:
        posts = [called.post(files[0], "image/png") for _ in range(10)]
        return [status for status, _ in await asyncio.gather(*posts)]

    statuses = asyncio.run(many())
    assert statuses.count(200) == 3
    assert statuses.count(503) == 7
    assert called.front.metrics.requests == {200: 3, 503: 7}
    assert called.open == called.front.waiting == 0


def test_a_worker_that_is_silent_or_fails_is_told_of(files: list[bytes]) -> None:
    assert Called(delay=5, patience=0.02)(files[0], "image/png")[0] == 503
    failing = Called(row={"error": "it returns NaN"})
    assert failing(files[0], "image/png") == (500, {"error": "it returns NaN"})


def test_a_batch_is_answered_as_one_by_one(saved, pictures: np.ndarray) -> None:
    system = load(saved)
    asked = [Asked(image.numpy()) for image in FORM.batch(pictures)]
    rows = answer(system, asked, 60.0, Pace(32))
    assert [row["label"] for row in rows] == system.predict(pictures).label
    assert not any(row["timed_out"] for row in rows)


def test_a_budget_too_small_for_any_answer_abstains_in_time(saved, pictures: np.ndarray) -> None:
    system, asked = load(saved), [Asked(image.numpy()) for image in FORM.batch(pictures)]
    began = time.monotonic()
    rows = answer(system, asked, 1e-6, Pace(32))
    assert time.monotonic() - began < 10
    assert all(row["timed_out"] and row["abstained"] and row["label"] is None for row in rows)


def test_a_batch_is_all_that_waits_whatever_the_time() -> None:
    class Slow(queue.Queue):
        """Hands over a request every 20 ms, as a queue between busy processes does."""

        def get(self, *how, **more):
            time.sleep(0.02)
            return super().get(*how, **more)

    waiting, loop, api = (
        Slow(),
        FullBatches(),
        SimpleNamespace(max_batch_size=8, batch_timeout=0.01),
    )
    loop._restart_workers = False
    for i in range(11):
        waiting.put((0, f"u{i}", 0.0, i))
    sizes = [
        [image for _, _, image in loop.get_batch_requests(api, waiting, None)[0]] for _ in "12"
    ]
    assert sizes == [list(range(8)), list(range(8, 11))]


class PerImage(nn.Module):
    """A core that takes as long as it has images, and as a stage two passes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.008 * len(x))
        return torch.ones(len(x), 10).cumsum(1)


def test_a_burst_that_takes_too_long_at_once_is_answered_in_smaller_parts() -> None:
    stage = Stage(PerImage(), SoftmaxResponse(0.99), "never")
    system = System("s", Cascade((stage,), Core(PerImage(), "core"), BUDGET), LABELS, FORM)
    asked = [Asked(np.zeros((1, 8, 8), dtype=np.float32)) for _ in range(32)]
    pace = Pace(32)
    first = answer(system, asked, 0.2, pace)  # 0.26 s for the stage, then no time for the core
    assert all(row["timed_out"] and row["label"] is None for row in first)
    assert pace.rows < 32
    for _ in range(6):  # a busy machine may be late once more
        later = answer(system, asked, 0.2, pace)
        if not any(row["timed_out"] for row in later):
            break
    assert [row["label"] for row in later] == [9] * 32


def test_a_pace_quickens_where_there_is_time() -> None:
    pace = Pace(32)
    pace.note(32, late=True, spent=1.0)
    pace.note(3, late=True, spent=1.0)
    assert pace.rows == 1
    for _ in range(4):
        pace.note(pace.rows, late=False, spent=0.1)
    assert pace.rows == 16
    pace.note(2, late=False, spent=0.1)  # a small batch says nothing of larger ones
    pace.note(16, late=False, spent=0.5)
    assert pace.rows == 16


class Silent(nn.Module):
    """A core that has no answer for black images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        black = x.flatten(1).amax(1, keepdim=True) == 0
        return torch.ones(len(x), 10).cumsum(1).masked_fill(black, torch.nan)


def test_one_bad_image_fails_alone() -> None:
    system = System("s", Cascade((), Core(Silent(), "core"), BUDGET), LABELS, FORM)
    images = [np.full((1, 8, 8), v, dtype=np.float32) for v in (0.5, 0.0, 0.7)]
    rows = answer(system, [Asked(image) for image in images], 60.0, Pace(32))
    assert [row.get("label") for row in rows] == [9, None, 9]
    assert "NaN" in rows[1]["error"]
    assert rows[0]["error"] is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": "example.org"}, "none to listen on"),
        ({"port": 80}, "not between 1024"),
        ({"workers": 0}, "1 or more"),
        ({"budget_ms": 0.0}, "no time to answer"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Serving(**settings)


def test_a_port_in_use_is_refused() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} on 127.0.0.1 is in use"):
            require_free(Serving(port=port))


def test_a_request_is_written_without_its_pixels() -> None:
    # LitServe writes each one, whether or not its log is read.
    assert len(repr(Asked(np.zeros((3, 32, 32), np.float32)))) < 40
