"""Where a run may lie beside this machine's disk: any URL that fsspec reads and writes.

:class:`RemotePath` is a ``pathlib.Path`` whose files are objects behind a URL, so that what
reads and writes run folders is written once. What hands a path to the operating system is
refused in one sentence instead of writing into a local folder of that name. Nothing is imported
for local paths.

A file appears whole or not at all: an object store takes it in one request; elsewhere it is
written beside and moved. A request that fails for a reason that may pass (a server that restarts,
a lost connection) is made again with growing pauses, as long as ``PATIENCE_S``.
"""

import functools
import io
import logging
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from recuse.errors import ConfigError, OutageError, RecordError

T = TypeVar("T")
PATIENCE_S = 60.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
# Pauses from which on it is said, once, that a store is waited for.
TOLD_PAUSE_S = 1.0
URL = re.compile(r"[a-z][a-z0-9+.:-]+://.+")
# Of these, a file is an object and a folder what the names of objects begin with.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"}
# Extras of this package by what fsspec calls a URL.
EXTRAS = {"s3": "s3", "s3a": "s3"}
# Of the call itself, or what pathlib would say; all else may be the network's and may pass.
_LASTING = (ValueError, TypeError, NotImplementedError, ImportError, PermissionError)
_LASTING_NAMES = re.compile("Credential|Auth|Profile|Param|Region")
_TOLD = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_LOG = logging.getLogger(__name__)


class RemotePath(PosixPath):
    """A file or folder behind a URL, such as ``s3://bucket/run``; build it by :func:`place`.

    Raises:
        RecordError: On reading and writing, where the store refuses.
        OutageError: Where it did not answer for ``PATIENCE_S``.
    """

    def __str__(self) -> str:
        """The URL."""
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        raise ConfigError(
            f"{self} is a URL where a local file is needed; run folders and folders of records "
            "may be URLs"
        )

    def absolute(self) -> "RemotePath":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "RemotePath":
        """Itself."""
        return self

    def expanduser(self) -> "RemotePath":
        """Itself."""
        return self

    def is_file(self, **_: Any) -> bool:
        """Whether there is a file of this name."""
        return self._kind() == "file"

    def is_dir(self, **_: Any) -> bool:
        """Whether anything lies below this name."""
        return self._kind() == "directory"

    def exists(self, **_: Any) -> bool:
        """Whether there is a file or a folder of this name."""
        return bool(self._kind())

    def stat(self, **_: Any) -> os.stat_result:
        """Its size, and nothing else."""
        size = int(self._asked(lambda system, path: system.info(path))["size"] or 0)
        return os.stat_result((0, 0, 0, 0, 0, 0, size, 0, 0, 0))

    def iterdir(self) -> "Generator[RemotePath, None, None]":
        """What lies in the folder, by name."""
        found = self._asked(lambda system, path: (path, system.ls(path, detail=False)))
        own = found[0].rstrip("/")
        entries = {entry.rstrip("/") for entry in found[1]} - {own}  # a store may list itself
        yield from sorted(self / entry.rpartition("/")[2] for entry in entries)

    def glob(self, pattern: str) -> "Iterator[RemotePath]":  # type: ignore[override]
        """What lies below and matches, one pattern a level."""
        first, _, rest = pattern.partition("/")
        entries: list[RemotePath] = []
        with suppress(*_TOLD):
            entries = [e for e in self.iterdir() if fnmatchcase(e.name, first)]
        for entry in entries:
            if rest:
                yield from entry.glob(rest)
            else:
                yield entry

    def rglob(self, pattern: str) -> "Iterator[RemotePath]":  # type: ignore[override]
        """What lies below, at any depth, and matches."""
        yield from self.glob(pattern)
        for entry in self.glob("*"):
            yield from entry.rglob(pattern)

    def read_bytes(self) -> bytes:
        """The whole file."""
        return bytes(self._asked(lambda system, path: system.cat_file(path)))

    def open(  # type: ignore[override]
        self, mode: str = "r", *_: Any, **text: Any
    ) -> io.BytesIO | io.TextIOWrapper:
        """The whole file, to be read."""
        if not set(mode) <= set("rbt"):
            raise io.UnsupportedOperation(f"{self} is written whole; {mode!r} is not supported")
        data = io.BytesIO(self.read_bytes())
        return data if "b" in mode else io.TextIOWrapper(data, text.get("encoding") or "utf-8")

    def write_bytes(self, data: Any) -> int:
        """Write the file, whole or not at all."""
        partial = f".{self.name}.{os.getpid()}.partial"

        def write(system: Any, path: str) -> None:
            if self.in_object_store:
                system.pipe_file(path, bytes(data))
                return
            folder = path.rpartition("/")[0]
            system.makedirs(folder, exist_ok=True)
            system.pipe_file(f"{folder}/{partial}", bytes(data))
            system.mv(f"{folder}/{partial}", path)

        self._asked(write)
        return len(data)

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Nothing: folders come with the files in them."""

    def rmdir(self) -> None:
        """Remove an empty folder, where there is such a thing."""
        if not self.in_object_store:
            system, path = self._located(str(self))
            system.rmdir(path)  # once: that it is not empty does not pass

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        with suppress(*_TOLD if missing_ok else ()):
            self._asked(lambda system, path: system.rm_file(path))

    def replace(self, target: Any) -> "RemotePath":
        """Give the file another name: a copy, and then the removal of this one."""
        other = self._located(str(target))[1]
        self._asked(lambda system, path: system.cp_file(path, other))
        self.unlink()
        return self.with_segments(target)

    rename = replace

    def with_segments(self, *segments: Any) -> "RemotePath":
        """A path of this kind."""
        return type(self)(*segments)

    @property
    def in_object_store(self) -> bool:
        """Whether a write is whole or nothing, and folders are no more than names."""
        return self.parts[0].removesuffix(":") in OBJECT_STORES

    def _kind(self) -> str:
        try:
            # No isfile: it takes every failure for the absence of the file.
            return str(self._asked(lambda system, path: system.info(path))["type"])
        except _TOLD:
            return ""

    def _asked(self, ask: Callable[[Any, str], T]) -> T:
        """The store's answer, waited for while what keeps it away may pass."""
        system, path = self._located(str(self))
        until, pause = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
        while True:
            try:
                return ask(system, path)
            except _TOLD:
                raise
            except Exception as error:  # each store raises its own
                why = " ".join(str(error).split()) or type(error).__name__
                if isinstance(error, _LASTING) or _LASTING_NAMES.search(type(error).__name__):
                    raise RecordError(
                        f"{self} cannot be used ({why}); check the URL, and the credentials in the "
                        "environment or in fsspec's configuration"
                    ) from error
                if time.monotonic() + pause > until:
                    raise OutageError(
                        f"{self} did not answer for {PATIENCE_S:.0f} s ({why}); what is finished "
                        "is kept, and the same command goes on from there"
                    ) from error
            if pause <= TOLD_PAUSE_S < 2 * pause:
                said = "%s does not answer (%s); it is asked again for %.0f s"
                _LOG.warning(said, self, why, until - time.monotonic())
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    @staticmethod
    def _located(url: str) -> tuple[Any, str]:
        system, path = _system(url)
        return system, str(path)


@functools.lru_cache(maxsize=4096)
def _system(url: str) -> tuple[Any, str]:
    """What fsspec reads a URL with, and what it calls the file there."""
    scheme = url.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        # What another process has written since must be seen.
        found: tuple[Any, str] = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        remedy = f"pip install 'recuse[{EXTRAS[scheme]}]'" if scheme in EXTRAS else str(error)
        raise ConfigError(f"{url} needs a package that is not installed: {remedy}") from error
    except Exception as error:  # each store raises its own
        raise ConfigError(f"{url} cannot be opened: {error}") from error
    return found


def place(text: str | Path) -> Path:
    """A path, of this machine or behind a URL that has a scheme such as ``s3://``.

    Raises:
        ConfigError: A scheme that nothing installed reads.
    """
    if isinstance(text, Path) or not URL.fullmatch(text):
        return Path(text) if isinstance(text, str) else text
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    found = RemotePath(text)
    if not str(found) == text.rstrip("/") and not text.startswith("memory://"):
        raise ConfigError(f"{text} cannot be used: name its host or bucket, and no empty folders")
    _system(text)
    return found


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """The file itself where it lies on this machine, else a copy that does, for the block."""
    if not isinstance(path, RemotePath):
        yield path
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


__all__ = ["RemotePath", "local_copy", "place"]
