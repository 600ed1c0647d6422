"""Complete runs: a recipe is a function that returns a frozen config."""

from collections.abc import Callable
from dataclasses import replace

from recuse.errors import ConfigError
from recuse.recipes.cifar10_small import cifar10_small
from recuse.recipes.config import Earlier, Fresh, ModelPlan, Pretrained, RunConfig, config_classes
from recuse.recipes.digits import digits
from recuse.recipes.gaussians import gaussians
from recuse.recipes.pipeline import Place, run

RECIPES: dict[str, Callable[..., RunConfig]] = {
    "digits": digits,
    "gaussians": gaussians,
    "cifar10_small": cifar10_small,
}


def recipe(name: str, *, limit: int | None = None, **settings: object) -> RunConfig:
    """The config of a recipe, with ``settings`` over its arguments where they are not None.

    Args:
        name: A key of ``RECIPES``.
        limit: Judge only the first so many test samples.
        **settings: ``threat``, ``seed``, ``epochs``.

    Raises:
        ConfigError: An unknown name, or a setting that makes no sense.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r} is unknown; known: {', '.join(RECIPES)}")
    config = RECIPES[name](**{key: value for key, value in settings.items() if value is not None})
    if limit is None:
        return config
    return replace(config, evaluation=replace(config.evaluation, limit=limit))


__all__ = [
    "RECIPES",
    "Earlier",
    "Fresh",
    "ModelPlan",
    "Place",
    "Pretrained",
    "RunConfig",
    "config_classes",
    "recipe",
    "run",
]
