"""Objectives of standard and robust training: a loss, and the attack that goes with it."""

from dataclasses import dataclass

from torch import nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks.pgd import Pgd
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
from recuse.training.forward import BatchNorm, loss_logits
from recuse.training.robust import Ascent, Pair, attacked_terms, robust_terms

# KL(p(x) || p(x')) is flat at x' = x, so its ascent starts a little beside it (Zhang et al.).
JITTER = 0.001


@dataclass(frozen=True)
class Standard:
    """Cross-entropy on clean inputs; no attack.

    Attributes:
        batch_norm: Statistics used by batch norm.
    """

    batch_norm: BatchNorm = "train"

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> LossTerms:
        """``CE(f(x), y)``; the threat plays no part."""
        logits = loss_logits(model, x, self.batch_norm)
        total = cross_entropy(logits, y)
        return LossTerms(total, {"natural": total.detach()}, logits.detach().argmax(dim=1) == y)


@dataclass(frozen=True)
class Adversarial:
    """Adversarial training (AT): cross-entropy at the point that maximises it.

    Attributes:
        attack: PGD settings; random start.
        batch_norm: Statistics used by batch norm in the loss forwards.

    Source: Madry et al., ICLR 2018.
    """

    attack: Pgd = Pgd()
    batch_norm: BatchNorm = "train"

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """Cross-entropy to the label."""
        return lambda logits: cross_entropy(logits, y)

    def start(self, x: Images, threat: Threat, noise: SampleNoise) -> Images:
        """A random point of the ball."""
        return self.attack.begin(x, threat, noise)

    def loss(self, pair: Pair) -> PerSample:
        """``CE(f(x_adv), y)``."""
        return cross_entropy(pair.logits_adv, pair.y)

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> LossTerms:
        """The loss at the adversarial example; clean inputs are never looked at."""
        return attacked_terms(self, model, x, y, threat, noise)


@dataclass(frozen=True)
class Trades:
    """TRADES: clean cross-entropy plus the largest movement of the prediction in the ball.

    Attributes:
        gamma: Weight of the movement.
        attack: PGD settings; it starts at ``x + 0.001 N(0, 1)``.
        batch_norm: Statistics used by batch norm in the loss forwards.

    Source: Zhang et al., ICML 2019.
    """

    gamma: float = 6.0
    attack: Pgd = Pgd()
    batch_norm: BatchNorm = "train"

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """KL(p(x) || p(x'))."""
        return lambda logits: kl_regularizer(clean, logits)

    def start(self, x: Images, threat: Threat, noise: SampleNoise) -> Images:
        """A point close to ``x``."""
        return x + JITTER * noise.normal(x)

    def loss(self, pair: Pair) -> PerSample:
        """``CE(f(x), y) + gamma * KL(p(x) || p(x_adv))``."""
        return trades(pair.logits, pair.logits_adv, pair.y, gamma=self.gamma)

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> LossTerms:
        """The loss on examples that maximise the divergence."""
        return robust_terms(self, model, x, y, threat, noise)


@dataclass(frozen=True)
class Mart:
    """MART: boosted cross-entropy, and less smoothing where the clean prediction is right.

    Attributes:
        lam: Weight of the movement.
        attack: PGD settings; random start.
        batch_norm: Statistics used by batch norm in the loss forwards.

    Source: Wang et al., ICLR 2020.
    """

    lam: float = 6.0
    attack: Pgd = Pgd()
    batch_norm: BatchNorm = "train"

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """Cross-entropy to the label."""
        return lambda logits: cross_entropy(logits, y)

    def start(self, x: Images, threat: Threat, noise: SampleNoise) -> Images:
        """A random point of the ball."""
        return self.attack.begin(x, threat, noise)

    def loss(self, pair: Pair) -> PerSample:
        """``BCE(f(x_adv), y) + lam * KL(p(x) || p(x_adv)) * (1 - p(x)_y)``."""
        return mart(pair.logits, pair.logits_adv, pair.y, lam=self.lam)

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> LossTerms:
        """The loss on examples that maximise the cross-entropy."""
        return robust_terms(self, model, x, y, threat, noise)


@dataclass(frozen=True)
class Score:
    """SCORE with squared errors: asks for invariance only beyond a tolerance.

    Attributes:
        beta: Weight of the movement.
        clip: Movement that is tolerated.
        smoothing: Label smoothing.
        attack: PGD settings; it starts at ``x + 0.001 N(0, 1)``.
        batch_norm: Statistics used by batch norm in the loss forwards.

    Source: Pang et al., ICML 2022.
    """

    beta: float = 3.0
    clip: float = 0.0
    smoothing: float = 0.0
    attack: Pgd = Pgd()
    batch_norm: BatchNorm = "train"

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """``||p(x') - p(x)||^2``."""
        return lambda logits: squared_distance(clean, logits)

    def start(self, x: Images, threat: Threat, noise: SampleNoise) -> Images:
        """A point close to ``x``, where the movement itself would be flat."""
        return x + JITTER * noise.normal(x)

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

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> LossTerms:
        """The loss on examples that move the prediction most."""
        return robust_terms(self, model, x, y, threat, noise)


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


__all__ = ["Adversarial", "Mart", "Score", "ScoreJs", "Standard", "Trades"]
