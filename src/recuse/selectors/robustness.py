"""The robustness indicator: answer where the classifier does not change over a ball."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, Mask, PerSample
from recuse.attacks import Apgd
from recuse.attacks.margins import margin
from recuse.attacks.search import input_gradient
from recuse.errors import ConfigError
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors.calibrate import selected
from recuse.selectors.reach import Reach
from recuse.selectors.surrogates import InnerSearch, worst_margin
from recuse.threat import Threat


def answered(logits: Logits) -> Mask:
    """Whether the network answers at all: the argmax of NaN is a class index like any other."""
    finite: Mask = logits.amax(1).isfinite()
    return finite


@dataclass(frozen=True)
class AnswerLost:
    """The criterion of a selector's search: another class than the reference, or no answer."""

    counts_no_answer: ClassVar[bool] = True

    def __call__(self, x_adv: Images, logits: Logits, y: Labels) -> Mask:
        """Whether each row's top class differs from ``y`` or its logits are not finite."""
        return (logits.argmax(1) != y) | ~answered(logits)


@dataclass(frozen=True)
class RobustnessIndicator:
    """Selects where an attack of radius rho around the input finds no other class.

    By symmetry an answer selected anywhere in the attacker's ball is F(x), as far as the
    attack can be trusted: the attacker can make it abstain, never make it answer otherwise.

    Attributes:
        budget: The attacker's ball (radius eps).
        attack: Any attack; it starts where one full gradient step from the input ended, so
            that ``Apgd(steps=39)``, the default, makes 40 steps and spends 82 passes on a robust
            input.
        radius: rho; ``budget.eps`` if not given, and never below it.
        search: The adversary's surrogate of this selector.

    Raises:
        ConfigError: The radius does not fit the budget.

    >>> selector = RobustnessIndicator(Threat("linf", "1/255"))
    >>> [str(ball) for ball in selector.reach.ascending]
    ['linf:1/255', 'linf:2/255']
    """

    budget: Threat
    attack: Attack = field(default_factory=lambda: Apgd(steps=39))
    radius: float | None = None
    search: InnerSearch = field(default_factory=InnerSearch)

    def __post_init__(self) -> None:
        Reach(self.budget, self.radius)

    @property
    def threshold(self) -> float:
        """The score is 1 (nothing found) or 0."""
        return 0.5

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
        """1 where the attack found nothing, else 0."""
        return self.answer(model, x, noise=noise)[1]

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits at ``x``, and 1 where neither the first look nor the attack found anything."""
        logits, robust = _looked_first(model, x, self.reach.own, self.attack, noise)
        return logits, robust.to(x.dtype)

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Worst margin of ``labels`` over the ball of radius rho around ``x``."""
        return worst_margin(model, x, labels, self.reach.own, noise=noise, search=self.search)


@dataclass(frozen=True)
class RobustMargin:
    """The robustness indicator with a graded score, so that it can be calibrated.

    The score is the smallest margin p_F - max_other p found over the ball of radius rho;
    negative where another class was found. At threshold 0 it is the indicator, above it
    asks for more.

    Attributes:
        budget: The attacker's ball (radius eps).
        attack: Any attack.
        threshold: Smallest margin that is selected, in [0, 1].
        radius: rho; ``budget.eps`` if not given, and never below it.
        search: The adversary's surrogate of this selector.

    Raises:
        ConfigError: The radius does not fit the budget, or the threshold selects nothing or
            admits changed answers.
    """

    budget: Threat
    attack: Attack
    threshold: float = 0.0
    radius: float | None = None
    search: InnerSearch = field(default_factory=InnerSearch)

    def __post_init__(self) -> None:
        Reach(self.budget, self.radius)
        if not 0 <= self.threshold <= 1:
            raise ConfigError(
                f"margin threshold {self.threshold} is not in [0, 1]: below 0 it admits answers "
                "that change within the ball, above 1 it selects nothing"
            )

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
        """Smallest probability margin found."""
        return self.answer(model, x, noise=noise)[1]

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits at ``x`` and the smallest probability margin found."""
        return _smallest_margin(model, x, self.reach.own, self.attack, noise)

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Worst margin of ``labels`` over the ball of radius rho, above the threshold."""
        return worst_margin(
            model,
            x,
            labels,
            self.reach.own,
            noise=noise,
            search=self.search,
            threshold=self.threshold,
        )


@torch.no_grad()
def robust_within(
    model: nn.Module, x: Images, threat: Threat, attack: Attack, *, noise: SampleNoise
) -> Mask:
    """Whether the attack finds no point of the ball with another label than F(x), or with none."""
    return _looked_first(model, x, threat, attack, noise)[1]


def _looked_first(
    model: nn.Module, x: Images, threat: Threat, attack: Attack, noise: SampleNoise
) -> tuple[Logits, Mask]:
    """Logits and robustness: one full step from the input, then the attack on what withstood it.

    What the attack could not search is not robust: without a gradient nothing is selected.

    Most inputs that are not robust fall to the first step, which costs them three passes with
    the one that gives the label; the attack goes on from where the step ended.
    """
    logits, _, grad = input_gradient(model, x, lambda z: margin(z, z.detach().argmax(1)))
    labels = logits.argmax(1)
    point = threat.project(x + threat.eps * threat.ascent_direction(grad), x)
    lost = AnswerLost()
    robust = answered(logits) & ~lost(point, model(point), labels)
    rows = robust.nonzero()[:, 0]
    if len(rows):
        outcome = attack(
            model,
            x[rows],
            labels[rows],
            threat,
            noise=noise.take(rows.tolist()),
            criterion=lost,
            start=point[rows],
            clean_logits=logits[rows],
        )
        # A point that is no image was reached by a gradient that is none: found, not verified.
        searched = outcome.judged & outcome.x_adv.flatten(1).isfinite().all(1)
        robust[rows] = ~outcome.success & searched
    return logits, robust


def _smallest_margin(
    model: nn.Module, x: Images, threat: Threat, attack: Attack, noise: SampleNoise
) -> tuple[Logits, PerSample]:
    """Logits, and the smallest probability margin of their class at the points found.

    Where the attack could not search it is -1, the least there is: nothing is known of it.
    """
    logits = model(x)
    labels = logits.argmax(1)
    outcome = attack(
        model, x, labels, threat, noise=noise, criterion=AnswerLost(), clean_logits=logits
    )
    found = model(outcome.x_adv)
    smallest = -torch.maximum(*(margin(z.softmax(1), labels) for z in (logits, found)))
    return logits, torch.where(outcome.judged, smallest, -1.0)


@torch.no_grad()
def robust_selection(
    selector: RobustnessIndicator | RobustMargin, model: nn.Module, x: Images, *, noise: SampleNoise
) -> Mask:
    """Whether the selector selects at every point of the attacker's ball, as attacks can tell.

    For the indicator this is robustness at rho + eps (the doubled radius by default), for the
    margin that it reaches the threshold all over that ball; the radius is taken from the
    selector's budget and cannot be passed.
    """
    if isinstance(selector, RobustMargin):
        sure = _smallest_margin(model, x, selector.reach.sure, selector.attack, noise)[1]
        return selected(sure, selector.threshold)
    return robust_within(model, x, selector.reach.sure, selector.attack, noise=noise)
