"""Frozen dataclasses as JSON and back: the config of a run is a value that can be rerun."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from recuse.errors import ConfigError

KIND = "kind"
DEEPEST = 64
Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


def to_plain(value: object) -> Plain:
    """JSON values for a config value; a dataclass becomes a dict that names its class.

    Args:
        value: Dataclasses, enums, paths, mappings, sequences and JSON scalars, nested freely.

    Returns:
        JSON values; tuples become lists.

    Raises:
        TypeError: A value of any other type.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {KIND: type(value).__name__} | {
            f.name: to_plain(getattr(value, f.name)) for f in fields(value)
        }
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, Iterable):
        return [to_plain(entry) for entry in value]
    raise TypeError(f"a config cannot hold {type(value).__name__}: {value!r}")


def from_plain(plain: Plain, classes: Mapping[str, type]) -> Any:
    """Invert :func:`to_plain`: ``from_plain(to_plain(config), classes) == config``.

    Args:
        plain: JSON values.
        classes: The dataclasses that may occur, by class name.

    Returns:
        The value; lists become tuples.

    Raises:
        ConfigError: An unknown class name or a field the class does not have.
    """
    if isinstance(plain, list):
        return tuple(from_plain(entry, classes) for entry in plain)
    if not isinstance(plain, dict):
        return plain
    entries = {key: from_plain(entry, classes) for key, entry in plain.items() if key != KIND}
    if KIND not in plain:
        return entries
    kind = plain[KIND]
    if kind not in classes:
        raise ConfigError(f"config names {kind!r}, which is unknown; known: {sorted(classes)}")
    try:
        return classes[kind](**entries)
    except TypeError as error:
        raise ConfigError(f"config of {kind!r} does not fit this version: {error}") from error


def parse_json(text: str | bytes) -> Plain:
    """JSON values, not nested so deep that walking through them fails.

    Raises:
        ValueError: Not JSON, or nested deeper than 64 levels.
    """
    try:
        found: Plain = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    level: list[Plain] = [found]
    for _ in range(DEEPEST):
        level = [below for value in level for below in _inside(value)]
        if not level:
            return found
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def _inside(value: Plain) -> Iterable[Plain]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
