"""What a selector may offer beyond its score: the logits, a surrogate to attack, its budget."""

from typing import Protocol, TypeGuard, runtime_checkable

from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.protocols import Selector
from recuse.random import SampleNoise
from recuse.threat import Threat


@runtime_checkable
class AnsweringSelector(Selector, Protocol):
    """A selector that also hands out the classifier's logits, from a pass it needs anyway.

    A cascade then spends the forward pass that gives the label only once.
    """

    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits at ``x`` and score per input."""
        ...


@runtime_checkable
class AttackableSelector(Selector, Protocol):
    """A selector whose decision has a differentiable stand-in for an adaptive adversary."""

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Differentiable in ``x``; positive where ``x`` is selected, if it is of class ``labels``.

        Its sign is that of ``score - threshold``, up to the accuracy of a search inside it.
        """
        ...


@runtime_checkable
class RelabellingSelector(Selector, Protocol):
    """A selector whose stage answers another class than the network's own.

    A certified stage answers what is certified: by smoothing, the class of most votes.
    """

    def relabelled(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> Logits:
        """Differentiable logits whose top class is what the stage answers if it selects."""
        ...


@runtime_checkable
class BudgetedSelector(Selector, Protocol):
    """A selector built against an attacker whose budget it states."""

    @property
    def budget(self) -> Threat:
        """The attacker's budget."""
        ...


def attackable(selector: Selector) -> TypeGuard[AttackableSelector]:
    """Whether a selector has a surrogate, and what it is built of lets it have one."""
    return isinstance(selector, AttackableSelector) and getattr(selector, "differentiable", True)
