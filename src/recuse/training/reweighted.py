"""Geometry-aware losses: samples near the decision boundary count more.

The geometry value kappa is counted inside the attack, on logits it computes anyway. Until the
burn-in ends all weights are one: kappa means nothing while the network is bad.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from recuse.arrays import PerSample
from recuse.losses import (
    cross_entropy,
    gair_trades,
    gairat,
    gairat_weights,
    gairat_weights_discrete,
    gairat_weights_sigmoid,
    kl_regularizer,
    trades,
)
from recuse.results import Weighted
from recuse.training.adversarial import (
    anywhere,
    away_from_the_label,
    away_from_the_prediction,
    close_by,
)
from recuse.training.robust import Pair


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
        burn_in: Share of training before the weights apply; plain adversarial training till then.

    Source: Zhang et al., ICLR 2021.
    """

    weights: GeometryWeights = TanhWeights()
    burn_in: float = 0.6

    looks_at_clean: ClassVar[bool] = False
    ascent = staticmethod(away_from_the_label)
    start = staticmethod(anywhere)

    def loss(self, pair: Pair) -> PerSample:
        """``w(kappa) * CE(f(x_adv), y)``."""
        share = self.weighted(pair)
        return cross_entropy(pair.logits_adv, pair.y) if share is None else share.share

    def weighted(self, pair: Pair) -> Weighted | None:
        """All of the loss."""
        if pair.progress < self.burn_in:
            return None
        weights, mean = scaled(self.weights, pair)
        return weighted(gairat(pair.logits_adv, pair.y, weights), mean)


@dataclass(frozen=True)
class GairTrades:
    """TRADES whose adversarial part is reweighted by geometry.

    Attributes:
        gamma: Weight of the movement.
        weights: The curve from kappa to weights.
        burn_in: Share of training before the weights apply; plain TRADES till then.

    Source: Zhang et al., ICLR 2021.
    """

    gamma: float = 6.0
    weights: GeometryWeights = TanhWeights()
    burn_in: float = 0.6

    looks_at_clean: ClassVar[bool] = True
    ascent = staticmethod(away_from_the_prediction)
    start = staticmethod(close_by)

    def loss(self, pair: Pair) -> PerSample:
        """``CE(f(x), y) + gamma * w(kappa) * KL(p(x) || p(x_adv))``."""
        if pair.progress < self.burn_in:
            return trades(pair.logits, pair.logits_adv, pair.y, gamma=self.gamma)
        weights, _ = scaled(self.weights, pair)
        return gair_trades(pair.logits, pair.logits_adv, pair.y, weights, gamma=self.gamma)

    def weighted(self, pair: Pair) -> Weighted | None:
        """``gamma * w(kappa) * KL(p(x) || p(x_adv))``."""
        if pair.progress < self.burn_in:
            return None
        weights, mean = scaled(self.weights, pair)
        return weighted(self.gamma * weights * kl_regularizer(pair.logits, pair.logits_adv), mean)


__all__ = [
    "GEOMETRY_WEIGHTS",
    "DiscreteWeights",
    "GairTrades",
    "Gairat",
    "GeometryWeights",
    "SigmoidWeights",
    "TanhWeights",
]
