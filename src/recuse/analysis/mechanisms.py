"""What each way to abstain, and each mixture, can promise an attacker: one function per mechanism.

A composition is right at every point of the attacker's ball B_eps(x) if some stage is *surely
right* (it answers y at every point) and every stage before it is *never wrong when it answers*.
These functions turn what was measured of one network into those two verdicts, as a
:class:`StageVerdicts`, or, for what always answers, as a :class:`CoreVerdicts`. Each verdict is as
strong as the attacks or proofs behind its columns. A column with a NaN (nothing was found, or
nothing could be judged) promises nothing at that sample.

eps is the attacker's radius, rho the selector's own. Only selectors that look around their input
pay for both (rho + eps); softmax response, selection networks and mixtures need eps alone.
"""

import numpy as np

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts
from recuse.analysis.verdicts import Mask, Values


def indicator_stage(
    accurate: Mask, robust: Mask, selects: Mask, surely_selects: Mask, *, narrow: bool = False
) -> StageVerdicts:
    """Robustness indicator: selects where no perturbation within rho changes the answer.

    With rho >= eps it answers F(x) wherever it answers in the ball, because x lies within rho of
    every such point: being accurate is enough. A narrower selector lacks that symmetry.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
        selects: rob_rho.
        surely_selects: rob_(rho + eps).
        narrow: rho < eps.
    """
    safe = accurate & robust if narrow else accurate
    return StageVerdicts(accurate, robust, selects, surely_selects, right_where_selecting=safe)


def silent_stage(accurate: Mask, robust: Mask) -> StageVerdicts:
    """A stage that abstains everywhere: its network can still stand alone.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
    """
    nowhere = np.zeros_like(accurate)
    return StageVerdicts(accurate, robust, nowhere, nowhere, ~nowhere)


def margin_stage(
    accurate: Mask,
    robust: Mask,
    margin: Values,
    far_margin: Values,
    *,
    threshold: float,
    narrow: bool = False,
) -> StageVerdicts:
    """Robust margin: selects where p_F - max_other p stays at or above a threshold within rho.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
        margin: Smallest margin of F(x) within rho, negative where another class wins.
        far_margin: The same within rho + eps.
        threshold: In (0, 1].
        narrow: rho < eps.

    Raises:
        ValueError: A threshold of 0 or less. At 0 a tie is selected, and a tie may be answered
            either way; count that selector as an indicator.
    """
    if threshold <= 0:
        raise ValueError(f"margin threshold {threshold} must be above 0; at 0 use indicator_stage")
    return indicator_stage(
        accurate, robust, margin >= threshold, far_margin >= threshold, narrow=narrow
    )


def robust_softmax_stage(
    accurate: Mask,
    robust: Mask,
    confidence: Values,
    far_confidence: Values,
    *,
    threshold: float,
    narrow: bool = False,
) -> StageVerdicts:
    """Softmax response over a ball: selects where p_F stays at or above a threshold within rho.

    Above one half only one class can reach the threshold, so that the symmetry of the indicator
    holds.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
        confidence: Smallest probability of F(x) within rho.
        far_confidence: The same within rho + eps.
        threshold: In (1/2, 1].
        narrow: rho < eps.

    Raises:
        ValueError: A threshold of one half or less.
    """
    _check_majority(threshold)
    return indicator_stage(
        accurate, robust, confidence >= threshold, far_confidence >= threshold, narrow=narrow
    )


def softmax_stage(
    accurate: Mask,
    robust: Mask,
    confidence: Values,
    least_confidence: Values,
    worst_confidence: Values,
    *,
    threshold: float,
) -> StageVerdicts:
    """Softmax response: selects where the largest probability at the input reaches a threshold.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
        confidence: Largest probability at x.
        least_confidence: Smallest p_y within eps.
        worst_confidence: Largest probability of a class other than y within eps.
        threshold: In (1/2, 1].

    Raises:
        ValueError: A threshold of one half or less: p_y could reach it and not be the answer.
    """
    _check_majority(threshold)
    return StageVerdicts(
        accurate,
        robust,
        selects=confidence >= threshold,
        surely_selects=least_confidence >= threshold,
        right_where_selecting=worst_confidence < threshold,
    )


def entropy_stage(
    accurate: Mask,
    robust: Mask,
    entropy: Values,
    largest_entropy: Values,
    worst_confidence: Values,
    *,
    threshold: float,
) -> StageVerdicts:
    """Entropy response: selects where the entropy at the input is at most minus the threshold.

    Where no wrong class gets far, a wrong answer leaves no class far ahead: it is unsure, and the
    stage abstains.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
        entropy: At x, in nats.
        largest_entropy: The most within eps.
        worst_confidence: Largest probability of a class other than y within eps.
        threshold: Of the negative entropy, at most 0.
    """
    unsure = least_entropy(worst_confidence) > -threshold
    return StageVerdicts(
        accurate,
        robust,
        selects=entropy <= -threshold,
        surely_selects=largest_entropy <= -threshold,
        right_where_selecting=(accurate & robust) | unsure,
    )


def least_entropy(largest: Values) -> Values:
    """Least entropy of a distribution none of whose probabilities exceeds a number in (0, 1].

    As many classes as fit have that probability, and one has the rest.
    """
    most = np.clip(largest, 1e-9, 1.0)
    full = np.floor(1 / most)
    rest = np.clip(1 - full * most, 0.0, 1.0)
    found: Values = -full * most * np.log(most) - rest * np.log(np.where(rest > 0, rest, 1.0))
    return found


def network_stage(
    accurate: Mask,
    robust: Mask,
    score: Values,
    least_score: Values,
    largest_score: Values,
    *,
    threshold: float,
) -> StageVerdicts:
    """Selection network: selects where a network of its own scores at or above a threshold.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
        score: s(x).
        least_score: Lower bound on s within eps.
        largest_score: Upper bound on s within eps.
        threshold: Of the score.
    """
    return StageVerdicts(
        accurate,
        robust,
        selects=score >= threshold,
        surely_selects=least_score >= threshold,
        right_where_selecting=accurate & robust,
        may_select=~(largest_score < threshold),
    )


def confidence_stage(
    accurate: Mask, robust: Mask, selects: Mask, surely_selects: Mask
) -> StageVerdicts:
    """A selector without symmetry whose decision in the ball was judged as a whole.

    Nothing ties what it answers at x' to F(x), so that it is right where it selects only if it is
    accurate and robust.

    Args:
        accurate: F(x) = y.
        robust: rob_eps.
        selects: The decision at x.
        surely_selects: It selects at every point within eps.
    """
    return StageVerdicts(accurate, robust, selects, surely_selects, accurate & robust)


def mixture_core(
    accurate: Mask, robust_margin: Values, standard_margin: Values, *, share: float
) -> CoreVerdicts:
    """Mixture share * p + (1 - share) * q of two networks' probabilities; it always answers.

    The worst margins may lie at different points of the ball, so their mean bounds that of the
    mixture from below.

    Args:
        accurate: The mixture is right at x.
        robust_margin: Smallest p_y - max_other p within eps.
        standard_margin: Smallest q_y - max_other q within eps.
        share: Weight of p, in [0, 1].
    """
    _check_share(share)
    return CoreVerdicts(accurate, share * robust_margin + (1 - share) * standard_margin > 0)


def one_hot_mixture_core(
    accurate: Mask, robust_margin: Values, standard: CoreVerdicts, *, share: float
) -> CoreVerdicts:
    """Mixture of one network's probabilities with the other's bare answer, as in MixedNUTS.

    Where the standard network answers y, the other may lose by less than (1 - share) / share;
    where it may answer anything, the other must win by more than that. Ties count for nobody.

    Args:
        accurate: The mixture is right at x.
        robust_margin: Smallest p_y - max_other p within eps, p after any map of the logits.
        standard: The network whose answer is mixed in, by its verdicts within eps.
        share: Weight of p, in [0, 1].
    """
    _check_share(share)
    won, rest = share * robust_margin, 1 - share
    helped = standard.accurate & standard.robust
    return CoreVerdicts(accurate, np.asarray((won > rest) | (helped & (won + rest > 0))))


def _check_majority(threshold: float) -> None:
    if threshold <= 0.5:
        raise ValueError(
            f"softmax threshold {threshold} must be above 1/2: below, a class may reach it and not "
            "be the answer"
        )


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"share {share} of a mixture is not in [0, 1]")
