"""Confidence intervals: Wilson for one rate, paired bootstrap for differences."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from recuse.analysis.verdicts import Mask

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The rate or difference itself.
        low: Lower end.
        high: Upper end.
    """

    estimate: float
    low: float
    high: float


def wilson(successes: int, samples: int, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a rate; the whole of [0, 1] over no samples.

    Args:
        successes: Samples for which the property holds.
        samples: All samples.
        confidence: Two-sided coverage, in (0, 1).

    Returns:
        The rate (NaN over no samples) with its interval.

    Raises:
        ValueError: Counts that do not fit, or a confidence outside (0, 1).

    Source: Wilson, JASA 1927.
    """
    if not 0 <= successes <= samples:
        raise ValueError(f"{successes} successes of {samples} samples: counts do not fit")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1")
    if samples == 0:
        return Interval(float("nan"), 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / samples
    shrink = 1 + z * z / samples
    centre = (p + z * z / (2 * samples)) / shrink
    half = z / shrink * float(np.sqrt(p * (1 - p) / samples + z * z / (4 * samples**2)))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == samples else centre + half
    return Interval(p, low, high)


def wilson_of(mask: Mask, among: Mask | None = None, *, confidence: float = 0.95) -> Interval:
    """:func:`wilson` of the share of ``among`` for which ``mask`` holds."""
    chosen = mask if among is None else mask[among]
    return wilson(int(np.count_nonzero(chosen)), chosen.size, confidence=confidence)


def paired_difference(
    first: Mask,
    second: Mask,
    *,
    first_among: Mask | None = None,
    second_among: Mask | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of ``share(first) - share(second)`` on the same samples.

    Samples are drawn together with both models' verdicts, so that what the models share
    cancels. Drawing n samples with replacement is drawing the counts of the few distinct
    verdict patterns from a multinomial: exact, and quick for any n.

    Args:
        first: Property of the first model, one entry per sample.
        second: Property of the second model on the same samples.
        first_among: Condition of the first rate (all samples when absent).
        second_among: Condition of the second rate.
        confidence: Two-sided coverage.
        resamples: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        The difference with its interval; draws with an empty condition are left out.

    Raises:
        ValueError: Arrays of different lengths, or no samples.
    """
    everyone = np.ones_like(first)
    den1 = everyone if first_among is None else first_among
    den2 = everyone if second_among is None else second_among
    if first.size == 0 or len({a.shape for a in (first, second, den1, den2)}) != 1:
        raise ValueError("a paired difference needs the same, at least one, samples on both sides")
    rows = np.stack([first & den1, den1, second & den2, den2], axis=1)
    codes, counts = np.unique(rows @ np.array([1, 2, 4, 8]), return_counts=True)
    patterns = (codes[:, None] >> np.arange(4)) & 1
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(first.size, counts / first.size, size=resamples) @ patterns
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(_differences(draws), [tail, 1 - tail])
    return Interval(float(_differences((counts @ patterns)[None, :])[0]), float(low), float(high))


def _differences(sums: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """num1/den1 - num2/den2 per row of (num1, den1, num2, den2); NaN over an empty condition."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3], dtype=np.float64)


def spare(apart: npt.NDArray[np.int64], deviations: float) -> npt.NDArray[np.float64]:
    """Right answers that a system must have above a floor, for a chance of being there elsewhere.

    Of samples on which system and core are not both right or both wrong, how many each is right on
    is their difference; its variance is at most their number, as in McNemar's test.

    Args:
        apart: Number of such samples.
        deviations: Standard deviations; 0 asks for the floor alone.
    """
    return deviations * np.sqrt(apart)
