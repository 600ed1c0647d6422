"""The file of composition rates that ``compose`` and ``attack`` share and reports read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recuse.errors import ConfigError, RecordError
from recuse.radius import format_radius, parse_radius
from recuse.records.store import write_atomically
from recuse.report.run_folder import read_json

# Of the adversary, which counting again must not lose.
_ATTACKED = ("attacked", "images")

Entry = Mapping[str, Any]
Key = tuple[str, str, str]


def read_compositions(path: Path) -> dict[Key, Entry]:
    """Entries by name, eps and kind, in the order of the file; none where there is no file.

    Raises:
        RecordError: Not such a file.
    """
    try:
        return {_key(entry): entry for entry in read_json(path) or []}
    except (AttributeError, KeyError, TypeError, ConfigError) as error:
        raise RecordError(
            f"{path} does not hold the rates of compositions; choose another file or delete it"
        ) from error


def keep_compositions(path: Path, entries: Sequence[Entry]) -> None:
    """Put entries into the file, where other compositions and radii stay.

    So does what an attack found on a composition that is only counted anew.

    Raises:
        RecordError: The file holds something else, or cannot be written.
    """
    kept = read_compositions(path)
    for entry in entries:
        old = kept.pop(_key(entry), {})
        kept[_key(entry)] = {k: old[k] for k in _ATTACKED if k in old} | dict(entry)
    text = json.dumps([dict(entry) for entry in kept.values()], indent=1, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())


def _key(entry: Entry) -> Key:
    """Name, eps in one spelling, and what the selectors rest on (attacks unless it says)."""
    eps = format_radius(parse_radius(entry["eps"]))
    return str(entry["name"]), eps, str(entry.get("kind", "robust"))
