"""The certified robustness indicator: answer where the classifier is proven constant on a ball.

Two claims about selection are told apart, and both are named:

- *paper*: proven constant on the ball of the selector's own radius rho (eps by default). This is
  the selector's decision at x itself, which the literature also counts as robust selection.
- *sound*: proven constant on the ball of radius rho + eps (2 eps by default). Only then does the
  selector surely select at every point that an attacker of budget eps can move x to. This
  speaks of the selector that knows the certified radius: a test with finitely many votes may
  abstain at a point whose radius hardly exceeds rho. Abstaining is never a wrong answer, but in
  a composition the next stage then answers.
"""

from dataclasses import dataclass

import torch
from torch import nn

from recuse.arrays import Images, Mask, PerSample
from recuse.certify.decision import JointCertificate, JointCertifier
from recuse.errors import CertificationError, ConfigError
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors.robustness import Reach
from recuse.threat import Threat


@dataclass(frozen=True)
class CertifiedSelection:
    """Which inputs are selected, under both readings of robust selection.

    Attributes:
        paper: Certified at rho: selected at x.
        sound: Certified at rho + eps: selected wherever the attacker moves x.
        sound_attainable: The certifier could prove rho + eps at all; where it could not,
            ``sound`` is false everywhere and says nothing about the model.
    """

    paper: Mask
    sound: Mask
    sound_attainable: bool


@dataclass(frozen=True)
class CertifiedIndicator:
    """Selects where a certifier proves the classifier constant on the ball of radius rho.

    An answer selected anywhere in the attacker's ball is the certified class of x, because the
    two balls meet: the attacker can make the selector abstain, never make it answer otherwise.
    With smoothing, what is proven constant is the smoothed classifier; an input whose certified
    class is not the network's own answer is not selected. Each proof by smoothing fails with
    probability at most the certifier's alpha; interval bounds do not fail.

    Attributes:
        budget: The attacker's ball (radius eps), in the certifier's norm.
        certifier: Proves, for example ``GroupSequential(sigma=0.12)`` or ``Ibp()``.
        radius: rho; ``budget.eps`` if not given, and never below it.

    Raises:
        ConfigError: The radius does not fit the budget, or is 0.
        CertificationError: The certifier does not work in the budget's norm.
    """

    budget: Threat
    certifier: JointCertifier
    radius: float | None = None

    def __post_init__(self) -> None:
        # What is not proven scores 0, which must stay below the threshold.
        if Reach(self.budget, self.radius).own.eps == 0:
            raise ConfigError(
                "a certified selector of radius 0 has nothing to prove; give the budget or the "
                "selector a radius above 0"
            )
        if self.budget.norm != self.certifier.norm:
            raise CertificationError(
                f"{type(self.certifier).__name__} certifies {self.certifier.norm} balls, but the "
                f"attacker's budget is {self.budget}; give both the same norm"
            )

    @property
    def threshold(self) -> float:
        """The score is the certified radius: rho or 0."""
        return self.reach.own.eps

    @property
    def guarantee(self) -> Guarantee:
        """Proven."""
        return Guarantee.CERTIFIED

    @property
    def reach(self) -> Reach:
        """The balls of the selector and of the doubled radius, from the budget."""
        return Reach(self.budget, self.radius)

    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """Radius rho where the network's answer is proven on the ball around the input, else 0."""
        found = self.certifier.decide(model, x, (self.reach.own.eps,), noise=noise)
        return torch.where(_agrees(model, x, found), found.radius, torch.zeros_like(found.radius))

    def selection(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> CertifiedSelection:
        """Robust selection as the paper counts it and as soundness needs it, from one run."""
        radii = (self.reach.own.eps, self.reach.sure.eps)
        found = self.certifier.decide(model, x, radii, noise=noise)
        mine = _agrees(model, x, found)
        return CertifiedSelection(
            paper=found.certified[:, 0] & mine,
            sound=found.certified[:, 1] & mine,
            sound_attainable=found.attainable[1],
        )


@torch.no_grad()
def _agrees(model: nn.Module, x: Images, found: JointCertificate) -> Mask:
    answers: Mask = model(x).argmax(dim=1) == found.prediction
    return answers


__all__ = ["CertifiedIndicator", "CertifiedSelection"]
