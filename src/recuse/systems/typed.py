"""Selectors as text: how they are typed, and how a system's folder keeps them."""

from recuse.attacks import Apgd
from recuse.protocols import Selector
from recuse.selectors import Always
from recuse.selectors.families import SELECTION
from recuse.threat import Threat
from recuse.values import Call, parse_value
from recuse.vocabulary import settable

# One step of the indicator's own goes before: 40 in all.
DEFAULT_ATTACK = Apgd(steps=39)
_PLACEHOLDER = {"threshold": 0.0}


def read_selector(text: str, budget: Threat, **given: object) -> Selector:
    """A selector from its text; the budget, and an attack that is not named, are settled.

    Args:
        text: For example ``"indicator(radius=3/255)"``.
        budget: The attacker's ball.
        **given: Other fields for where the text leaves them out.

    Raises:
        ConfigError: Text that is no selector, or one that does not fit the budget.
    """
    selector: Selector = SELECTION.read(
        text, "selector", budget=budget, attack=DEFAULT_ATTACK, **given
    )
    return selector


def write_selector(selector: Selector) -> str:
    """The text of a selector; :func:`read_selector` gives it back, a selection network's as given.

    Raises:
        ConfigError: One that cannot be typed.
    """
    text = SELECTION.write(selector, given=("budget", "net"))
    return f"{text}()" if isinstance(selector, Always) else text


def open_selector(text: str, budget: Threat, **given: object) -> tuple[Selector, bool]:
    """A selector from its text, and whether its threshold is open: it has one that is not written.

    Raises:
        ConfigError: As for :func:`read_selector`.
    """
    written = parse_value(text)
    named = isinstance(written, Call) and "threshold" in dict(written.settings)
    if named:
        return read_selector(text, budget, **given), False
    selector = read_selector(text, budget, **_PLACEHOLDER, **given)
    return selector, "threshold" in {field.name for field in settable(type(selector))}


__all__ = ["open_selector", "read_selector", "write_selector"]
