"""Mixing instead of selecting: a robust and a standard model averaged into one classifier.

The baseline that compositions must beat: no abstention, one differentiable network, judged by
the same adversary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recuse.arrays import Images, Logits
from recuse.errors import ConfigError

_EPS = 1e-12


def _check_weight(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ConfigError(f"mixture weight {alpha} is not in [0, 1]; 0.5 weighs both models alike")


def _check_classes(robust: int, standard: int) -> None:
    if robust != standard:
        raise ConfigError(
            f"the robust model knows {robust} classes but the standard one {standard}; only "
            "models of the same classes can be mixed"
        )


class LogitMixture(nn.Module):
    """Logits ``alpha * robust + (1 - alpha) * standard``.

    Args:
        robust: Robust classifier.
        standard: Accurate classifier.
        alpha: Weight of the robust one.
    """

    def __init__(self, robust: nn.Module, standard: nn.Module, *, alpha: float) -> None:
        super().__init__()
        _check_weight(alpha)
        self.robust, self.standard, self.alpha = robust, standard, alpha

    def forward(self, x: Images) -> Logits:
        """Mixed logits."""
        robust, standard = self.robust(x), self.standard(x)
        _check_classes(robust.shape[1], standard.shape[1])
        mixed: Tensor = self.alpha * robust + (1 - self.alpha) * standard
        return mixed


class ConfidenceShaping(nn.Module):
    """Sharpens a robust model's logits where it is sure and flattens them where it is not.

    Normalises each row to mean 0 and variance 1, shifts it, clamps it below by a GELU and
    raises it to a power: margins grow with confidence, and a robust model keeps a larger
    margin under attack than the one with which it errs.

    Args:
        scale: Factor on the result.
        power: Exponent of the magnitude; 1 keeps margins in proportion.
        shift: Added before the clamp.

    Source: Bai, Zhou, Patel, Sojoudi, MixedNUTS, 2024.
    """

    def __init__(self, *, scale: float = 5.0, power: float = 4.0, shift: float = 1.0) -> None:
        super().__init__()
        if scale <= 0 or power <= 0:
            raise ConfigError(
                f"confidence shaping needs a positive scale and power, got {scale}, {power}"
            )
        self.scale, self.power, self.shift = scale, power, shift

    def forward(self, logits: Logits) -> Logits:
        """Reshaped logits; the order of the classes within a row is kept where above the clamp."""
        normal = functional.layer_norm(logits, logits.shape[1:])
        clamped = functional.gelu(normal + self.shift)
        return self.scale * clamped.sign() * clamped.abs().clamp_min(_EPS).pow(self.power)


class ProbabilityMixture(nn.Module):
    """Logits ``log(alpha * p_robust + (1 - alpha) * p_standard)``.

    Args:
        robust: Robust classifier.
        standard: Accurate classifier.
        alpha: Weight of the robust one; above one half a sure robust model outvotes the other.
        shaping: Applied to the robust logits before their softmax.

    Source: Bai, Anderson, Kim, Sojoudi, adaptive smoothing, 2023.
    """

    def __init__(
        self,
        robust: nn.Module,
        standard: nn.Module,
        *,
        alpha: float,
        shaping: ConfidenceShaping | None = None,
    ) -> None:
        super().__init__()
        _check_weight(alpha)
        self.robust, self.standard, self.alpha = robust, standard, alpha
        self.shaping = nn.Identity() if shaping is None else shaping

    def forward(self, x: Images) -> Logits:
        """Log-probabilities of the mixture."""
        robust, standard = self.robust(x), self.standard(x)
        _check_classes(robust.shape[1], standard.shape[1])
        p = self.alpha * self.shaping(robust).softmax(1) + (1 - self.alpha) * standard.softmax(1)
        return torch.log(p.clamp_min(_EPS))
