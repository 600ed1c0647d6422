"""Softmax response: answer where the classifier is confident, at the input or over a ball."""

from dataclasses import dataclass, field

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.errors import ConfigError
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors.reach import Reach
from recuse.selectors.robustness import AnswerLost
from recuse.selectors.surrogates import (
    LARGEST_BELOW_ONE,
    InnerSearch,
    smallest_in_ball,
    worst_points,
)
from recuse.threat import Threat

_TIE = 0.5  # what two classes can have at most where they tie


def max_softmax(logits: Logits) -> PerSample:
    """Largest softmax probability of each row."""
    return logits.softmax(1).amax(1)


def log_odds(logits: Logits, labels: Labels) -> PerSample:
    """Log-odds p_y / (1 - p_y): the probability of ``labels`` on a scale that does not saturate."""
    at = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return at - others.logsumexp(1)


def _check_threshold(tau: float) -> None:
    # In float32 many a softmax is exactly 1, and a threshold of 1 selects these.
    if not 0 <= tau <= 1:
        raise ConfigError(f"softmax threshold {tau} is not in [0, 1]: above 1 nothing is selected")


@dataclass(frozen=True)
class SoftmaxResponse:
    """Selects where ``max_c softmax(f(x))_c >= threshold``; promises nothing under attack.

    Attributes:
        threshold: tau in [0, 1].

    Source: Geifman, El-Yaniv, NeurIPS 2017.
    """

    threshold: float

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)

    @property
    def guarantee(self) -> Guarantee:
        """None: a high-confidence adversarial example is selected."""
        return Guarantee.NONE

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits and their largest softmax probability."""
        logits = model(x)
        return logits, max_softmax(logits)

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """Largest softmax probability at ``x``."""
        return self.answer(model, x, noise=noise)[1]

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Log-odds of ``labels`` above those of the threshold."""
        return log_odds(model(x), labels) - _odds_of(self.threshold)


@dataclass(frozen=True)
class RobustSoftmaxResponse:
    """Softmax response over the ball: confident at every point an attack could find.

    ``S(x) = 1`` iff ``max_c softmax(f(x'))_c >= threshold`` for all x' in B_radius(x). The
    score is the smallest value found. For ``threshold > 1/2`` it selects only where the
    robustness indicator of the same radius does: on the way to another class the top two
    classes tie, at most 1/2 each.

    Attributes:
        budget: The attacker's ball; asking whether it surely selects takes the ball
            ``radius + budget.eps``.
        attack: Searches for a point of another class (any attack on the label). Points found
            by a confidence attack bound the error of an answer, not the score: use both
            attacks and keep the worse.
        threshold: tau in [0, 1].
        radius: Radius of the selector's own ball; ``budget.eps`` if not given.
        search: The adversary's surrogate of this selector.

    Source: "Avoiding Robust Misclassifications", Eq. 16.
    """

    budget: Threat
    attack: Attack
    threshold: float
    radius: float | None = None
    search: InnerSearch = field(default_factory=InnerSearch)

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        Reach(self.budget, self.radius)

    @property
    def guarantee(self) -> Guarantee:
        """As strong as the attack."""
        return Guarantee.ATTACKED

    @property
    def reach(self) -> Reach:
        """The balls of the selector and of the doubled radius, from the budget."""
        return Reach(self.budget, self.radius)

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """Smallest top probability found in the ball."""
        return self.answer(model, x, noise=noise)[1]

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits at ``x`` and the smallest top probability found in the ball."""
        logits = model(x)
        labels = logits.argmax(1)
        outcome = self.attack(
            model,
            x,
            labels,
            self.reach.own,
            noise=noise,
            criterion=AnswerLost(),
            clean_logits=logits,
        )
        found = max_softmax(model(outcome.x_adv))
        # A changed label was crossed to, and at the crossing no class has more than a half.
        found = torch.where(outcome.success, found.clamp_max(_TIE), found)
        lowest = torch.minimum(max_softmax(logits), found)
        return logits, torch.where(outcome.judged, lowest, 0.0)  # not searched: nothing is known

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Smallest log-odds over the ball above those of the threshold.

        Those of ``labels``; up to a threshold of 1/2, which a confident other class reaches too,
        those of the top class, at ``x`` and where the search for another class ends.
        """
        odds, own = _odds_of(self.threshold), self.reach.own
        if self.threshold > _TIE:
            lowest = smallest_in_ball(
                model, x, labels, own, log_odds, noise=noise, search=self.search
            )
            return lowest - odds
        ends = worst_points(model, x, labels, own, log_odds, noise=noise, search=self.search)
        logits = [model(point) for point in (x, *ends)]
        return torch.stack([log_odds(z, z.argmax(1)) for z in logits]).amin(0) - odds


def _odds_of(tau: float) -> float:
    clamped = min(max(tau, 1e-6), LARGEST_BELOW_ONE)
    return float(torch.logit(torch.tensor(clamped, dtype=torch.float64)))
