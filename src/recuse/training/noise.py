"""Objectives of smoothed classifiers: Gaussian augmentation, MACER, CRA. No attack, only noise.

Noise is added to the image before normalisation and is not clipped to [0, 1], exactly as the
smoothed classifier will see it.
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from recuse.arrays import Images, Labels
from recuse.errors import ConfigError
from recuse.losses import cra_penalty, gaussian, macer
from recuse.losses.smoothing import RadiusOf
from recuse.random import SampleNoise
from recuse.results import LossTerms
from recuse.threat import Threat
from recuse.training.abstention import blended, check_beta
from recuse.training.forward import BatchNorm, loss_logits
from recuse.training.schedule import Ramp


def noisy_logits(
    model: nn.Module,
    x: Images,
    *,
    sigma: float,
    k: int,
    batch_norm: BatchNorm,
    noise: SampleNoise,
) -> Tensor:
    """Logits of ``k`` noisy copies of each input in one forward, shape ``batch k classes``."""
    draws = noise.substream("gaussian").normal(x[:, None].expand(-1, k, *x.shape[1:]))
    logits = loss_logits(model, (x[:, None] + sigma * draws).flatten(0, 1), batch_norm)
    return logits.view(len(x), k, -1)


def _check(sigma: float, k: int) -> None:
    if not sigma > 0 or k < 1:
        raise ConfigError(
            f"noise training needs sigma > 0 and at least one draw, got sigma={sigma}, k={k}"
        )


def _correct(logits: Tensor, y: Labels) -> Tensor:
    return logits.detach().softmax(dim=2).mean(dim=1).argmax(dim=1) == y


@dataclass(frozen=True)
class Gaussian:
    """Cross-entropy under Gaussian noise.

    Attributes:
        sigma: Standard deviation in pixel units.
        k: Draws per input and step.
        batch_norm: Statistics used by batch norm.

    Source: Cohen, Rosenfeld, Kolter, ICML 2019.
    """

    sigma: float = 0.12
    k: int = 1
    batch_norm: BatchNorm = "train"

    def __post_init__(self) -> None:
        _check(self.sigma, self.k)

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
        """``mean_j CE(f(x + eta_j), y)``; the threat plays no part."""
        logits = noisy_logits(
            model, x, sigma=self.sigma, k=self.k, batch_norm=self.batch_norm, noise=noise
        )
        total = gaussian(logits, y)
        return LossTerms(total, {"noise": total.detach()}, _correct(logits, y))


@dataclass(frozen=True)
class Macer:
    """MACER: enlarge the certified radius of what the smoothed network gets right.

    Attributes:
        sigma: Standard deviation in pixel units.
        k: Draws per input and step.
        weight: Weight of the hinge on the radius.
        margin: Quantile gap beyond which a radius need not grow.
        gamma: Inverse temperature of the soft radius.
        batch_norm: Statistics used by batch norm.

    Source: Zhai et al., ICLR 2020.
    """

    sigma: float = 0.12
    k: int = 16
    weight: float = 12.0
    margin: float = 8.0
    gamma: float = 16.0
    batch_norm: BatchNorm = "train"

    def __post_init__(self) -> None:
        _check(self.sigma, self.k)

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
        """The loss of :func:`recuse.losses.macer`; the threat plays no part."""
        logits = noisy_logits(
            model, x, sigma=self.sigma, k=self.k, batch_norm=self.batch_norm, noise=noise
        )
        total = macer(
            logits, y, sigma=self.sigma, weight=self.weight, margin=self.margin, gamma=self.gamma
        )
        return LossTerms(total, {"noise": total.detach()}, _correct(logits, y))


@dataclass(frozen=True)
class Cra:
    """CRA: a loss under noise, and the soft certified radius of what is wrong, to be shrunk.

    Attributes:
        beta: Weight of the noise loss; smaller values abstain more.
        sigma: Standard deviation in pixel units.
        k: Draws per input and step.
        gamma: Inverse temperature of the soft radius.
        radius_of: ``"prediction"``, or ``"label"`` for Eq. 11 to the letter.
        batch_norm: ``"eval"`` for fine-tuning, ``"train"`` from scratch.
        ramp: When the penalty fades in; for training from scratch.

    Source: Eq. 9 and 11 of the ERA paper.
    """

    beta: float = 1.0
    sigma: float = 0.12
    k: int = 16
    gamma: float = 4.0
    radius_of: RadiusOf = "prediction"
    batch_norm: BatchNorm = "eval"
    ramp: Ramp = Ramp()

    def __post_init__(self) -> None:
        check_beta(self.beta)
        _check(self.sigma, self.k)

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
        """``beta * L_noise + (1 - mean_j p(x + eta_j)_y) * radius``; the threat plays no part."""
        logits = noisy_logits(
            model, x, sigma=self.sigma, k=self.k, batch_norm=self.batch_norm, noise=noise
        )
        penalty = cra_penalty(
            logits, y, sigma=self.sigma, gamma=self.gamma, radius_of=self.radius_of
        )
        noisy = LossTerms(gaussian(logits, y), {})
        terms = blended(noisy, penalty, beta=self.beta, penalty_weight=self.ramp(progress))
        return replace(terms, correct=_correct(logits, y))


__all__ = ["Cra", "Gaussian", "Macer", "noisy_logits"]
