"""Robust losses as values, and the objectives of standard and robust training."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks.pgd import Pgd
from recuse.errors import ConfigError
from recuse.losses import (
    cross_entropy,
    js_divergence,
    kl_regularizer,
    mart,
    score,
    score_js,
    squared_distance,
    trades,
)
from recuse.random import SampleNoise
from recuse.results import LossTerms
from recuse.threat import Threat
from recuse.training.forward import BatchNorm, attack_view, loss_logits
from recuse.training.robust import (
    NO_NOISE,
    Ascent,
    Pair,
    RobustLoss,
    StepCounter,
    attack_pair,
    terms_of,
)

# KL(p(x) || p(x')) is flat at x' = x, so its ascent starts a little beside it (Zhang et al.).
JITTER = 0.001


def check_smoothing(smoothing: float) -> None:
    """Refuse a share of the label that leaves none of it.

    Raises:
        ConfigError: Outside [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise ConfigError(f"smoothing is {smoothing}; give a share of the label in [0, 1)")


@dataclass(frozen=True)
class Standard:
    """Cross-entropy on clean inputs; no attack.

    Attributes:
        batch_norm: Statistics used by batch norm.
        smoothing: Share of each label that is spread over all classes.
    """

    batch_norm: BatchNorm = "train"
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)

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
        """``CE(f(x), y)``; the threat plays no part."""
        logits = loss_logits(model, x, self.batch_norm)
        total = cross_entropy(logits, y, smoothing=self.smoothing)
        return LossTerms(total, {"natural": total.detach()}, logits.detach().argmax(dim=1) == y)


def away_from_the_label(clean: Logits, y: Labels) -> Ascent:
    """What most attacks ascend: cross-entropy to the label."""
    return lambda logits: cross_entropy(logits, y)


def away_from_the_prediction(clean: Logits, y: Labels) -> Ascent:
    """What TRADES' attack ascends: KL(p(x) || p(x'))."""
    return lambda logits: kl_regularizer(clean, logits)


def anywhere(x: Images, threat: Threat, attack: Pgd, noise: SampleNoise) -> Images:
    """A random point of the ball."""
    return attack.begin(x, threat, noise)


def close_by(x: Images, threat: Threat, attack: Pgd, noise: SampleNoise) -> Images:
    """A point ``x + 0.001 N(0, 1)``, where a distance to ``x`` is no longer flat."""
    return x + JITTER * noise.normal(x)


@dataclass(frozen=True)
class Adversarial:
    """Adversarial training (AT): cross-entropy at the point that maximises it.

    Attributes:
        smoothing: Share of each label that is spread over all classes.

    Source: Madry et al., ICLR 2018.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)

    looks_at_clean: ClassVar[bool] = False
    ascent = staticmethod(away_from_the_label)
    start = staticmethod(anywhere)

    def loss(self, pair: Pair) -> PerSample:
        """``CE(f(x_adv), y)``."""
        return cross_entropy(pair.logits_adv, pair.y, smoothing=self.smoothing)


@dataclass(frozen=True)
class Trades:
    """TRADES: clean cross-entropy plus the largest movement of the prediction in the ball.

    Attributes:
        gamma: Weight of the movement.

    Source: Zhang et al., ICML 2019.
    """

    gamma: float = 6.0

    looks_at_clean: ClassVar[bool] = True
    ascent = staticmethod(away_from_the_prediction)
    start = staticmethod(close_by)

    def loss(self, pair: Pair) -> PerSample:
        """``CE(f(x), y) + gamma * KL(p(x) || p(x_adv))``."""
        return trades(pair.logits, pair.logits_adv, pair.y, gamma=self.gamma)


@dataclass(frozen=True)
class Mart:
    """MART: boosted cross-entropy, and less smoothing where the clean prediction is right.

    Attributes:
        lam: Weight of the movement.

    Source: Wang et al., ICLR 2020.
    """

    lam: float = 6.0

    looks_at_clean: ClassVar[bool] = True
    ascent = staticmethod(away_from_the_label)
    start = staticmethod(anywhere)

    def loss(self, pair: Pair) -> PerSample:
        """``BCE(f(x_adv), y) + lam * KL(p(x) || p(x_adv)) * (1 - p(x)_y)``."""
        return mart(pair.logits, pair.logits_adv, pair.y, lam=self.lam)


@dataclass(frozen=True)
class Score:
    """SCORE with squared errors: asks for invariance only beyond a tolerance.

    Attributes:
        beta: Weight of the movement.
        clip: Movement that is tolerated.
        smoothing: Label smoothing.

    Source: Pang et al., ICML 2022.
    """

    beta: float = 3.0
    clip: float = 0.0
    smoothing: float = 0.0

    looks_at_clean: ClassVar[bool] = True
    start = staticmethod(close_by)

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """``||p(x') - p(x)||^2``."""
        return lambda logits: squared_distance(clean, logits)

    def loss(self, pair: Pair) -> PerSample:
        """Squared error to the smoothed label, and squared movement beyond ``clip``."""
        return score(
            pair.logits,
            pair.logits_adv,
            pair.y,
            beta=self.beta,
            clip=self.clip,
            smoothing=self.smoothing,
        )


@dataclass(frozen=True)
class ScoreJs(Score):
    """SCORE with Jensen-Shannon divergences instead of squared distances.

    Source: Pang et al., ICML 2022.
    """

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """``JS(p(x), p(x'))``."""
        return lambda logits: js_divergence(clean, logits)

    def loss(self, pair: Pair) -> PerSample:
        """Divergence from the smoothed label, and movement beyond ``clip``."""
        return score_js(
            pair.logits,
            pair.logits_adv,
            pair.y,
            beta=self.beta,
            clip=self.clip,
            smoothing=self.smoothing,
        )


@dataclass(frozen=True)
class Robust:
    """Trains with a robust loss, on the examples of the attack that the loss asks for.

    Attributes:
        loss: The formula, what its attack ascends, and where that starts.
        attack: Steps and step size.
        batch_norm: Statistics used by batch norm in the loss forwards.
    """

    loss: RobustLoss = Trades()
    attack: Pgd = Pgd()
    batch_norm: BatchNorm = "train"

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
        """The loss at the adversarial examples.

        A loss that never looks at the clean inputs costs 11 forwards with ten attack steps, any
        other 12.
        """
        start = self.loss.start(x, threat, self.attack, noise.substream("attack"))
        if not self.loss.looks_at_clean:
            return terms_of(self.loss, self._unpaired(model, x, y, threat, start, progress))
        pair = attack_pair(
            model,
            x,
            y,
            threat,
            attack=self.attack,
            start=start,
            ascent=self.loss.ascent,
            batch_norm=self.batch_norm,
            progress=progress,
        )
        return replace(terms_of(self.loss, pair), correct=pair.correct)

    def _unpaired(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        start: Images,
        progress: float,
    ) -> Pair:
        """Adversarial logits; the clean ones, which nothing looks at, are NaN."""
        counter = StepCounter(self.loss.ascent(y.new_empty(len(y), 0).float(), y), y)
        with attack_view(model) as attacked:
            x_adv = self.attack.perturb(attacked, x, threat, counter, noise=NO_NOISE, start=start)
        logits_adv = loss_logits(model, x_adv, self.batch_norm)
        unseen = torch.full_like(logits_adv, torch.nan)
        return Pair(unseen, logits_adv, y, counter.kappa, self.attack.steps, progress)


__all__ = ["Adversarial", "Mart", "Robust", "Score", "ScoreJs", "Standard", "Trades"]
