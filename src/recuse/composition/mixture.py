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


class ProbabilityMixture(nn.Module):
    """Logits ``log(alpha * p_robust + (1 - alpha) * p_standard)``.

    Args:
        robust: Robust classifier.
        standard: Accurate classifier.
        alpha: Weight of the robust one; above one half a sure robust model outvotes the other.
        shaping: Applied to the robust logits before their softmax; none if absent.
        one_hot: Mix in the standard model's bare answer instead of its probabilities.

    Source: Bai, Anderson, Kim, Sojoudi, adaptive smoothing, 2023.
    """

    def __init__(
        self,
        robust: nn.Module,
        standard: nn.Module,
        *,
        alpha: float,
        shaping: nn.Module | None = None,
        one_hot: bool = False,
    ) -> None:
        super().__init__()
        _check_weight(alpha)
        self.robust, self.standard, self.alpha = robust, standard, alpha
        self.shaping = nn.Identity() if shaping is None else shaping
        self.one_hot = one_hot

    def forward(self, x: Images) -> Logits:
        """Log-probabilities of the mixture."""
        robust, standard = self.robust(x), self.standard(x)
        _check_classes(robust.shape[1], standard.shape[1])
        answer = functional.one_hot(standard.argmax(1), standard.shape[1]).to(standard.dtype)
        other = answer if self.one_hot else standard.softmax(1)
        p = self.alpha * self.shaping(robust).softmax(1) + (1 - self.alpha) * other
        return torch.log(p.clamp_min(_EPS))
