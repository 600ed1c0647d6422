"""JSON files that notice when they were damaged, or written by a newer version."""

import hashlib
import json
from pathlib import Path
from typing import Any

from recuse.errors import RecordError
from recuse.serialize import parse_json

# 1 had no checksums.
FORMAT = 2
LARGEST_BYTES = 1 << 24
REPAIR = "run the command that wrote it again with --repair, or after deleting the file"


class DamagedError(RecordError):
    """A file of a record that nobody wrote like this; a repair may drop it."""

    def __init__(self, path: Path, why: object, remedy: str = REPAIR) -> None:
        first = (str(why).splitlines() or [type(why).__name__])[0]  # some libraries say more
        super().__init__(f"{path} is damaged ({first}); {remedy}")


class GoneError(RecordError):
    """A file that was there when its folder was listed."""


def checksum(data: bytes) -> str:
    """16 hex digits over bytes: enough against accidents, not against forgers."""
    return hashlib.sha256(data).hexdigest()[:16]


def sealed(fields: dict[str, Any]) -> bytes:
    """Fields as JSON together with the format's number and a checksum over all of it."""
    numbered = fields | {"format": FORMAT}
    whole = numbered | {"checksum": checksum(_canonical(numbered))}
    return json.dumps(whole, sort_keys=True, indent=1).encode()


def unsealed(path: Path) -> dict[str, Any]:
    """The fields of a sealed file, or of one of before there were seals.

    Raises:
        DamagedError: Not such a file, or not as it was written.
        RecordError: Written by a newer version, or cannot be read.
    """
    data = read_bytes(path, LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise DamagedError(path, f"larger than {LARGEST_BYTES >> 20} MiB")
    return opened(data, path)


def opened(data: str | bytes, path: Path) -> dict[str, Any]:
    """The fields that were sealed as ``data``, which comes from ``path``.

    Raises:
        DamagedError: Not such fields, or not as they were written.
        RecordError: Written by a newer version.
    """
    fields = _fields(data, path)
    number, seal = fields.pop("format", 1), fields.pop("checksum", None)
    if type(number) is not int or number < 1:
        raise DamagedError(path, f"format {number!r} is not a number from 1")
    if number > FORMAT:
        raise RecordError(
            f"{path} was written by a newer version of recuse (format {number}, this one reads up "
            f"to {FORMAT}); update recuse"
        )
    if seal != (None if number == 1 else checksum(_canonical(fields | {"format": number}))):
        raise DamagedError(
            path,
            "it does not match its checksum; if it was edited by hand, delete its entries "
            '"checksum" and "format" to accept it as it is',
        )
    return fields


def _fields(data: str | bytes, path: Path) -> dict[str, Any]:
    try:
        fields = parse_json(data)
    except ValueError as error:
        raise DamagedError(path, error) from error
    if not isinstance(fields, dict):
        raise DamagedError(path, "a JSON object is expected")
    return fields


def read_bytes(path: Path, most: int = -1) -> bytes:
    """A file of a record, or its first ``most`` bytes.

    Raises:
        GoneError: There is none.
        RecordError: It cannot be read, which is no damage.
    """
    try:
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError as error:
        raise GoneError(f"cannot read {path}: it is not there") from error
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True).encode()


__all__ = [
    "FORMAT",
    "DamagedError",
    "GoneError",
    "checksum",
    "opened",
    "read_bytes",
    "sealed",
    "unsealed",
]
