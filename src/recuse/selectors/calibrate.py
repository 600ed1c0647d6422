"""Risk and coverage of any score, and thresholds set for a wanted risk or coverage.

Every selector gives one number per input, so one path serves all of them: the curve that is
drawn, the threshold that is chosen and the bound that is promised read the same sorted scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import betaincinv

from recuse.arrays import Mask, PerSample
from recuse.errors import ConfigError

_PROPOSALS = 40


@dataclass(frozen=True)
class RiskCoverage:
    """Risk against coverage, one entry per distinct threshold, from strict to permissive.

    Attributes:
        thresholds: Descending distinct scores.
        coverage: Share of the inputs with ``score >= threshold``; ascending.
        risk: Share of wrong answers among those.
    """

    thresholds: PerSample
    coverage: PerSample
    risk: PerSample

    @property
    def area(self) -> float:
        """Mean risk over the coverage: 0 for a selector that accepts every right answer first."""
        width = torch.diff(self.coverage, prepend=self.coverage.new_zeros(1))
        return float((self.risk * width).sum())


@dataclass(frozen=True)
class Coverage:
    """Ask for at least this share of the inputs to be answered.

    Attributes:
        at_least: Wanted coverage in (0, 1].
    """

    at_least: float

    def __post_init__(self) -> None:
        if not 0 < self.at_least <= 1:
            raise ConfigError(f"coverage {self.at_least} is not in (0, 1]; 0.9 answers 90 %")


@dataclass(frozen=True)
class Risk:
    """Ask for at most this share of wrong answers among those given, with confidence.

    Attributes:
        at_most: Wanted selective risk in (0, 1).
        delta: Chance, over the validation data, that the bound is wrong.
    """

    at_most: float
    delta: float = 0.05

    def __post_init__(self) -> None:
        if not (0 < self.at_most < 1 and 0 < self.delta < 1):
            raise ConfigError(
                f"risk {self.at_most} with delta {self.delta}: both must be in (0, 1), "
                "for example a risk of 0.05 with delta 0.05"
            )


@dataclass(frozen=True)
class NaturalLoss:
    """Ask for at most this loss of accuracy against what answers instead where nothing is kept.

    The lowest such threshold is taken: the more a robust stage answers, the more of it holds.

    Attributes:
        at_most: Share of the inputs, in [0, 1): 0.005 is half a point.
    """

    at_most: float

    def __post_init__(self) -> None:
        if not 0 <= self.at_most < 1:
            raise ConfigError(
                f"a loss of {100 * self.at_most:g} points is not in [0, 100); 0.5 gives up half a "
                "point of accuracy"
            )


@dataclass(frozen=True)
class Calibration:
    """A threshold and what is known about it.

    Attributes:
        threshold: Select where ``score >= threshold``.
        coverage: Share it selects of the inputs it was tested on: all validation inputs, but
            only the odd rows for a :class:`Risk` goal that proposed its own thresholds.
        risk: Share of wrong answers among those selected.
        risk_bound: Upper bound on the true selective risk. For a :class:`Risk` goal it is the
            risk asked for, and holds with probability ``1 - delta``: the smaller interval of
            the chosen threshold would not, because the data chose that threshold. 1 (no
            promise) for other goals.
    """

    threshold: float
    coverage: float
    risk: float
    risk_bound: float


def selected(scores: PerSample, threshold: float) -> Mask:
    """Which inputs a selector keeps; NaN scores are never kept."""
    return scores >= threshold


def risk_coverage(scores: PerSample, wrong: Mask) -> RiskCoverage:
    """The risk-coverage curve of a score; inputs with equal scores enter together.

    Args:
        scores: Higher = keep; NaN is never kept, so that the curve then ends below coverage 1.
        wrong: The answer would be wrong (at the input, or under attack: the caller says).

    Raises:
        ValueError: No inputs, or lengths that differ.
    """
    _check_pairs(scores, wrong)
    total, scored = len(scores), ~scores.isnan()
    scores, wrong = scores[scored], wrong[scored]
    order = torch.argsort(scores, descending=True, stable=True)
    ranked = scores[order]
    kept = torch.arange(1, len(scores) + 1, device=scores.device, dtype=torch.float64)
    errors = wrong[order].to(torch.float64).cumsum(0)
    last_of_tie = torch.ones_like(wrong)
    last_of_tie[:-1] = ranked[1:] != ranked[:-1]
    return RiskCoverage(
        ranked[last_of_tie], (kept / total)[last_of_tie], (errors / kept)[last_of_tie]
    )


def _check_pairs(scores: PerSample, wrong: Mask) -> None:
    if len(scores) == 0 or len(scores) != len(wrong):
        raise ValueError(f"{len(scores)} scores for {len(wrong)} outcomes; give one per input")


def clopper_pearson_upper(errors: int, n: int, *, delta: float) -> float:
    """Upper bound on an error probability, exceeded with probability at most ``delta``.

    Args:
        errors: Wrong answers among ``n`` independent ones.
        n: Answers; with none the bound is 1.
        delta: One-sided failure probability.

    >>> round(clopper_pearson_upper(0, 59, delta=0.05), 4)
    0.0495

    Source: Clopper, Pearson, Biometrika 1934.
    """
    return 1.0 if errors >= n else float(betaincinv(errors + 1, n - errors, 1 - delta))


def require_selecting(scores: PerSample, threshold: float, name: str) -> None:
    """Refuse a threshold that keeps no input at all.

    Raises:
        ConfigError: Nothing reaches the threshold.
    """
    if not bool(selected(scores, threshold).any()):
        top = float(scores.max()) if len(scores) else math.nan
        raise ConfigError(
            f"threshold {threshold:g} of {name} selects none of {len(scores)} inputs (highest "
            f"score {top:g}); lower it, or let calibrate choose it"
        )


def calibrate(
    scores: PerSample,
    wrong: Mask,
    goal: Coverage | Risk | NaturalLoss,
    *,
    thresholds: Sequence[float] | None = None,
    otherwise: Mask | None = None,
    lowest: float = -math.inf,
) -> Calibration:
    """Set a threshold on validation data, for a wanted coverage, risk or loss of accuracy.

    A coverage goal takes the strictest threshold that reaches it, a goal on the loss the lowest
    that keeps it on these data (without a promise for others). A risk goal tests thresholds
    in a sequence, each by a Clopper-Pearson bound at level ``delta``, stops at the first that
    fails and takes the lowest before (fixed-sequence testing: the level needs no correction).
    The sequence must not depend on the outcomes it is tested on: it is ``thresholds`` from
    strict to permissive, or else read from the even rows (the most promising threshold first)
    and tested on the odd ones, so that rows should be in random order.

    Args:
        scores: Scores on validation data.
        wrong: Whether the answer there is wrong.
        goal: What is wanted.
        thresholds: Thresholds fixed beforehand, for a risk goal on all rows.
        otherwise: Whether what answers instead is wrong, for a goal on the loss; by default
            nobody answers instead, which counts as wrong.
        lowest: No threshold below this is taken, for a goal on the loss.

    Returns:
        The threshold with its coverage, risk and bound.

    Raises:
        ConfigError: No threshold reaches the goal on these data.

    Source: Geifman, El-Yaniv, NeurIPS 2017; fixed-sequence testing as in Angelopoulos et al.,
        "Learn then Test", 2021.
    """
    if isinstance(goal, Coverage):
        curve = risk_coverage(scores, wrong)
        first = int((curve.coverage < goal.at_least - 1e-12).sum())
        if first == len(curve.coverage):
            raise ConfigError(
                f"a coverage of {goal.at_least:g} is out of reach: {int(scores.isnan().sum())} of "
                f"{len(scores)} scores are NaN, which is never selected; check the model"
            )
        return _described(scores, wrong, float(curve.thresholds[first]), bound=1.0)
    _check_pairs(scores, wrong)
    if isinstance(goal, NaturalLoss):
        instead = torch.ones_like(wrong) if otherwise is None else otherwise
        threshold = _lowest_within(scores, wrong, instead, goal, lowest)
        return _described(scores, wrong, threshold, bound=1.0)
    if thresholds is None:
        proposal, tested = slice(0, None, 2), slice(1, None, 2)
        sequence = _likeliest_first(scores[proposal], wrong[proposal], goal)
        return _lowest_safe(scores[tested], wrong[tested], goal, sequence)
    return _lowest_safe(scores, wrong, goal, sorted(thresholds, reverse=True))


def _lowest_within(
    scores: PerSample, wrong: Mask, otherwise: Mask, goal: NaturalLoss, lowest: float
) -> float:
    """The lowest threshold at which what is kept loses no more than it may."""
    _check_pairs(scores, otherwise)
    kept = scores >= lowest
    ranked, order = scores[kept].sort(descending=True, stable=True)
    lost = (wrong[kept].double() - otherwise[kept].double())[order].cumsum(0) / len(scores)
    last_of_tie = torch.ones_like(ranked, dtype=torch.bool)
    last_of_tie[:-1] = ranked[1:] != ranked[:-1]
    within = ranked[last_of_tie & (lost <= goal.at_most + 1e-12)]
    if not len(within):
        raise ConfigError(
            f"no threshold keeps the loss below {100 * goal.at_most:g} points on {len(scores)} "
            "validation inputs; allow more, or take another network or selector"
        )
    return float(within[-1])


def _likeliest_first(scores: PerSample, wrong: Mask, goal: Risk) -> list[float]:
    """Thresholds at quantiles of the scores, those that these rows support best first."""
    fewest = math.ceil(math.log(goal.delta) / math.log1p(-goal.at_most))
    n = len(scores)
    if fewest > n:
        raise ConfigError(
            f"a risk of {goal.at_most:g} at delta {goal.delta:g} needs at least {2 * fewest} "
            f"validation inputs, got about {2 * n}; give more, or ask for less"
        )
    ranked = scores.nan_to_num(nan=-math.inf).sort(descending=True).values
    counts = torch.linspace(fewest, n, _PROPOSALS).long()
    proposed = sorted(set(ranked[counts - 1].tolist()), reverse=True)
    return sorted(proposed, key=lambda tau: _bound(scores, wrong, tau, goal.delta))


def _bound(scores: PerSample, wrong: Mask, threshold: float, delta: float) -> float:
    kept = selected(scores, threshold)
    return clopper_pearson_upper(int((kept & wrong).sum()), int(kept.sum()), delta=delta)


def _lowest_safe(
    scores: PerSample, wrong: Mask, goal: Risk, sequence: Sequence[float]
) -> Calibration:
    """The lowest threshold among those passed before the first failure."""
    passed = []
    for threshold in sequence:
        if _bound(scores, wrong, threshold, goal.delta) > goal.at_most:
            break
        passed.append(threshold)
    if not passed:
        raise ConfigError(
            f"no threshold keeps the risk below {goal.at_most:g} with confidence "
            f"{1 - goal.delta:g} on {len(scores)} validation inputs; give more data or allow more"
        )
    return _described(scores, wrong, min(passed), bound=goal.at_most)


def _described(scores: PerSample, wrong: Mask, threshold: float, *, bound: float) -> Calibration:
    kept = selected(scores, threshold)
    n = int(kept.sum())
    risk = float((kept & wrong).sum()) / n if n else 0.0
    return Calibration(threshold, n / len(scores), risk, bound)
