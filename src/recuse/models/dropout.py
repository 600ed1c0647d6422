"""Dropout as every model family takes it: a rate in [0, 1), active in training mode only."""

from torch import nn

from recuse.errors import ConfigError


def check_dropout(rate: float) -> None:
    """Refuse a dropout rate outside [0, 1).

    Raises:
        ConfigError: The rate is not one.
    """
    if not 0 <= rate < 1:
        raise ConfigError(f"dropout {rate!r} must be at least 0 and less than 1, for example 0.2")


def optional_dropout(rate: float, name: str = "dropout") -> dict[str, nn.Module]:
    """A named dropout layer for a ``Sequential``; nothing when the rate is 0.

    Names of the other layers do not move, so weights trained without dropout still load.
    """
    check_dropout(rate)
    return {name: nn.Dropout(rate)} if rate > 0 else {}
