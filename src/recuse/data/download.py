"""Files of data sets from their authors: over https, whole and as published, or not at all."""

import hashlib
import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recuse.data.cifar import CIFAR10_ARCHIVE, CIFAR100_ARCHIVE
from recuse.errors import DataError
from recuse.progress import Progress, silent

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Download:
    """A published file.

    Attributes:
        url: Where its authors publish it.
        sha256: Of the file.
        size: In bytes.
    """

    url: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """Its name, in the data folder too."""
        return self.url.rpartition("/")[2]


DOWNLOADS = {
    "cifar10": Download(
        f"https://www.cs.toronto.edu/~kriz/{CIFAR10_ARCHIVE.tar}",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        170_498_071,
    ),
    "cifar100": Download(
        f"https://www.cs.toronto.edu/~kriz/{CIFAR100_ARCHIVE.tar}",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        169_001_437,
    ),
}
# What is not fetched, because its authors publish it in another form than the one that is read.
BY_HAND = {
    "gtsrb": "take the images of https://benchmark.ini.rub.de and write gtsrb_train.parquet and "
    "gtsrb_test.parquet with columns img (the file), label, the box x1, y1, x2, y2, and track",
    "mnist": "take the images of https://huggingface.co/datasets/ylecun/mnist (parquet, image and "
    "label) as mnist_train.parquet and mnist_test.parquet",
}


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_https(url: str) -> Any:
    """Open an address, and what it redirects to, over https alone.

    Raises:
        OSError: Another scheme, no connection, or no such file.
    """
    if not url.startswith("https://"):
        raise urllib.error.URLError(f"{url} is not https")
    return urllib.request.build_opener(_HttpsOnly).open(url, timeout=_TIMEOUT_S)


def fetch(wanted: Download, folder: Path, *, progress: Progress = silent) -> Path:
    """Download a file, unless it is there already.

    It has its name only when it is whole and as published.

    Args:
        wanted: The file.
        folder: Where it shall lie.
        progress: Told after every megabyte.

    Raises:
        DataError: No connection, or another file than the published one.
    """
    path = folder / wanted.file
    if path.exists():
        with path.open("rb") as file:
            _check(wanted, hashlib.file_digest(file, "sha256").hexdigest(), str(path))
        return path
    partial = path.with_name(f"{path.name}.partial")
    try:
        digest = _stream(wanted, partial, progress)
        _check(wanted, digest, wanted.url)
        partial.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{wanted.url} cannot be downloaded: {reason}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _stream(wanted: Download, partial: Path, progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    with open_https(wanted.url) as response, partial.open("wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(f"download {wanted.file}", min(done, wanted.size), wanted.size)
    return digest.hexdigest()


def _check(wanted: Download, found: str, where: str) -> None:
    if found != wanted.sha256:
        raise DataError(
            f"{where} has SHA-256 {found}, published is {wanted.sha256}; it is not used"
        )


def instructions(name: str, folder: Path | None) -> tuple[str, ...]:
    """How to get a data set by hand, a line a step.

    Raises:
        DataError: A data set that needs no files, or an unknown one.
    """
    place = str(folder) if folder else "a folder, and name it by the variable RECUSE_DATA"
    show = f"look at it: recuse data show {name}"
    if name in BY_HAND:
        return (f"{BY_HAND[name]}", f"put them into {place}", show)
    if name not in DOWNLOADS:
        known = ", ".join([*DOWNLOADS, *BY_HAND])
        raise DataError(f"data set {name!r} has no files to get; known: {known}")
    wanted = DOWNLOADS[name]
    return (
        f"download {wanted.url} ({wanted.size:,} bytes)",
        f"compare: sha256sum {wanted.file} gives {wanted.sha256}",
        f"put it into {place}, packed or unpacked",
        show,
    )


__all__ = ["BY_HAND", "DOWNLOADS", "Download", "fetch", "instructions", "open_https"]
