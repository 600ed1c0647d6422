"""A stored configuration as a person would type it: the grammar of :mod:`recuse.values`."""

import re
from collections.abc import Mapping

from recuse.radius import format_radius
from recuse.serialize import KIND, Plain

_WIDTH = 80
_WORD = re.compile(r"[A-Za-z_][\w\-.:/]*")


def written(plain: Plain, *, indent: int = 0) -> str:
    """JSON values of a config as text, over as many lines as they need.

    Args:
        plain: As :func:`recuse.serialize.to_plain` makes them.
        indent: Columns that stand before the text.

    >>> written({"kind": "Era", "beta": 0.3, "robust": {"kind": "Trades", "gamma": 6}})
    'era(beta=0.3, robust=trades(gamma=6))'
    """
    if isinstance(plain, str) or not isinstance(plain, Mapping | list):
        return _scalar(plain)
    if isinstance(plain, Mapping) and set(plain) == {KIND, "norm", "eps"}:
        return f"{plain['norm']}:{_scalar(plain['eps'])}"
    name, brackets, parts = _parts(plain)
    opening, closing = brackets[0], brackets[1]
    inner = [f"{lead}{written(part, indent=indent + 2)}" for lead, part in parts]
    line = f"{name}{opening}{', '.join(inner)}{closing}"
    if not inner:
        return name or line
    if "\n" not in line and indent + len(line) <= _WIDTH:
        return line
    space = "\n" + " " * indent
    return f"{name}{opening}{space}  {f',{space}  '.join(inner)}{space}{closing}"


def _parts(plain: Mapping[str, Plain] | list[Plain]) -> tuple[str, str, list[tuple[str, Plain]]]:
    """Name, brackets, and what stands between them, each part with its field's name."""
    if isinstance(plain, list):
        return "", "[]", [("", part) for part in plain]
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", str(plain.get(KIND, ""))).lower()
    return name, "()", [(f"{field}=", part) for field, part in plain.items() if field != KIND]


def _scalar(value: Plain) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value >= 0:
        return format_radius(value)
    if isinstance(value, str) and not _WORD.fullmatch(value):
        return f'"{value}"' if "'" in value else f"'{value}'"
    return str(value)


__all__ = ["written"]
