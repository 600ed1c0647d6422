"""Images one after the other: from what a person names to rows of answers, in order."""

import glob
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recuse.data.folder import SUFFIXES
from recuse.errors import DataError
from recuse.systems.answers import failed
from recuse.systems.system import System

ROWS = 64
STANDARD_INPUT = "-"
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*", b"P6")
_MAGIC = "*?["

Image = Path | bytes
Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One image that was named.

    Attributes:
        name: As rows call it.
        image: Its file, or its bytes.
    """

    name: str
    image: Image


def sources(names: Iterable[str]) -> Iterator[Source]:
    """The images that were named, as they are found; what a name stands for is not read yet.

    Args:
        names: Files, folders (all images below them), patterns with ``*``, or ``-`` for standard
            input: one image, or names of files, one a line.
    """
    for name in names:
        if name == STANDARD_INPUT:
            yield from _piped()
        else:
            yield from map(_file, _files(name))


def _file(path: Path) -> Source:
    return Source(str(path), path)


def _files(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        yield from found or [path]  # which is then no image
    elif not path.exists() and any(letter in name for letter in _MAGIC):
        yield from map(Path, sorted(glob.glob(name, recursive=True)) or [name])  # noqa: PTH207
    else:
        yield path


def _piped() -> Iterator[Source]:
    stdin = sys.stdin.buffer
    first = stdin.readline()
    if first.startswith(_SIGNATURES) or b"\x00" in first:
        yield Source(STANDARD_INPUT, first + stdin.read())
        return
    for line in (first, *stdin):
        if name := line.decode(errors="replace").strip():
            yield from map(_file, _files(name))


@dataclass(frozen=True, eq=False)
class Answered:
    """A row, and the image behind it where it could be read.

    Attributes:
        row: JSON values, as :meth:`recuse.systems.Answer.row` has them, or ``input``, ``error``.
        image: As the networks take it; None where there is none.
    """

    row: Row
    image: Tensor | None

    @property
    def failed(self) -> bool:
        """The image could not be read."""
        return self.image is None


def answered(
    system: System,
    images: Iterable[Source],
    *,
    seed: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Answered]:
    """Answer images in order, some at a time; what cannot be read gets a row that says so.

    Args:
        system: Who answers.
        images: Read when their turn comes.
        seed: As for :meth:`recuse.systems.System.predict`.
        say: Likewise.
    """
    rest = iter(images)
    while part := list(islice(rest, ROWS)):
        read = [_read(system, source) for source in part]
        found = [image for image in read if isinstance(image, Tensor)]
        answers = iter(system.predict(torch.stack(found), seed=seed, say=say) if found else ())
        for source, image in zip(part, read, strict=True):
            if isinstance(image, Tensor):
                yield Answered(next(answers).row(source.name), image)
            else:
                yield Answered(failed(source.name, image), None)


def _read(system: System, source: Source) -> Tensor | str:
    """The image, or why it cannot be read."""
    try:
        return system.form.batch(source.image)[0]
    except DataError as error:
        return str(error)


__all__ = ["STANDARD_INPUT", "Answered", "Source", "answered", "sources"]
