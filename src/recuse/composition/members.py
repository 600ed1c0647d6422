"""The members of a composition, and whether they fit together."""

from dataclasses import dataclass

import torch
from torch import nn

from recuse.arrays import Images
from recuse.errors import ConfigError
from recuse.models.cards import Card
from recuse.protocols import Selector
from recuse.selectors.scores import BudgetedSelector
from recuse.selectors.selection_network import SelectionNetwork
from recuse.threat import Threat


@dataclass(frozen=True, eq=False)
class Stage:
    """A classifier that answers where its selector selects.

    Attributes:
        model: The classifier, in eval mode.
        selector: Decides where it answers.
        name: For messages and tables.
        card: What is known about the model; checked against the core's where both are given.
    """

    model: nn.Module
    selector: Selector
    name: str = "stage"
    card: Card | None = None

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """What runs when the stage is asked: the classifier, and a selection network."""
        if isinstance(self.selector, SelectionNetwork):
            return (self.model, self.selector.net)
        return (self.model,)


@dataclass(frozen=True, eq=False)
class Core:
    """The last classifier, which never abstains.

    Attributes:
        model: The classifier, in eval mode.
        name: For messages and tables.
        card: As for :class:`Stage`.
    """

    model: nn.Module
    name: str = "core"
    card: Card | None = None


def check_budget(stage: Stage, budget: Threat) -> None:
    """Refuse a selector that was built against another attacker."""
    if isinstance(stage.selector, BudgetedSelector) and stage.selector.budget != budget:
        raise ConfigError(
            f"the selector of {stage.name!r} was built against {stage.selector.budget} but the "
            f"attacker of this cascade has {budget}; build both from the same budget"
        )


def check_cards(stage: Stage, core: Core) -> None:
    """Refuse models whose cards name different inputs or classes."""
    if stage.card is None or core.card is None:
        return
    classes = (card.architecture.classes for card in (stage.card, core.card))
    check_classes(stage.name, next(classes), core.name, next(classes))
    mine, theirs = _inputs(stage.card), _inputs(core.card)
    if mine != theirs:
        raise ConfigError(
            f"{stage.name!r} takes inputs of {mine} but {core.name!r} of {theirs}; a cascade "
            "hands one image to all its models"
        )
    names = stage.card.label_names, core.card.label_names
    if all(names) and names[0] != names[1]:
        raise ConfigError(
            f"the classes of {stage.name!r} are named or ordered otherwise than those of "
            f"{core.name!r}; the models of a cascade must answer the same question"
        )


def _inputs(card: Card) -> str:
    wanted = card.preprocessing
    return f"shape {wanted.shape} in [{wanted.low:g}, {wanted.high:g}]"


def classes_of(model: nn.Module, example: Images, name: str) -> int:
    """Number of classes of a model, found by running it."""
    try:
        with torch.no_grad():
            return int(model(example).shape[1])
    except RuntimeError as error:
        raise ConfigError(
            f"{name!r} cannot read an input of shape {tuple(example.shape[1:])} ({error}); every "
            "model of a cascade gets the same image"
        ) from error


def check_classes(name: str, classes: int, other: str, expected: int) -> None:
    """Refuse two models that know different numbers of classes."""
    if classes != expected:
        raise ConfigError(
            f"{name!r} knows {classes} classes but {other!r} knows {expected}; the models of a "
            "cascade must answer the same question"
        )
