"""Geometry-aware objectives: samples near the decision boundary count more.

The geometry value kappa is counted inside the attack, on logits it computes anyway. Until the
burn-in ends all weights are one: kappa means nothing while the network is bad.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks.pgd import Pgd
from recuse.losses import (
    cross_entropy,
    gair_trades,
    gairat,
    gairat_weights,
    gairat_weights_discrete,
    gairat_weights_sigmoid,
    kl_regularizer,
)
from recuse.random import SampleNoise
from recuse.results import LossTerms, Weighted
from recuse.threat import Threat
from recuse.training.adversarial import JITTER, Adversarial, Trades
from recuse.training.forward import BatchNorm
from recuse.training.robust import Ascent, Pair, attacked_terms, robust_terms


@runtime_checkable
class GeometryWeights(Protocol):
    """Weights that fall with kappa; the loss scales them to mean 1 over the batch."""

    def __call__(self, kappa: PerSample, steps: int) -> PerSample:
        """Weight per sample, before it is scaled."""
        ...


@dataclass(frozen=True)
class TanhWeights:
    """:func:`recuse.losses.gairat_weights`; ``lam`` shifts the curve."""

    lam: float = -1.0

    def __call__(self, kappa: PerSample, steps: int) -> PerSample:
        """Weight per sample, before it is scaled."""
        return gairat_weights(kappa, steps, lam=self.lam, scaled=False)


@dataclass(frozen=True)
class SigmoidWeights:
    """:func:`recuse.losses.gairat_weights_sigmoid`; ``lam`` shifts the curve."""

    lam: float = -1.0

    def __call__(self, kappa: PerSample, steps: int) -> PerSample:
        """Weight per sample, before it is scaled."""
        return gairat_weights_sigmoid(kappa, steps, lam=self.lam, scaled=False)


@dataclass(frozen=True)
class DiscreteWeights:
    """:func:`recuse.losses.gairat_weights_discrete`: linear in kappa."""

    def __call__(self, kappa: PerSample, steps: int) -> PerSample:
        """Weight per sample, before it is scaled."""
        return gairat_weights_discrete(kappa, steps, scaled=False)


GEOMETRY_WEIGHTS: dict[str, type[GeometryWeights]] = {
    "tanh": TanhWeights,
    "sigmoid": SigmoidWeights,
    "discrete": DiscreteWeights,
}


def scaled(weights: GeometryWeights, pair: Pair) -> tuple[PerSample, Tensor]:
    """Weights of mean 1 over the pair's samples, and the mean they were divided by."""
    raw = weights(pair.kappa.to(pair.logits_adv.dtype), pair.steps)
    return raw / raw.mean(), raw.mean()


def weighted(share: PerSample, mean: Tensor) -> Weighted:
    """A share that a robust loss logs as ``robust``."""
    return Weighted(share, mean, {"robust": share.detach()})


@dataclass(frozen=True)
class Gairat:
    """GAIRAT: adversarial training reweighted by geometry.

    Attributes:
        weights: The curve from kappa to weights.
        burn_in: Share of training before the weights apply.
        attack: PGD settings; random start.
        batch_norm: Statistics used by batch norm in the loss forwards.

    Source: Zhang et al., ICLR 2021.
    """

    weights: GeometryWeights = TanhWeights()
    burn_in: float = 0.6
    attack: Pgd = Pgd()
    batch_norm: BatchNorm = "train"

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """Cross-entropy to the label."""
        return lambda logits: cross_entropy(logits, y)

    def start(self, x: Images, threat: Threat, noise: SampleNoise) -> Images:
        """A random point of the ball."""
        return self.attack.begin(x, threat, noise)

    def loss(self, pair: Pair) -> PerSample:
        """``w(kappa) * CE(f(x_adv), y)``."""
        return self.weighted(pair).share

    def weighted(self, pair: Pair) -> Weighted:
        """All of the loss."""
        weights, mean = scaled(self.weights, pair)
        return weighted(gairat(pair.logits_adv, pair.y, weights), mean)

    def at(self, progress: float) -> "Gairat | Adversarial":
        """Plain adversarial training during the burn-in."""
        return self if progress >= self.burn_in else Adversarial(self.attack, self.batch_norm)

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> LossTerms:
        """The weighted loss at the adversarial example; clean inputs are never looked at."""
        return attacked_terms(self, model, x, y, threat, noise)


@dataclass(frozen=True)
class GairTrades:
    """TRADES whose adversarial part is reweighted by geometry.

    Attributes:
        gamma: Weight of the movement.
        weights: The curve from kappa to weights.
        burn_in: Share of training before the weights apply.
        attack: PGD settings; it starts at ``x + 0.001 N(0, 1)``.
        batch_norm: Statistics used by batch norm in the loss forwards.

    Source: Zhang et al., ICLR 2021.
    """

    gamma: float = 6.0
    weights: GeometryWeights = TanhWeights()
    burn_in: float = 0.6
    attack: Pgd = Pgd()
    batch_norm: BatchNorm = "train"

    def ascent(self, clean: Logits, y: Labels) -> Ascent:
        """KL(p(x) || p(x'))."""
        return lambda logits: kl_regularizer(clean, logits)

    def start(self, x: Images, threat: Threat, noise: SampleNoise) -> Images:
        """A point close to ``x``."""
        return x + JITTER * noise.normal(x)

    def loss(self, pair: Pair) -> PerSample:
        """``CE(f(x), y) + gamma * w(kappa) * KL(p(x) || p(x_adv))``."""
        weights, _ = scaled(self.weights, pair)
        return gair_trades(pair.logits, pair.logits_adv, pair.y, weights, gamma=self.gamma)

    def weighted(self, pair: Pair) -> Weighted:
        """``gamma * w(kappa) * KL(p(x) || p(x_adv))``."""
        weights, mean = scaled(self.weights, pair)
        return weighted(self.gamma * weights * kl_regularizer(pair.logits, pair.logits_adv), mean)

    def at(self, progress: float) -> "GairTrades | Trades":
        """Plain TRADES during the burn-in."""
        return (
            self if progress >= self.burn_in else Trades(self.gamma, self.attack, self.batch_norm)
        )

    def __call__(
        self, model: nn.Module, x: Images, y: Labels, threat: Threat, *, noise: SampleNoise
    ) -> LossTerms:
        """The loss on examples that maximise the divergence."""
        return robust_terms(self, model, x, y, threat, noise)


__all__ = [
    "GEOMETRY_WEIGHTS",
    "DiscreteWeights",
    "GairTrades",
    "Gairat",
    "GeometryWeights",
    "SigmoidWeights",
    "TanhWeights",
]
