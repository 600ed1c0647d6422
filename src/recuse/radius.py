"""Radii as text and number, shared by the threat (torch) and the records (no torch).

A radius is written as the field writes it: ``"2/255"`` for images in 255 steps, a short
decimal otherwise. Both forms parse to the same float, and the float prints back to one
canonical text, so that a radius can name a record column.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Literal, cast, get_args

from recuse.errors import ConfigError

Norm = Literal["linf", "l2"]
_SHORT_DECIMAL = 6
_SAME = 1e-12


def parse_norm(text: str) -> Norm:
    """Read a norm name, in any case.

    Args:
        text: ``"linf"`` or ``"l2"``.

    Returns:
        The canonical name.

    Raises:
        ConfigError: Any other name.
    """
    name = text.strip().lower()
    if name not in get_args(Norm):
        raise ConfigError(f"norm {text!r} is unknown; write 'linf' or 'l2', for example linf:2/255")
    return cast(Norm, name)


@lru_cache(maxsize=1024)  # records name their columns by few radii, over and over
def parse_radius(text: str | float | Fraction) -> float:
    """Read a radius in pixel units, from a number, a decimal or a fraction.

    A number that is ``k/255`` up to rounding, like a sum of such radii, is that very float: what
    is done at a radius is then done at the radius that its text names.

    Args:
        text: For example ``"2/255"``, ``"0.25"`` or ``0.25``.

    Returns:
        The radius as a float.

    Raises:
        ConfigError: Not a finite number, or negative.

    >>> parse_radius("1/255") == 1 / 255
    True
    """
    try:
        # A decimal not as a fraction: 1e99999999 would be an integer of so many digits.
        value = float(Fraction(text) if isinstance(text, str) and "/" in text else text)
        if math.isnan(value):
            raise ValueError
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise ConfigError(
            f"radius {text!r} is not a number; write a fraction such as 2/255 or a decimal (0.25)"
        ) from error
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"radius {text!r} must be finite and not negative")
    steps = round(value * 255) / 255
    return steps if math.isclose(steps, value, rel_tol=_SAME) else value


def format_radius(value: float) -> str:
    """Write a radius canonically: a short decimal if there is one, else ``k/255``, else the float.

    >>> format_radius(2 / 255), format_radius(0.25), format_radius(0.1)
    ('2/255', '0.25', '0.1')
    """
    decimal = f"{value:g}"
    if len(decimal) <= _SHORT_DECIMAL and float(decimal) == value:
        return decimal
    steps = round(value * 255)
    if math.isclose(steps / 255, value, rel_tol=_SAME):
        return f"{steps}/255"
    return repr(value)
