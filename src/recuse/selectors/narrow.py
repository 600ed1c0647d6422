"""A robustness indicator of less than the attacker's radius, which is no promise."""

from dataclasses import dataclass, field

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks import Apgd
from recuse.errors import ConfigError
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.results import Guarantee
from recuse.selectors.robustness import RobustnessIndicator
from recuse.selectors.surrogates import InnerSearch
from recuse.threat import Threat


@dataclass(frozen=True)
class NarrowIndicator:
    """Selects where an attack of a radius below the attacker's finds no other class.

    It selects more than the indicator, and without its symmetry an attacker can change a selected
    answer: that is as robust as the classifier within the whole budget, and no more.

    Attributes:
        budget: The attacker's ball (radius eps).
        radius: rho, below eps.
        attack: Any attack, as for :class:`recuse.selectors.RobustnessIndicator`.
        search: The adversary's surrogate of this selector.

    Raises:
        ConfigError: A radius that is not below the budget's.
    """

    budget: Threat
    radius: float
    attack: Attack = field(default_factory=lambda: Apgd(steps=39))
    search: InnerSearch = field(default_factory=InnerSearch)

    def __post_init__(self) -> None:
        if not 0 < self.radius < self.budget.eps:
            raise ConfigError(
                f"a narrow indicator's radius lies below the attacker's {self.budget}, got "
                f"{self.radius:g}; the indicator takes that radius and promises more"
            )

    @property
    def _looking(self) -> RobustnessIndicator:
        own = self.budget.with_eps(self.radius)
        return RobustnessIndicator(own, self.attack, search=self.search)

    @property
    def threshold(self) -> float:
        """The score is 1 (nothing found) or 0."""
        return self._looking.threshold

    @property
    def guarantee(self) -> Guarantee:
        """None: a point of the attacker's ball may be stable within rho and answered wrongly."""
        return Guarantee.NONE

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Images, *, noise: SampleNoise) -> PerSample:
        """1 where the attack found nothing, else 0."""
        return self.answer(model, x, noise=noise)[1]

    @torch.no_grad()
    def answer(
        self, model: nn.Module, x: Images, *, noise: SampleNoise
    ) -> tuple[Logits, PerSample]:
        """Logits at ``x``, and 1 where nothing was found."""
        return self._looking.answer(model, x, noise=noise)

    def surrogate(
        self, model: nn.Module, x: Images, labels: Labels, *, noise: SampleNoise
    ) -> PerSample:
        """Worst margin of ``labels`` over the ball of radius rho around ``x``."""
        return self._looking.surrogate(model, x, labels, noise=noise)
