"""The contracts between the rooms. A strategy is a frozen dataclass that satisfies one of them.

Labels given to an attack are *reference* labels: the clean predictions F(x) when robustness
is asked for (label-free), the true labels when an accuracy attack or a training loss is.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from recuse.arrays import Images, Labels, Logits, Mask, PerSample
from recuse.random import SampleNoise
from recuse.results import AttackOutcome, Certificate, Guarantee, LossTerms
from recuse.threat import Threat


@runtime_checkable
class Classifier(Protocol):
    """Anything that maps images in [0, 1] to logits; normalisation happens inside."""

    def __call__(self, x: Images) -> Logits:
        """Logits of a batch."""
        ...


@runtime_checkable
class AscentLoss(Protocol):
    """What an attack increases: one number per sample."""

    def __call__(self, logits: Logits, y: Labels) -> PerSample:
        """The value to ascend at perturbed ``logits`` for reference labels ``y``."""
        ...


@runtime_checkable
class Criterion(Protocol):
    """What counts as adversarial.

    Logits that are NaN end an attack with an error, unless a criterion says by an attribute
    ``counts_no_answer = True`` that it decides about them itself, as a selector's does.
    """

    def __call__(self, x_adv: Images, logits: Logits, y: Labels) -> Mask:
        """Whether each perturbed point, with its logits, is adversarial for reference ``y``."""
        ...


@runtime_checkable
class Attack(Protocol):
    """Searches a threat's ball for adversarial points.

    An attack leaves the model as it found it (mode, ``requires_grad``, ``.grad``), draws only
    from ``noise``, and works with any module in eval mode. Its success mask is re-verified.
    """

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        criterion: Criterion | None = None,
        start: Images | None = None,
        clean_logits: Logits | None = None,
    ) -> AttackOutcome:
        """Attack a batch; ``criterion`` defaults to "the label differs from ``y``".

        ``start`` replaces the first random start. ``clean_logits``, the logits at ``x``, save
        the pass that tests the input itself.
        """
        ...


@runtime_checkable
class Objective(Protocol):
    """A training loss together with the attack that makes its adversarial examples."""

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        progress: float = 1.0,
    ) -> LossTerms:
        """Per-sample loss of a batch, differentiable with respect to the model's weights.

        ``progress`` is the share of training that is done, from 0 to 1: ramps and burn-ins
        depend on it.
        """
        ...


@runtime_checkable
class Selector(Protocol):
    """Scores inputs: higher = keep. An input is selected where ``score >= threshold``."""

    @property
    def threshold(self) -> float:
        """Lowest score that is still selected."""
        ...

    @property
    def guarantee(self) -> Guarantee:
        """What stands behind a selected answer."""
        ...

    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """Score per input."""
        ...


@runtime_checkable
class Certifier(Protocol):
    """Proves, per input, that a classifier is constant on balls.

    It decides several radii at once, so that 2 eps is not forgotten.
    """

    @property
    def norm(self) -> str:
        """Norm of the balls it certifies."""
        ...

    @property
    def method(self) -> str:
        """Name of the kind of proof in records and reports, for example ``"smoothing"``."""
        ...

    def decide(
        self, model: nn.Module, x: Images, radii: Sequence[float], *, noise: SampleNoise
    ) -> Certificate:
        """Certify a batch at ascending radii, in the norm's pixel units."""
        ...


__all__ = [
    "AscentLoss",
    "Attack",
    "Certifier",
    "Classifier",
    "Criterion",
    "Objective",
    "Selector",
]
