"""What attacks are called: in configs, and in the records of what they found."""

from recuse.attacks.apgd import Apgd
from recuse.attacks.ensemble import Ensemble
from recuse.attacks.margins import LOSSES, Margin
from recuse.attacks.pgd import Pgd
from recuse.attacks.square import Square
from recuse.protocols import Attack

ATTACKS: dict[str, type[Attack]] = {
    "pgd": Pgd,
    "apgd": Apgd,
    "square": Square,
    "ensemble": Ensemble,
}
"""Attacks that are plain values. ``Screened`` holds a network, so it is built where one is."""


def attack_name(attack: Attack) -> str:
    """What a record calls an attack: the search and what it ascends.

    Settings are not part of the name; a record holds them beside it.

    >>> attack_name(Apgd(steps=100)), attack_name(Square())
    ('apgd-ce', 'square')
    """
    search, loss = _called(attack, ATTACKS), getattr(attack, "loss", None)
    if loss is None or (isinstance(attack, Square) and loss == Margin()):
        return search
    return f"{search}-{_called(loss, LOSSES)}"


def _called(value: object, family: dict[str, type]) -> str:
    """The name of a value's class in a table; an unlisted class goes by its own."""
    own = type(value).__name__.lower()
    return next((name for name, kind in family.items() if type(value) is kind), own)


__all__ = ["ATTACKS", "attack_name"]
