"""A mixture where a MODEL is taken: ``mixture(ROBUST, ACCURATE; WEIGHT)``, as searches print it."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from recuse.errors import ConfigError

if TYPE_CHECKING:
    from recuse.cli.options import LoadedModel

# What each kind takes behind its two networks.
KINDS = {
    "mixture": ("weight",),
    "one-hot-mixture": ("weight",),
    "mixednuts": ("scale", "shift", "power", "weight"),
}
_FORM = re.compile(r"([a-z-]+)\((.+), (.+); *([^;]+)\)", re.DOTALL)


def parts_of(text: str) -> tuple[str, str, str, tuple[float, ...]] | None:
    """Kind, both networks and the numbers of a mixture; None of text that is none.

    Raises:
        ConfigError: A mixture with other numbers than its kind takes.

    >>> parts_of("mixture(era, core; 0.8)")
    ('mixture', 'era', 'core', (0.8,))
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or found[1] not in KINDS:
        return None
    kind, robust, standard, written = found.groups()
    try:
        numbers = tuple(float(number) for number in written.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(KINDS[kind]):
        raise ConfigError(
            f"{text!r} is no mixture: write {kind}(ROBUST, ACCURATE; {', '.join(KINDS[kind])}) "
            "with numbers"
        )
    return kind, robust, standard, numbers


def mixture(text: str, load: "Callable[[str], LoadedModel]") -> "LoadedModel | None":
    """The mixture that a text names, as a network with a card; None of text that is none.

    Args:
        text: As :func:`parts_of` reads it.
        load: Gives each member by its text.

    Raises:
        ConfigError: A member without a card, or a mixture that cannot be.
        DataError: Members whose classes have other names.
    """
    found = parts_of(text)
    if found is None:
        return None
    from recuse.cli.options import LoadedModel
    from recuse.models.mixture import mix

    kind, robust, standard, numbers = found
    members = []
    for ref in (robust, standard):
        model = load(ref)
        if model.card is None:
            raise ConfigError(
                f"{ref!r} comes without a card that says how to build it, so it cannot be mixed; "
                "import it as a checkpoint first (recuse models import)"
            )
        members.append((model.network, model.card))
    network, card = mix(
        kind,
        *members,
        alpha=numbers[-1],
        shaping=numbers[:-1],
        one_hot=kind != "mixture",
    )
    return LoadedModel(network, card.name, card.sha256, card)


__all__ = ["KINDS", "mixture", "parts_of"]
