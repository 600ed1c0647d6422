"""Files of data sets come whole and as published, or not at all."""

import hashlib
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from recuse.cli.main import main
from recuse.data import Cifar10, cifar, download, source
from recuse.data.cifar import Archive
from recuse.data.download import DOWNLOADS, Download, fetch, instructions, open_https
from recuse.data.sources import missing_files
from recuse.errors import DataError

from .test_sources import official  # noqa: F401  a fixture

BODY = bytes(range(256)) * 9000
FILE = Download("https://example.org/set.tar.gz", hashlib.sha256(BODY).hexdigest(), len(BODY))


class Site(BaseHTTPRequestHandler):
    body = BODY
    claimed = len(BODY)

    def do_GET(self) -> None:
        if "set.tar.gz" not in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.claimed))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Site]]:
    """A local server in the place of every https site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Site,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    local = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def opened(url: str) -> object:
        assert url.startswith("https://example.org")
        return local.open(url.replace("https://example.org", here), timeout=5)

    monkeypatch.setattr(download, "open_https", opened)
    yield server.RequestHandlerClass
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once_and_checked(site: type[Site], tmp_path: Path) -> None:
    seen: list[int] = []
    path = fetch(FILE, tmp_path, progress=lambda task, done, total, note="": seen.append(done))
    assert path == tmp_path / "set.tar.gz"
    assert path.read_bytes() == BODY
    assert seen[-1] == len(BODY)
    site.body = b""
    assert fetch(FILE, tmp_path) == path
    path.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match=r"set\.tar\.gz has SHA-256 .* it is not used"):
        fetch(FILE, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "url", "says"),
    [
        ({"body": BODY[::-1]}, FILE.url, "has SHA-256"),
        ({"body": BODY[:5000]}, FILE.url, "cannot be downloaded|has SHA-256"),
        ({"body": b"", "claimed": 0}, FILE.url, "has SHA-256"),
        ({}, "https://example.org/nothing", "cannot be downloaded: Not Found"),
    ],
)
def test_anything_else_leaves_nothing(
    site: type[Site], tmp_path: Path, change: dict[str, object], url: str, says: str
) -> None:
    for name, value in change.items():
        setattr(site, name, value)
    with pytest.raises(DataError, match=says):
        fetch(replace(FILE, url=url), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_comes_over_an_open_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not https"):
        fetch(replace(FILE, url="http://example.org/set.tar.gz"), tmp_path)
    request = urllib.request.Request(FILE.url)
    with pytest.raises(urllib.error.URLError, match="redirects to http://x, which is not"):
        download._HttpsOnly().redirect_request(request, None, 302, "", {}, "http://x")
    assert all(wanted.url.startswith("https://") for wanted in DOWNLOADS.values())
    with pytest.raises(urllib.error.URLError):
        open_https("file:///etc/hostname")


def test_get_downloads_or_says_how(
    site: type[Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(DOWNLOADS, "cifar10", FILE)
    main(["data", "get", "cifar10", "--data-root", str(tmp_path)])
    assert "next: recuse data show cifar10" in capsys.readouterr().out
    (tmp_path / "set.tar.gz").unlink()
    site.body = b"something else"
    site.claimed = len(site.body)
    monkeypatch.delenv("RECUSE_DATA", raising=False)
    cases = {
        ("cifar10", "--data-root", str(tmp_path)): "has SHA-256",
        ("cifar10",): "no data folder",
        ("mnist", "--data-root", str(tmp_path)): "get it by hand",
    }
    for words, says in cases.items():
        with pytest.raises(SystemExit) as stop:
            main(["data", "get", *words])
        told = capsys.readouterr()
        assert stop.value.code == 2
        assert says in told.err
        assert told.err.count("\n") == 1
        assert f"recuse data show {words[0]}" in told.out.splitlines()[-1]
    with pytest.raises(SystemExit):
        main(["data", "get", "digits"])
    assert "has no files to get; known: cifar10" in capsys.readouterr().err
    for expected in (FILE.url, FILE.sha256, str(tmp_path), "sha256sum set.tar.gz"):
        assert any(expected in step for step in instructions("cifar10", tmp_path))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "downloads"])
def test_the_official_archive_is_found_by_itself(
    official: tuple[Archive, np.ndarray],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    packed: bool,
    below: str,
) -> None:
    archive, _ = official
    monkeypatch.setattr(cifar, "CIFAR10_ARCHIVE", archive)
    root = tmp_path / "data"
    place = root / below
    place.mkdir(parents=True)
    assert source("cifar10", root) == Cifar10()
    assert missing_files("cifar10", root)
    if packed:
        with tarfile.open(place / archive.tar, "w:gz") as tar:
            tar.add(tmp_path / archive.folder, archive.folder)
    else:
        (tmp_path / archive.folder).rename(place / archive.folder)
    found = source("cifar10", root)
    assert found == Cifar10("official", "official")
    assert len(found.load_test(root)) == 10
    assert missing_files("cifar10", root) == ()
    for file in ("cifar10_jpeg_train.parquet", "cifar10_lossless_test.parquet"):
        (root / file).touch()
    assert source("cifar10", root) == Cifar10()
    with pytest.raises(DataError, match="unknown"):
        source("nothing", root)
