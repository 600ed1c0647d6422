"""The members of a composition, and whether they fit together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from recuse.arrays import Images, Logits, PerSample
from recuse.class_names import class_order
from recuse.errors import ConfigError, DataError
from recuse.models.cards import Card
from recuse.models.class_order import Reordered
from recuse.protocols import Selector
from recuse.random import SampleNoise
from recuse.selectors.scores import AnsweringSelector, BudgetedSelector
from recuse.selectors.selection_network import SelectionNetwork
from recuse.threat import Threat

_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Stage:
    """A classifier that answers where its selector selects.

    Attributes:
        model: The classifier, in eval mode.
        selector: Decides where it answers.
        name: For messages and tables.
        card: What is known about the model; checked against the core's where both are given.
        selector_card: What is known about the network of a selection network.
    """

    model: nn.Module
    selector: Selector
    name: str = "stage"
    card: Card | None = None
    selector_card: Card | None = None

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


def fitted(stage: Stage, core: Core | Stage) -> Stage:
    """A stage whose card fits the core's, its classes put into the core's order by name.

    Args:
        stage: The stage.
        core: What the classes are counted by: the core, or where there is none the last stage.

    Raises:
        ConfigError: The cards name different inputs or classes.
    """
    if stage.card is None or core.card is None:
        return stage
    classes = (card.architecture.classes for card in (stage.card, core.card))
    check_classes(stage.name, next(classes), core.name, next(classes))
    mine, theirs = _inputs(stage.card), _inputs(core.card)
    if mine != theirs:
        raise ConfigError(
            f"{stage.name!r} takes inputs of {mine} but {core.name!r} of {theirs}; a cascade "
            "hands one image to all its models"
        )
    own, wanted = stage.card.label_names, core.card.label_names
    order = _order(stage.name, own, core.name, wanted) if own and wanted else None
    if order is None:
        return stage
    card = replace(stage.card, label_names=wanted)
    return replace(stage, model=Reordered(stage.model, order), card=card)


def _order(
    name: str, own: Sequence[str], other: str, wanted: Sequence[str]
) -> tuple[int, ...] | None:
    try:
        return class_order(own, wanted, model=repr(name), data=repr(other))
    except DataError as error:
        raise ConfigError(
            f"the classes of {name!r} ({_listed(own)}) are not those of {other!r} "
            f"({_listed(wanted)}); the models of a cascade must answer the same question"
        ) from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _inputs(card: Card) -> str:
    wanted = card.preprocessing
    return f"shape {wanted.shape} in [{wanted.low:g}, {wanted.high:g}]"


def check_classes(name: str, classes: int, other: str, expected: int) -> None:
    """Refuse two models that know different numbers of classes."""
    if classes != expected:
        raise ConfigError(
            f"{name!r} knows {classes} classes but {other!r} knows {expected}; the models of a "
            "cascade must answer the same question"
        )


def ask(stage: Stage, x: Images, noise: SampleNoise) -> tuple[Logits, PerSample]:
    """Logits and scores, with one forward pass for both where the selector can share it."""
    if isinstance(stage.selector, AnsweringSelector):
        return stage.selector.answer(stage.model, x, noise=noise)
    return stage.model(x), stage.selector(stage.model, x, noise=noise)
