"""Every threshold of every selector and every weight of a mixture, as systems of a search.

A network judged with its worst probabilities stands for many stages, one a threshold, and together
with the core for many mixtures, one a weight. All are counted soundly from the record alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from recuse.analysis.accounting import StageVerdicts
from recuse.analysis.compositions import stage_of
from recuse.analysis.mechanisms import (
    entropy_stage,
    indicator_stage,
    margin_stage,
    network_stage,
    robust_softmax_stage,
    softmax_stage,
)
from recuse.analysis.verdicts import Values, Verdicts, add_radii
from recuse.errors import ConfigError
from recuse.radius import parse_radius

INDICATOR, ANY_RADIUS, SOFTMAX, MIXTURE = "indicator", "any-radius", "softmax", "mixture"
ONE_HOT = "one-hot-mixture"
HALF = 0.5
_DIGITS = 4


@runtime_checkable
class Behind(Protocol):
    """A network behind a selector, its columns at hand: one stage a threshold."""

    def __call__(self, *, threshold: float) -> StageVerdicts:
        """The stage of a threshold."""


@dataclass(frozen=True)
class Selecting:
    """A selector that has a threshold, counted from the record of a network.

    Attributes:
        scores: What thresholds are compared with, at the samples themselves.
        behind: The network behind it, at an attacker's radius: gives the stage of a threshold.
        lowest: Thresholds lie above it.
        highest: ... and below it.
    """

    scores: Callable[[Verdicts, str], Values]
    behind: Callable[[Verdicts, str], "Behind"]
    lowest: float = -np.inf
    highest: float = np.inf


def robust_margin(model: Verdicts, eps: str) -> Behind:
    """Indicator that asks for a probability margin over the ball of radius eps; 0 asks for none."""
    indicator = stage_of(model, eps)
    asking = partial(
        margin_stage,
        model.accurate(),
        model.robust(eps),
        _unbroken(model, "stable_margin", eps, 0.0),
        _unbroken(model, "stable_margin", add_radii(eps, eps), 0.0),
    )

    def stage(*, threshold: float) -> StageVerdicts:
        return asking(threshold=threshold) if threshold > 0 else indicator

    return stage


def robust_softmax(model: Verdicts, eps: str) -> Behind:
    """Softmax response over the ball of radius eps."""
    return partial(
        robust_softmax_stage,
        model.accurate(),
        model.robust(eps),
        _unbroken(model, "stable_confidence", eps, HALF),
        _unbroken(model, "stable_confidence", add_radii(eps, eps), HALF),
    )


def softmax(model: Verdicts, eps: str) -> Behind:
    """Softmax response at the input."""
    return partial(
        softmax_stage,
        model.accurate(),
        model.robust(eps),
        model.confidence(),
        sure_confidence(model, eps),
        model.searched("worst_confidence", eps),
    )


def entropy(model: Verdicts, eps: str) -> Behind:
    """Entropy at the input."""
    return partial(
        entropy_stage,
        model.accurate(),
        model.robust(eps),
        model.values("entropy"),
        model.searched("largest_entropy", eps),
        model.searched("worst_confidence", eps),
    )


def network(model: Verdicts, eps: str) -> Behind:
    """Selection network, its decision bounded by intervals; the classifier attacked."""
    return partial(
        network_stage,
        model.accurate(),
        model.robust(eps),
        model.values("score"),
        model.searched("least_score", eps),
        model.searched("largest_score", eps),
    )


# By the name of the selector that is deployed.
SELECTING: Mapping[str, Selecting] = {
    SOFTMAX: Selecting(lambda model, _: model.confidence(), softmax, HALF, 1.0),
    "entropy": Selecting(lambda model, _: -model.values("entropy"), entropy, -np.inf, 0.0),
    "robust-margin": Selecting(
        lambda model, eps: model.searched("stable_margin", eps), robust_margin, 0.0, 1.0
    ),
    "robust-softmax": Selecting(
        lambda model, eps: model.searched("stable_confidence", eps), robust_softmax, HALF, 1.0
    ),
    "network": Selecting(lambda model, _: model.values("score"), network),
}
STAGES = (INDICATOR, ANY_RADIUS, *SELECTING)
MIXTURES = (MIXTURE, ONE_HOT)
MECHANISMS = (*STAGES, *MIXTURES)
# What is known by name and has no sound count here.
REFUSED = {
    "cpr": "it is an indicator whose own ten steps no record holds; any-radius counts an indicator "
    "of its radius, and recuse attack meets it as it is",
    "mixednuts": "its map is not monotone, so that margins of the network bound nothing; judge the "
    "mapped network, and take one-hot-mixture",
    "certified": "its certificates are no verdicts of attacks; recuse compose --judged-by "
    "certificates counts what is proven",
    "always": "it abstains nowhere; what a network is worth by itself stands beside every search",
    "narrow-indicator": "by itself it promises less than eps; any-radius counts it as what it is",
}


def check_mechanisms(names: Sequence[str]) -> tuple[str, ...]:
    """The mechanisms to search over, without repeats; ``_`` is ``-``.

    Raises:
        ConfigError: None, one that is unknown, or one without a sound count.
    """
    names = [name.replace("_", "-") for name in names]
    for name in names:
        if name in REFUSED:
            raise ConfigError(f"mechanism {name!r} has no sound count: {REFUSED[name]}")
        if name not in MECHANISMS:
            raise ConfigError(f"mechanism {name!r} is unknown; known: {', '.join(MECHANISMS)}")
    if not names:
        raise ConfigError(f"name one mechanism or more: {', '.join(MECHANISMS)}")
    return tuple(dict.fromkeys(names))


def mechanism_of(title: str, network: str = "") -> str:
    """The mechanism of a stage or a mixture, by how :func:`stages_of` and others name it."""
    kind, bracket, _ = title.removeprefix(f"{network}: ").partition("(")
    if title == network:
        return INDICATOR
    return ANY_RADIUS if bracket and kind.endswith(INDICATOR) else kind


def stages_of(
    name: str, model: Verdicts, eps: str, mechanisms: Sequence[str], count: int
) -> list[tuple[str, StageVerdicts]]:
    """A network behind each of its selectors, named as a person would type them.

    A selection network belongs to one classifier; others are passed over.

    Args:
        name: Of the network.
        model: Judged at eps, and at twice eps for the indicator.
        eps: The attacker's radius.
        mechanisms: Names of selectors; mixtures are none.
        count: Thresholds of each.

    Raises:
        RecordError: A radius or the worst probabilities were not judged.
    """
    found = []
    if INDICATOR in mechanisms:
        found.append((name, stage_of(model, eps)))
    if ANY_RADIUS in mechanisms:
        found += indicators(name, model, eps)
    for kind, selecting in SELECTING.items():
        if kind not in mechanisms or (kind == "network" and "score" not in model.frame.columns):
            continue
        behind = selecting.behind(model, eps)
        for threshold in thresholds(selecting, model, eps, count):
            stage = behind(threshold=threshold)
            found.append((f"{name}: {kind}(threshold={threshold:g})", stage))
    return found


def indicators(name: str, model: Verdicts, eps: str) -> list[tuple[str, StageVerdicts]]:
    """The network behind an indicator of each radius that was judged, and judged with eps added.

    One narrower than eps is called so: a selected answer can be changed.
    """
    found = []
    for radius in model.radii():
        sure = add_radii(radius, eps)
        if radius == eps or not model.has("robust", sure):
            continue
        narrow = parse_radius(radius) < parse_radius(eps)
        stage = indicator_stage(
            model.accurate(),
            model.robust(eps),
            model.robust(radius),
            model.robust(sure),
            narrow=narrow,
        )
        found.append((f"{name}: {'narrow-' * narrow}indicator(radius={radius})", stage))
    return found


def thresholds(selecting: Selecting, model: Verdicts, eps: str, count: int) -> list[float]:
    """Thresholds that cut the samples within the selector's range into equal parts."""
    scores = selecting.scores(model, eps)
    sure = scores[scores > selecting.lowest]
    if not sure.size:
        return []
    cuts = np.round(np.quantile(sure, np.linspace(0, 1, count + 2)[1:-1]), _DIGITS)
    kept = np.unique(cuts[(cuts > selecting.lowest) & (cuts < selecting.highest)])
    return [float(threshold) for threshold in kept]


def sure_margin(model: Verdicts, eps: str, kind: str = "worst_margin") -> Values:
    """Smallest margin of the label over the ball, at most 0 where any attack changed the answer."""
    return _unbroken(model, kind, eps, 0.0)


def sure_confidence(model: Verdicts, eps: str) -> Values:
    """Least confidence, at most one half where any attack changed the answer."""
    return _unbroken(model, "least_confidence", eps, HALF)


def _unbroken(model: Verdicts, kind: str, radius: str, most: float) -> Values:
    """What was searched, and at most so much where any attack changed the answer."""
    found = model.searched(kind, radius)
    return np.where(model.broken(radius), np.fmin(found, most), found)


__all__ = [
    "ANY_RADIUS",
    "INDICATOR",
    "MECHANISMS",
    "MIXTURE",
    "MIXTURES",
    "ONE_HOT",
    "SELECTING",
    "SOFTMAX",
    "STAGES",
    "Selecting",
    "check_mechanisms",
    "mechanism_of",
    "stages_of",
    "sure_confidence",
    "sure_margin",
]
