"""The rates of the field as pure functions of per-sample verdicts (boolean arrays).

Every rate is a fraction in [0, 1]. A conditional rate over nothing (no sample selected) is
NaN, never 0: an empty selection is not a bad one. Two masks tell a selector apart:
``selected`` is its decision at x, ``robustly_selected`` says that it holds in the whole ball.
For the robustness indicator at radius eps the first is ``rob_eps`` and the second ``rob_2eps``.
"""

from dataclasses import dataclass

import numpy as np

from recuse.analysis.verdicts import Mask


def rate(mask: Mask) -> float:
    """Share of samples for which ``mask`` holds; NaN over no samples."""
    return share(mask, np.ones_like(mask))


def share(mask: Mask, among: Mask) -> float:
    """Share of the samples of ``among`` for which ``mask`` holds; NaN where ``among`` is empty."""
    if mask.shape != among.shape:
        raise ValueError(f"masks of {mask.shape} and {among.shape} samples cannot be compared")
    total = int(np.count_nonzero(among))
    return int(np.count_nonzero(mask & among)) / total if total else float("nan")


def natural_accuracy(accurate: Mask) -> float:
    """Share of samples that the model answers rightly: mean acc."""
    return rate(accurate)


def robust_accuracy(accurate: Mask, robust: Mask) -> float:
    """Share answered rightly in the whole ball: mean acc ∧ rob."""
    return rate(accurate & robust)


def robust_inaccuracy(accurate: Mask, robust: Mask) -> float:
    """Share answered wrongly, and stably so: mean ¬acc ∧ rob, the dangerous kind."""
    return rate(~accurate & robust)


@dataclass(frozen=True)
class Splits:
    """The four parts of a data set; they sum to 1.

    Attributes:
        robust_accurate: Stable and right.
        robust_inaccurate: Stable and wrong.
        fragile_accurate: Right, but an attack changes it.
        fragile_inaccurate: Wrong, and an attack changes it.
    """

    robust_accurate: float
    robust_inaccurate: float
    fragile_accurate: float
    fragile_inaccurate: float


def splits(accurate: Mask, robust: Mask) -> Splits:
    """{rob, ¬rob} × {acc, ¬acc} as rates."""
    return Splits(
        robust_accurate=rate(accurate & robust),
        robust_inaccurate=rate(~accurate & robust),
        fragile_accurate=rate(accurate & ~robust),
        fragile_inaccurate=rate(~accurate & ~robust),
    )


def coverage(selected: Mask) -> float:
    """Share of samples that the selector accepts."""
    return rate(selected)


def robust_selection(robustly_selected: Mask) -> float:
    """Share of samples that the selector accepts everywhere in the ball."""
    return rate(robustly_selected)


def selective_risk(accurate: Mask, selected: Mask) -> float:
    """Share of wrong answers among the selected."""
    return share(~accurate, selected)


def selective_accuracy(accurate: Mask, selected: Mask) -> float:
    """Share of right answers among the selected."""
    return share(accurate, selected)


def selective_robust_accuracy(accurate: Mask, robust: Mask, robustly_selected: Mask) -> float:
    """Robust and accurate among the robustly selected (Tables 3 and 5 of the paper)."""
    return share(accurate & robust, robustly_selected)


def selective_robust_inaccuracy(accurate: Mask, robust: Mask, robustly_selected: Mask) -> float:
    """Robust and wrong among the robustly selected."""
    return share(~accurate & robust, robustly_selected)


def false_abstention(accurate: Mask, selected: Mask) -> float:
    """Share of the rightly answered samples on which the selector abstains."""
    return share(~selected, accurate)
