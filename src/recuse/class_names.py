"""Whether the outputs of a network and the labels of data mean the same classes, in one order.

A folder of images has its classes in alphabetical order, a network in the order of its training.
Where both carry names, the names decide; a number that only counts the classes is no name.
"""

from collections.abc import Sequence

from recuse.errors import DataError

_SHOWN = 12


def class_order(
    own: Sequence[str], wanted: Sequence[str], *, model: str, data: str
) -> tuple[int, ...] | None:
    """The order that brings the outputs of a network into the order of the data's labels.

    Capitals, spaces, hyphens and underscores do not tell names apart, unless nothing else does.
    Where all classes of the data are numbers, a number stands for the output that it counts.

    Args:
        own: Names of the network's outputs, in order; empty where they are not known.
        wanted: Names of the data's classes, in order.
        model: How the message calls the network, for example ``"model 'era'"``.
        data: The data's name, for the message.

    Returns:
        For each class of the data the output that stands for it, then the outputs that the data
        have no class for; None where the outputs are in order already, or where the network's
        outputs have no names but the data's classes have.

    Raises:
        DataError: The data have a class that the network does not know.

    >>> class_order(("cat", "dog", "eel"), ("Dog", "cat"), model="net", data="pets")
    (1, 0, 2)
    """
    plain_own, plain_wanted = _plain(own), _plain(wanted)
    counted = tuple(str(i) for i in range(max(len(own), len(wanted))))
    numbered = all(name.isdecimal() for name in plain_wanted)
    if numbered and not all(name.isdecimal() for name in plain_own):
        plain_own = counted[: len(own)]
    agreed = not numbered or plain_wanted == counted[: len(wanted)]
    if not own or (agreed and plain_own == counted[: len(own)]):
        return None
    if len(set(plain_own)) < len(own) or len(set(plain_wanted)) < len(wanted):
        plain_own, plain_wanted = tuple(own), tuple(wanted)
    if unknown := [wanted[i] for i, name in enumerate(plain_wanted) if name not in plain_own]:
        raise DataError(
            f"{data} has classes that {model} does not know ({_listed(unknown)}; it knows "
            f"{_listed(own)}): rename the classes of the data if they mean the same, or take a "
            "model of these classes"
        )
    first = [plain_own.index(name) for name in plain_wanted]
    order = (*first, *(i for i in range(len(own)) if i not in set(first)))
    return None if order == tuple(range(len(own))) else order


def _plain(names: Sequence[str]) -> tuple[str, ...]:
    plain = ("".join(c for c in name.casefold() if c not in " -_") for name in names)
    return tuple(str(int(name)) if name.isdecimal() else name for name in plain)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, … {len(names)} in all"


__all__ = ["class_order"]
