"""The certified robustness indicator: answer where a class is proven constant on a ball.

What answers is the class that is proven: the smoothed classifier's by randomized smoothing, the
network's own by deterministic bounds. Moving the network's own answer therefore changes nothing
that a smoothing stage says. Two claims about selection are told apart, and both are named:

- *paper*: proven constant on the ball of the selector's own radius rho (eps by default). This is
  the selector's decision at x itself, which the literature also counts as robust selection.
- *sound*: proven on a ball so large that the selector surely selects at every point that an
  attacker of budget eps can move x to. Without chance that is rho + eps (2 eps by default). A test
  with finitely many votes needs more, and may then still miss with probability beta: see
  :func:`recuse.certify.power.needed_radius`.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, Mask, PerSample
from recuse.certify.power import BETA, VotingCertifier, even_chance, needed_radius
from recuse.certify.surrogate import vote_shares
from recuse.errors import CertificationError, ConfigError
from recuse.protocols import Certifier
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors.reach import Reach
from recuse.threat import Threat


@dataclass(frozen=True)
class CertifiedSelection:
    """Which inputs are selected, under both readings of robust selection.

    Attributes:
        paper: Certified at rho: selected at x.
        sound: Certified at ``radius``: selected wherever the attacker moves x, but for a
            probability of at most alpha + beta by voting.
        sound_attainable: The certifier could prove ``radius`` at all; where it could not,
            ``sound`` is false everywhere and says nothing about the model.
        radius: What ``sound`` needs to be proven; None where no radius is enough.
    """

    paper: Mask
    sound: Mask
    sound_attainable: bool
    radius: float | None


@runtime_checkable
class BoundCertifier(Certifier, Protocol):
    """A certifier that proves by a bound with a gradient."""

    def lower_margin(self, model: nn.Module, x: Images, labels: Labels, radius: float) -> PerSample:
        """Above 0 where the label is proven on the ball; differentiable in ``x``."""
        ...


@dataclass(frozen=True)
class CertifiedIndicator:
    """Selects where a certifier proves the classifier constant on the ball of radius rho.

    It answers the certified class. An answer selected anywhere in the attacker's ball is the
    certified class of x, because the two balls meet: the attacker can make the selector abstain,
    never make it answer otherwise. Each proof by smoothing fails with probability at most the
    certifier's alpha; interval bounds do not fail.

    Attributes:
        budget: The attacker's ball (radius eps), in the certifier's norm.
        certifier: Proves, for example ``GroupSequential(sigma=0.12)`` or ``Ibp()``.
        radius: rho; ``budget.eps`` if not given, and never below it.
        draws: Noisy copies per input in the adversary's surrogate of a certifier by votes.

    Raises:
        ConfigError: The radius does not fit the budget or is 0, or no draws.
        CertificationError: The certifier does not work in the budget's norm.
    """

    budget: Threat
    certifier: Certifier
    radius: float | None = None
    draws: int = 64

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ConfigError(f"an adversary needs at least one draw, got {self.draws}")
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
        """Radius rho where a class is proven on the ball around the input, else 0."""
        return self.certifier.decide(model, x, (self.reach.own.eps,), noise=noise).radius

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """One-hot rows of the certified class, and the score."""
        found = self.certifier.decide(model, x, (self.reach.own.eps,), noise=noise)
        votes = torch.zeros_like(model(x)).scatter(1, found.prediction[:, None], 1.0)
        return votes, found.radius

    @property
    def differentiable(self) -> bool:
        """Whether there is a surrogate: for votes, and for bounds that have a gradient."""
        return isinstance(self.certifier, VotingCertifier | BoundCertifier)

    def relabelled(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> Logits:
        """Shares of the votes, by smoothing; else the network's own logits."""
        if isinstance(self.certifier, VotingCertifier):
            return self._shares(model, x, self.certifier.sigma, noise)
        logits: Logits = model(x)
        return logits

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """By votes: their share above that at which the test accepts as often as not.

        By bounds: the smallest bound of the margin of ``labels`` over the ball.

        Raises:
            CertificationError: The certifier offers neither.
        """
        own = self.reach.own.eps
        if isinstance(self.certifier, VotingCertifier):
            shares = self._shares(model, x, self.certifier.sigma, noise)
            wanted = even_chance(self.certifier, own, shares.shape[1])
            return shares.gather(1, labels[:, None])[:, 0] - wanted
        if isinstance(self.certifier, BoundCertifier):
            return self.certifier.lower_margin(model, x, labels, own)
        raise CertificationError(
            f"{type(self.certifier).__name__} has no gradient to attack it by; search by queries"
        )

    def _shares(self, model: nn.Module, x: Images, sigma: float, noise: SampleNoise) -> Logits:
        return vote_shares(model, x, sigma=sigma, draws=self.draws, noise=noise)

    @torch.no_grad()
    def selection(
        self, model: nn.Module, x: Images, *, noise: SampleNoise, beta: float = BETA
    ) -> CertifiedSelection:
        """Robust selection as the paper counts it and as soundness needs it, from one run.

        Args:
            model: Classifier in eval mode.
            x: Inputs in [0, 1].
            noise: Keys the draws.
            beta: Probability that a deployed stage which counts votes may miss its answer.
        """
        budget, own = self.budget.eps, self.reach.own.eps
        classes = model(x[:1]).shape[1]
        needed = needed_radius(self.certifier, budget, classes=classes, radius=own, beta=beta)
        radii = (own,) if needed is None else (own, needed)
        found = self.certifier.decide(model, x, radii, noise=noise)
        paper = found.certified[:, 0]
        return CertifiedSelection(
            paper=paper,
            sound=torch.zeros_like(paper) if needed is None else found.certified[:, 1],
            sound_attainable=needed is not None and found.attainable[1],
            radius=needed,
        )


__all__ = ["CertifiedIndicator", "CertifiedSelection"]
