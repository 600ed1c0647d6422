"""MixedNUTS: a fitted map of a robust network's logits that makes mixing with another one pay.

A robust network is less sure where it errs on clean inputs than where it is right under attack,
but by too little for a mixture to use. The map widens that difference; its three numbers are chosen
on logits alone, without a network and without a gradient.

Source: Bai, Zhou, Patel, Sojoudi, "MixedNUTS: Training-Free Accuracy-Robustness Balance via
Nonlinearly Mixed Classifiers", 2024.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from recuse.errors import ConfigError
from recuse.models.mixture import MixedNutsMap, ProbabilityMixture

# A margin of probabilities ends at 1: where those to be kept have come so far, others that have too
# are not told from them.
_SATURATED = 1 - 1e-9
# Of the answers which survived, the share that a map may change.
_CHANGED = 1e-3
SCALES = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
SHIFTS = (-2.0, -1.7, -1.4, -1.1, -0.8, -0.5, -0.25, 0.0)
POWERS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)


@dataclass(frozen=True)
class MixedNuts:
    """A fitted map and the weight of the mixture that belongs to it.

    Attributes:
        scale: Of the map.
        shift: Of the map.
        power: Of the map.
        alpha: Weight of the robust network.
        objective: Percent of the clean mistakes whose margin lies above the cutoff, which the
            other network cannot correct.
    """

    scale: float
    shift: float
    power: float
    alpha: float
    objective: float

    @property
    def shaping(self) -> tuple[float, float, float]:
        """The map, as the config of a mixture holds it."""
        return (self.scale, self.shift, self.power)

    @property
    def map(self) -> MixedNutsMap:
        """The map of the robust network's logits."""
        return MixedNutsMap(scale=self.scale, shift=self.shift, power=self.power)

    def mixture(self, robust: nn.Module, standard: nn.Module) -> ProbabilityMixture:
        """The mixture: mapped probabilities of ``robust`` with the bare answer of ``standard``."""
        return ProbabilityMixture(
            robust, standard, alpha=self.alpha, shaping=self.map, one_hot=True
        )


def fit_mixednuts(
    attacked_right: Tensor | np.ndarray,
    clean_wrong: Tensor | np.ndarray,
    *,
    keep: float,
    scales: Iterable[float] = SCALES,
    shifts: Iterable[float] = SHIFTS,
    powers: Iterable[float] = POWERS,
) -> MixedNuts:
    """Choose the map on a grid, and the weight, as the authors of MixedNUTS do.

    For each map the cutoff is the margin that a share ``keep`` of the answers which survived an
    attack reaches; the map is taken under which the fewest clean mistakes lie above it. Of equal
    ones the first counts, powers varying fastest.

    Of a weak network far shifts change the answers themselves, and what is then sure is another
    class: a map that changes more than one in a thousand of the answers which survived is not
    taken, unless every map of the grid does; then those that change the fewest are looked at.

    Args:
        attacked_right: Logits ``[n, classes]`` of the robust network at the points of a strong
            attack, where it is still right.
        clean_wrong: Its logits ``[m, classes]`` on clean inputs that it gets wrong.
        keep: Share of the first that the mixture shall not lose, in (0, 1].
        scales: Grid of the map's factor.
        shifts: Grid of the map's shift.
        powers: Grid of the map's exponent.

    Raises:
        ConfigError: No logits, different classes, a share outside (0, 1], or an empty grid.
    """
    right, wrong = (
        torch.as_tensor(logits, dtype=torch.float64).detach()
        for logits in (attacked_right, clean_wrong)
    )
    _require_fit(right, wrong, keep)
    answers, found = right.argmax(1), []
    for scale, shift, power in product(scales, shifts, powers):
        shape = MixedNutsMap(scale=float(scale), shift=float(shift), power=float(power))
        changed = float((shape(right).argmax(1) != answers).double().mean())
        cutoff = float(np.quantile(_margins(shape, right), 1 - keep))
        lost = 100 * float((_margins(shape, wrong) > min(cutoff, _SATURATED)).mean())
        weight = 1 / (1 + cutoff)
        found.append((changed, MixedNuts(shape.scale, shape.shift, shape.power, weight, lost)))
    if not found:
        raise ConfigError("the grid is empty; give at least one scale, shift and power")
    allowed = max(_CHANGED, min(changed for changed, _ in found))
    kept = (nuts for changed, nuts in found if changed <= allowed)
    return min(kept, key=lambda nuts: nuts.objective)


def _margins(shape: MixedNutsMap, logits: Tensor) -> np.ndarray:
    """Largest minus second largest probability after the map."""
    top = shape(logits).softmax(1).topk(2, dim=1).values
    return np.asarray((top[:, 0] - top[:, 1]).numpy())


def _require_fit(right: Tensor, wrong: Tensor, keep: float) -> None:
    if right.dim() != 2 or wrong.dim() != 2 or right.shape[1:] != wrong.shape[1:]:
        raise ConfigError(
            f"logits of shape {tuple(right.shape)} and {tuple(wrong.shape)} do not belong to one "
            "network; give [samples, classes] of the same classes"
        )
    if not len(right) or not len(wrong) or right.shape[1] < 2:
        raise ConfigError("a map is fitted on at least one input of each kind and two classes")
    if not 0 < keep <= 1:
        raise ConfigError(f"a share of {keep} to keep is not in (0, 1]")


__all__ = ["MixedNuts", "fit_mixednuts"]
