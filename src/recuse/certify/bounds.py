"""Bounds on a vote probability: exact Clopper-Pearson at a fixed n, betting at any time.

Randomized smoothing turns a lower bound ``p`` on the probability of a class under Gaussian noise
into an L2 radius ``sigma * Phi^-1(p)``.
"""

import math

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from recuse.arrays import Counts, PerSample
from recuse.errors import CertificationError

# Krichevsky-Trofimov: the Beta(1/2, 1/2) mixture, within log(n)/2 + O(1) of the best bet.
KT_PRIOR = (0.5, 0.5)
_BISECTIONS = 60


def check_alpha(alpha: float) -> None:
    """Refuse a failure probability that is not one.

    Raises:
        CertificationError: ``alpha`` outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise CertificationError(
            f"alpha is {alpha}, but a failure probability lies strictly between 0 and 1; "
            "0.001 is usual"
        )


def check_sigma(sigma: float) -> None:
    """Refuse a noise level that is not one.

    Raises:
        CertificationError: ``sigma`` not positive and finite.
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise CertificationError(
            f"sigma is {sigma}, but the noise needs a positive standard deviation in pixel units "
            "(images in [0, 1]), for example 0.12"
        )


def clopper_pearson_lower(votes: Counts, n: int, *, alpha: float) -> PerSample:
    """Exact lower confidence bound on a probability; holds with probability ``1 - alpha``.

    The largest p with ``P(Bin(n, p) >= votes) <= alpha``; 0 without a vote.

    Args:
        votes: Successes out of ``n``, per input.
        n: Draws per input.
        alpha: Failure probability per input, in (0, 1).

    Returns:
        The bound per input, float64, on the CPU.

    Raises:
        CertificationError: ``alpha`` outside (0, 1), ``n < 1``, a vote count below 0 or above n.

    Source: Clopper and Pearson, Biometrika 1934.
    """
    check_alpha(alpha)
    k = _checked_votes(votes, n)
    with np.errstate(invalid="ignore"):
        bound = np.where(k > 0, scipy.stats.beta.ppf(alpha, k, n - k + 1), 0.0)
    return torch.from_numpy(bound)


def clopper_pearson_upper(votes: Counts, n: int, *, alpha: float) -> PerSample:
    """Exact upper confidence bound on a probability; see :func:`clopper_pearson_lower`."""
    check_alpha(alpha)
    k = _checked_votes(votes, n)
    with np.errstate(invalid="ignore"):
        bound = np.where(k < n, scipy.stats.beta.ppf(1 - alpha, k + 1, n - k), 1.0)
    return torch.from_numpy(bound)


def certified_radius(votes: Counts, n: int, *, alpha: float, sigma: float) -> PerSample:
    """L2 radius inside which the smoothed classifier provably keeps its top class.

    One-sided Clopper-Pearson lower bound ``p`` on the top-class probability, then
    ``sigma * Phi^-1(p)``; 0 where ``p <= 1/2`` (no certificate, which is not an error).

    Args:
        votes: Votes for the candidate class out of ``n``. The candidate must have been chosen on
            *other* noise, else ``alpha`` does not hold.
        n: Noise samples per input.
        alpha: Failure probability per input, in (0, 1); not corrected over the data set.
        sigma: Noise standard deviation in pixel units ([0, 1] images).

    Returns:
        Radius per input, in the unit of ``sigma``, float64, on the CPU.

    Raises:
        CertificationError: ``alpha`` outside (0, 1), ``sigma`` not positive, or more votes than
            samples.

    Source: Cohen, Rosenfeld, Kolter, ICML 2019, Algorithm 1.

    >>> certified_radius(torch.tensor([100_000, 50_000]), 100_000, alpha=0.001, sigma=0.12)
    tensor([0.4574, 0.0000], dtype=torch.float64)
    """
    check_sigma(sigma)
    lower = clopper_pearson_lower(votes, n, alpha=alpha)
    radius: PerSample = sigma * torch.special.ndtri(lower)
    return radius.clamp_min(0)


def betting_log_wealth(votes: Counts, n: int, p0: float) -> PerSample:
    """Log-wealth of a gambler who bets that a probability exceeds ``p0``.

    Mixes the bets on every q in (p0, 1] with a Beta(1/2, 1/2) prior cut off at ``p0``. While the
    probability is at most ``p0``, ``P(wealth ever reaches 1 / alpha) <= alpha`` (Ville), so a
    claim may be made at any time, without a plan of looks and without a cap.

    Args:
        votes: Votes for the class out of ``n``, per input.
        n: Draws so far.
        p0: Probability that the claim needs, in (0, 1).

    Returns:
        ``log W`` per input, float64, on the CPU.

    Raises:
        CertificationError: ``p0`` outside (0, 1), or a vote count below 0 or above ``n``.
    """
    if not 0 < p0 < 1:
        raise CertificationError(f"p0 is {p0}, but a claim needs a probability inside (0, 1)")
    a, b = KT_PRIOR
    hits = _checked_votes(votes, n)
    misses = n - hits
    posterior = scipy.special.betaln(hits + a, misses + b) + scipy.stats.beta.logsf(
        p0, hits + a, misses + b
    )
    stake = scipy.special.betaln(a, b) + scipy.stats.beta.logsf(p0, a, b)
    wealth = posterior - stake - hits * math.log(p0) - misses * math.log1p(-p0)
    return torch.from_numpy(wealth)


def betting_interval(votes: Counts, n: int, *, alpha: float) -> tuple[PerSample, PerSample]:
    """Confidence sequence for a probability: holds at every n at once with ``1 - alpha``.

    All p at which the Beta(1/2, 1/2) mixture of bets has not multiplied its stake by
    ``1 / alpha``. Wider than Clopper-Pearson at any one n, but one may look after every draw and
    stop when one likes.

    Args:
        votes: Successes out of ``n``, per input.
        n: Draws so far.
        alpha: Probability that the truth is ever outside, in (0, 1).

    Returns:
        (lower, upper) per input, float64, on the CPU.

    Raises:
        CertificationError: As :func:`clopper_pearson_lower`.

    Source: Waudby-Smith and Ramdas, JRSSB 2024; Voracek, NeurIPS 2024 (for smoothing).
    """
    check_alpha(alpha)
    k = _checked_votes(votes, n)
    lower = _betting_lower(k, n, alpha)
    upper = 1 - _betting_lower(n - k, n, alpha)
    return torch.from_numpy(lower), torch.from_numpy(upper)


def _betting_lower(k: NDArray[np.int64], n: int, alpha: float) -> NDArray[np.float64]:
    # log W(p) falls in p up to k/n, so bisection finds where it crosses log(1 / alpha). The
    # lower end of the bracket is returned: rounding can only widen the interval.
    a, b = KT_PRIOR
    mixture = scipy.special.betaln(k + a, n - k + b) - scipy.special.betaln(a, b)
    low, high = np.zeros(k.shape), k / n
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        wealth = mixture - scipy.special.xlogy(k, middle) - scipy.special.xlog1py(n - k, -middle)
        rejected = wealth >= -math.log(alpha)
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return low


def _checked_votes(votes: Counts, n: int) -> NDArray[np.int64]:
    k = votes.detach().cpu().numpy().astype(np.int64)
    if n < 1:
        raise CertificationError(f"n is {n}, but a bound needs at least one noise sample")
    if k.size and (k.min() < 0 or k.max() > n):
        raise CertificationError(
            f"{k.max() if k.max() > n else k.min()} votes out of {n} samples; a count lies "
            "between 0 and the number of samples"
        )
    return k


__all__ = [
    "betting_interval",
    "betting_log_wealth",
    "certified_radius",
    "check_alpha",
    "check_sigma",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
]
