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
REPAIR = "run the command that wrote it again with --repair"


class NewerFormatError(RecordError):
    """Written by a newer version: no damage, and nothing to repair."""


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
        RecordError: Not such a file, damaged, or written by a newer version.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"larger than {LARGEST_BYTES >> 20} MiB")
        fields = parse_json(path.read_bytes())
        if not isinstance(fields, dict):
            raise ValueError("a JSON object is expected")
        number, seal = fields.pop("format", 1), fields.pop("checksum", None)
        if type(number) is not int or number < 1:
            raise ValueError(f"format {number!r} is not a number from 1")
        if number == 1 and seal is not None:
            raise ValueError("it has a checksum and no format")
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is damaged ({error}); {REPAIR}") from error
    if number > FORMAT:
        raise NewerFormatError(
            f"{path} was written by a newer version of recuse (format {number}, this one reads up "
            f"to {FORMAT}); update recuse"
        )
    if number > 1 and seal != checksum(_canonical(fields | {"format": number})):
        raise RecordError(
            f"{path} does not match its checksum: it is damaged or was edited by hand; {REPAIR}, "
            'or delete its entries "checksum" and "format" to accept it as it is'
        )
    return fields


def _canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True).encode()


__all__ = ["FORMAT", "REPAIR", "NewerFormatError", "checksum", "sealed", "unsealed"]
