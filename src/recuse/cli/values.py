"""``recuse values``: what can be typed where a value is asked for."""

from typing import Annotated

from tyro.conf import Positional, arg


def values(
    family: Annotated[
        Positional[str | None], arg(metavar="[FAMILY]", help_behavior_hint="")
    ] = None,
    /,
) -> None:
    """List what can be typed where a value is asked for, with its fields and their defaults.

    A value is a name, or a name with fields: era(beta=0.3, robust=trades(gamma=6)).

    Args:
        family: objective, attack, loss, schedule, ...; without it, the names of every family.
    """
    from rich.console import Console

    from recuse.recipes.families import VOCABULARY

    console = Console(soft_wrap=True, highlight=False)
    if family is None:
        for entry in VOCABULARY.families:
            names = (name.replace("-", "_") for name in entry.kinds)
            console.print(f"{entry.name}: {', '.join(names)}", markup=False)
        return
    for name, kind in VOCABULARY.family(family).kinds.items():
        promise = (kind.__doc__ or "").strip().splitlines()[0]
        console.print(f"{VOCABULARY.signature(name, kind)}\n    {promise}", markup=False)
