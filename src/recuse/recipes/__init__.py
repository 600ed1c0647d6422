"""Complete runs: a recipe is a function that returns a frozen config."""

from collections.abc import Callable
from inspect import signature

from recuse.errors import ConfigError
from recuse.recipes.certified import certified
from recuse.recipes.cifar10 import cifar10
from recuse.recipes.cifar10_small import cifar10_small
from recuse.recipes.cifar10_wide import cifar10_wide
from recuse.recipes.config import (
    CompositionPlan,
    Earlier,
    Fresh,
    ModelPlan,
    NewHead,
    Pretrained,
    RunConfig,
    config_classes,
    read_run_config,
)
from recuse.recipes.digits import digits
from recuse.recipes.frontier import frontier
from recuse.recipes.gaussians import gaussians
from recuse.recipes.geometry import geometry
from recuse.recipes.gtsrb import gtsrb
from recuse.recipes.gtsrb_transferred import gtsrb_transferred
from recuse.recipes.losses import losses
from recuse.recipes.pipeline import run
from recuse.recipes.provable import provable
from recuse.recipes.rejection import rejection
from recuse.recipes.run_location import RunLocation
from recuse.recipes.selectors import selectors
from recuse.recipes.unsure import unsure

RECIPES: dict[str, Callable[..., RunConfig]] = {
    "digits": digits,
    "gaussians": gaussians,
    "cifar10_small": cifar10_small,
    "cifar10": cifar10,
    "cifar10_wide": cifar10_wide,
    "gtsrb": gtsrb,
    "gtsrb_transferred": gtsrb_transferred,
    "certified": certified,
    "provable": provable,
    "geometry": geometry,
    "losses": losses,
    "frontier": frontier,
    "rejection": rejection,
    "selectors": selectors,
    "unsure": unsure,
}


def recipe(
    name: str, *, quick: bool = False, limit: int | None = None, **settings: object
) -> RunConfig:
    """The config of a recipe, with ``settings`` over its arguments where they are not None.

    Args:
        name: A key of ``RECIPES``.
        quick: The same steps at a size that shows only that they work.
        limit: Judge only the first so many test samples.
        **settings: ``threat``, ``seed``, ``epochs``.

    Raises:
        ConfigError: An unknown name, or a setting that the recipe does not have.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r} is unknown; known: {', '.join(RECIPES)}")
    make = RECIPES[name]
    asked = {key: value for key, value in settings.items() if value is not None}
    known = signature(make).parameters
    if unknown := [key for key in asked if key not in known]:
        raise ConfigError(
            f"recipe {name!r} fixes its {unknown[0]}; leave out --{unknown[0]}, or edit the "
            "config.json of a run"
        )
    config = make(**asked, quick=quick)
    return config if limit is None else config.limited(limit)


__all__ = [
    "RECIPES",
    "CompositionPlan",
    "Earlier",
    "Fresh",
    "ModelPlan",
    "NewHead",
    "Pretrained",
    "RunConfig",
    "RunLocation",
    "config_classes",
    "read_run_config",
    "recipe",
    "run",
]
