"""Frozen dataclasses as JSON and back: the config of a run is a value that can be rerun."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Protocol, Union, get_args, get_origin, get_type_hints

from recuse.errors import ConfigError

KIND = "kind"
DEEPEST = 64
_NUMBERS: dict[Any, type | tuple[type, ...]] = {int: int, float: (int, float)}
Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


def to_plain(value: object) -> Plain:
    """JSON values for a config value; a dataclass becomes a dict that names its class.

    Fields by which values are not compared are no part of it.

    Args:
        value: Dataclasses, enums, paths, mappings, sequences and JSON scalars, nested freely.

    Returns:
        JSON values; tuples become lists.

    Raises:
        TypeError: A value of any other type.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {KIND: type(value).__name__} | {
            f.name: to_plain(getattr(value, f.name)) for f in fields(value) if f.compare
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
        ConfigError: An unknown class name, a field the class does not have, or a value of another
            type than the field's.
    """
    if isinstance(plain, list):
        return tuple(from_plain(entry, classes) for entry in plain)
    if not isinstance(plain, dict):
        return plain
    entries = {key: from_plain(entry, classes) for key, entry in plain.items() if key != KIND}
    if KIND not in plain:
        return entries
    kind = plain[KIND]
    if not isinstance(kind, str) or kind not in classes:
        raise ConfigError(f"config names {kind!r}, which is unknown; known: {sorted(classes)}")
    hints = get_type_hints(classes[kind])
    for name, value in entries.items():
        if not _fits(value, hints.get(name)):
            wanted = str(hints[name]).removeprefix("<class '").removesuffix("'>")
            raise ConfigError(f"{name!r} of {kind!r} must be {wanted}, got {value!r:.80}")
    try:
        return classes[kind](**entries)
    except TypeError as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"config of {kind!r} does not fit this version: {first}") from error


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type, as far as JSON and dataclasses go; other types take any."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, kind) for kind in inside)
    if origin is Literal:
        return value in inside
    if origin is tuple:
        return isinstance(value, tuple) and _all_fit(value, inside)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(v, inside[1]) for v in value.values())
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    if hint in (str, bool, NoneType) or (isinstance(hint, type) and is_dataclass(hint)):
        return isinstance(value, hint)
    contract = Protocol in getattr(hint, "__bases__", ())
    return is_dataclass(value) or not contract


def _all_fit(values: tuple[object, ...], kinds: tuple[Any, ...]) -> bool:
    if kinds[-1] is ...:
        return all(_fits(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(map(_fits, values, kinds))


def parse_json(text: str | bytes) -> Plain:
    """JSON values, not nested so deep that walking through them fails.

    Raises:
        ValueError: Not JSON, or nested deeper than 64 levels.
    """
    try:
        found: Plain = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    level = list(_inside([found]))
    for _ in range(DEEPEST):
        level = [below for value in level for below in _inside(value)]
        if not level:
            return found
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def _inside(value: list[Any] | dict[str, Any]) -> Iterable[list[Any] | dict[str, Any]]:
    """What holds something in turn."""
    below = value.values() if isinstance(value, dict) else value
    return (entry for entry in below if isinstance(entry, dict | list))
