"""A system over HTTP against the same system asked directly, in batches of 32.

Traffic signs (this project's own networks behind a robustness indicator), sent as PNG by so many
connections at once, answered by one worker with one thread; the front has the other core. Ours is
the server's seconds an image, the anchor those of ``System.predict``, both by the wall, so that a
row means something only where the load (in the JSON) is low. Latencies are those of a loaded
server, the time in its queue included. The first prediction is a new process, imports included.
"""

import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from harness import Row, options, report
from recuse.attacks import Apgd
from recuse.composition import Cascade, Core, Stage
from recuse.data import Gtsrb, find_data_root
from recuse.integrations.sources import load_model
from recuse.recipes.gallery import png_bytes
from recuse.selectors import RobustnessIndicator
from recuse.systems import InputForm, System, load
from recuse.systems.folder import save
from recuse.threat import Threat

STAGE, CORE = "recuse:gtsrb-trades-2", "recuse:gtsrb-core"
BUDGET = Threat("linf", "2/255")
RECUSE = str(Path(sys.executable).with_name("recuse"))
STARTING_S, BATCH = 60.0, 32


def built(folder: Path, labels: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Write the system."""
    (stage, stage_card), (core, core_card) = load_model(STAGE), load_model(CORE)
    indicator = RobustnessIndicator(BUDGET, Apgd(steps=39))
    members = (Stage(stage, indicator, "stage", stage_card),)
    cascade = Cascade(members, Core(core, "core", core_card), BUDGET)
    save(System("signs", cascade, labels, InputForm(shape[0], (shape[1], shape[2]))), folder)


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """The port of a server that runs as long as the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = ["serve", str(folder), "--port", str(port), "--budget-ms", "600000"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([RECUSE, *words], stdout=quiet, stderr=quiet, start_new_session=True)
    end = time.monotonic() + STARTING_S
    try:
        while asked(port, "GET", "/health")[0] != 200:
            if time.monotonic() > end:
                raise SystemExit("the server did not start")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def asked(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, float]:
    """Status and seconds of one request; status 0 where nobody listens."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request(method, path, body, {"Content-Type": "image/png"} if body else {})
        status = connection.getresponse()
        status.read()
        return status.status, time.perf_counter() - began
    except OSError:
        return 0, 0.0
    finally:
        connection.close()


def first_prediction(folder: Path, image: bytes) -> float:
    """Seconds of a new process that answers one image, the median of three."""
    path = folder.parent / "image.png"
    path.write_bytes(image)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([RECUSE, "predict", folder, path], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def run(images: int, connections: int) -> list[Row]:
    split = Gtsrb().load(find_data_root()).test.head(images)
    sent = [png_bytes(image) for image in split.images]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "signs"
        built(folder, split.label_names, split.shape)
        first = first_prediction(folder, sent[0])
        system = load(folder)
        system.predict(sent[:BATCH])
        began = time.perf_counter()
        for start in range(0, images, BATCH):
            system.predict(sent[start : start + BATCH])
        bare = (time.perf_counter() - began) / images
        with served(folder) as port, ThreadPoolExecutor(connections) as crowd:
            list(crowd.map(lambda body: asked(port, "POST", "/predict", body), sent[:BATCH]))
            began = time.perf_counter()
            found = list(crowd.map(lambda body: asked(port, "POST", "/predict", body), sent))
            wall = (time.perf_counter() - began) / images
    if {status for status, _ in found} != {200}:
        raise SystemExit("a request was not answered")
    waits = sorted(seconds for _, seconds in found)
    detail = {
        "images": images,
        "connections": connections,
        "requests_per_second": round(1 / wall, 1),
        "p50_seconds": round(waits[len(waits) // 2], 3),
        "p99_seconds": round(waits[int(len(waits) * 0.99)], 3),
        "networks": [STAGE, CORE],
    }
    # The goal is at most a tenth more: a ratio of bare to served of at least 1 / 1.1.
    return [
        Row("serving over HTTP, seconds an image", wall, bare, bare / wall, 1 / 1.1, detail=detail),
        Row("first prediction of a new process, seconds", first, 3.0, 3.0 / first, 1.0),
    ]


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen = options(__doc__ or "")
    chosen.add_argument("--images", type=int, default=1024)
    chosen.add_argument("--connections", type=int, default=64)
    given = chosen.parse_args()
    report(lambda: run(given.images, given.connections), given.threads, given.json)
