"""What counts as adversarial: objects, so that an attack never branches on its purpose."""

from collections.abc import Callable
from dataclasses import dataclass

from recuse.arrays import Images, Labels, Logits, Mask
from recuse.errors import ConfigError
from recuse.protocols import Criterion

Accept = Callable[[Images, Logits], Mask]
"""A selector as an attack sees it: which perturbed inputs, with their logits, are accepted."""


@dataclass(frozen=True)
class LabelChanged:
    """The predicted class differs from the reference.

    With ``y = F(x)`` this refutes robustness (label-free); with true labels it is an error.
    """

    def __call__(self, x_adv: Images, logits: Logits, y: Labels) -> Mask:
        """Whether each row's top class differs from ``y``."""
        return logits.argmax(dim=1) != y


@dataclass(frozen=True)
class ConfidentlyWrong:
    """The predicted class differs from the reference and its softmax reaches a threshold.

    What breaks softmax response: a wrong answer that is selected.

    Attributes:
        threshold: Confidence at which softmax response selects, in [0, 1].
    """

    threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(
                f"confidence threshold {self.threshold} must be a probability between 0 and 1"
            )

    def __call__(self, x_adv: Images, logits: Logits, y: Labels) -> Mask:
        """Whether each row's top class is wrong at this confidence or above."""
        confidence, label = logits.softmax(dim=1).max(dim=1)
        return (label != y) & (confidence >= self.threshold)


@dataclass(frozen=True)
class WrongAndSelected:
    """The predicted class differs from the reference and a selector accepts the input.

    Attributes:
        accept: The selector's decision from perturbed inputs and their logits.
    """

    accept: Accept

    def __call__(self, x_adv: Images, logits: Logits, y: Labels) -> Mask:
        """Whether each row is wrong and accepted."""
        return (logits.argmax(dim=1) != y) & self.accept(x_adv, logits)


@dataclass(frozen=True)
class Rejected:
    """A selector no longer accepts the input, whatever its class: breaks robust selection.

    Attributes:
        accept: The selector's decision from perturbed inputs and their logits.
    """

    accept: Accept

    def __call__(self, x_adv: Images, logits: Logits, y: Labels) -> Mask:
        """Whether each row is rejected."""
        return ~self.accept(x_adv, logits)


CRITERIA: dict[str, type[Criterion]] = {
    "label-changed": LabelChanged,
    "confidently-wrong": ConfidentlyWrong,
    "wrong-and-selected": WrongAndSelected,
    "rejected": Rejected,
}

__all__ = [
    "CRITERIA",
    "Accept",
    "ConfidentlyWrong",
    "LabelChanged",
    "Rejected",
    "WrongAndSelected",
]
