"""What a selector may offer beyond its score: a score from logits, and a surrogate to attack."""

from typing import Protocol, runtime_checkable

from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.protocols import Selector
from recuse.random import SampleNoise
from recuse.threat import Threat


@runtime_checkable
class LogitSelector(Selector, Protocol):
    """A selector that can start from the classifier's logits at the input.

    A cascade then spends the forward pass that gives the label only once.
    """

    def with_logits(
        self, model: nn.Module, x: Images, logits: Logits, *, noise: SampleNoise
    ) -> PerSample:
        """Score per input, given the logits at ``x``."""
        ...


@runtime_checkable
class AttackableSelector(Selector, Protocol):
    """A selector whose decision has a differentiable stand-in for an adaptive adversary."""

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Differentiable in ``x``; positive roughly where ``x`` is selected with ``labels``."""
        ...


@runtime_checkable
class BudgetedSelector(Selector, Protocol):
    """A selector built against an attacker whose budget it states."""

    @property
    def budget(self) -> Threat:
        """The attacker's budget."""
        ...
