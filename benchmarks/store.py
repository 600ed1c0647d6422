"""An S3 server that may be killed at any moment and begun again: for ``soak.py``.

The server is moto's, which keeps everything in its memory. So each request that changes something
is first a file of a journal, and a server that is begun again carries out its journal before it
listens: as of a store on disks, nothing that was answered is ever lost.
"""

import base64
import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST, BUCKET, BEGUN_S = "127.0.0.1", "soak", 60.0


@dataclass
class Store:
    """The server as its user sees it: a bucket that is there, or does not answer.

    Attributes:
        journal: Folder of its own.
        port: Where it listens.
    """

    journal: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.port}",
        }

    def empty(self) -> None:
        """Begin with nothing but the bucket."""
        self.kill()
        self.journal.mkdir(exist_ok=True)
        for path in self.journal.iterdir():
            path.unlink()
        self.begin()
        made = urllib.request.Request(f"http://{HOST}:{self.port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()

    def begin(self) -> None:
        """Start it; it listens when this returns, and ends with this process."""
        words = [sys.executable, __file__, str(self.journal), str(self.port)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
        until = time.monotonic() + BEGUN_S
        while True:
            try:
                return socket.create_connection((HOST, self.port), 1.0).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the S3 server does not start") from None
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a failing machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self, most_s: float) -> None:
        """Kill it, and begin it again after a while of at most so many seconds."""
        self.kill()
        time.sleep(random.uniform(0, most_s))
        self.begin()


class Journal:
    """A WSGI application that keeps what it is asked to change, and then asks another."""

    def __init__(self, application: Any, folder: Path) -> None:
        self.application, self.folder, self.kept = application, folder, 0
        self.one_after_the_other = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        from werkzeug.wrappers import Request

        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self.application(environ, start_response)
        body = Request(environ).get_data()
        asked = {key: value for key, value in environ.items() if isinstance(value, str)}
        asked.pop("HTTP_TRANSFER_ENCODING", None)  # what came in pieces is whole now
        asked["CONTENT_LENGTH"] = str(len(body))
        with self.one_after_the_other:
            entry = json.dumps([asked, base64.b64encode(body).decode()])
            path = self.folder / f"{self.kept:06d}-{environ['REQUEST_METHOD']}"
            beside = self.folder.with_suffix(".partial")
            beside.write_text(entry)
            beside.replace(path)
            self.kept += 1
            return self.application({**environ, **_asked(asked, body)}, start_response)

    def replay(self) -> None:
        """Carry out everything again."""
        from werkzeug.test import run_wsgi_app

        for path in sorted(self.folder.iterdir()):
            asked, body = json.loads(path.read_text())
            run_wsgi_app(self.application, _asked(asked, base64.b64decode(body)), buffered=True)
            self.kept += 1


def _asked(asked: dict[str, str], body: bytes) -> dict[str, Any]:
    return {
        **asked,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def serve(folder: Path, port: int) -> None:
    """Answer until killed, or until whoever began this is gone."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    journal = Journal(DomainDispatcherApplication(create_backend_app), folder)
    journal.replay()
    server = make_server(HOST, port, journal, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
