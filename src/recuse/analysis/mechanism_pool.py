"""Every threshold of softmax response and every weight of a mixture, as systems of a search.

A network judged with its worst probabilities stands for many stages, one a threshold, and together
with the core for many mixtures, one a weight. All are counted soundly from the record alone.
"""

from collections.abc import Sequence

import numpy as np

from recuse.analysis.accounting import CoreVerdicts, StageVerdicts
from recuse.analysis.compositions import core_of, stage_of
from recuse.analysis.mechanisms import mixture_core, one_hot_mixture_core, softmax_stage
from recuse.analysis.verdicts import Values, Verdicts
from recuse.errors import ConfigError

INDICATOR, SOFTMAX, MIXTURE, ONE_HOT = "indicator", "softmax", "mixture", "one-hot-mixture"
MECHANISMS = (INDICATOR, SOFTMAX, MIXTURE, ONE_HOT)
_DIGITS = 4


def check_mechanisms(names: Sequence[str]) -> tuple[str, ...]:
    """The mechanisms to search over, without repeats.

    Raises:
        ConfigError: None, or one that is unknown.
    """
    if unknown := [name for name in names if name not in MECHANISMS]:
        raise ConfigError(
            f"mechanism {unknown[0]!r} is unknown or has no sound count; known: "
            f"{', '.join(MECHANISMS)}"
        )
    if not {INDICATOR, SOFTMAX} & set(names):
        raise ConfigError(
            f"mixtures stand beside cascades here; name {INDICATOR} or {SOFTMAX} as well"
        )
    return tuple(dict.fromkeys(names))


def stages_of(
    name: str, model: Verdicts, eps: str, mechanisms: Sequence[str], count: int
) -> list[tuple[str, StageVerdicts]]:
    """A network behind each of its selectors, named as a person would type them.

    Args:
        name: Of the network.
        model: Judged at eps, and at twice eps for the indicator.
        eps: The attacker's radius.
        mechanisms: Names of selectors; mixtures are none.
        count: Thresholds of softmax response.

    Raises:
        RecordError: A radius or the worst probabilities were not judged.
    """
    found = []
    if INDICATOR in mechanisms:
        found.append((name, stage_of(model, eps)))
    if SOFTMAX in mechanisms:
        accurate, robust, confidence = model.accurate(), model.robust(eps), model.confidence()
        least, worst = sure_confidence(model, eps), model.worst_confidence(eps)
        for threshold in _thresholds(confidence, count):
            stage = softmax_stage(
                accurate, robust, confidence, least, worst, threshold=float(threshold)
            )
            found.append((f"{name}: softmax(threshold={threshold:g})", stage))
    return found


def mixtures_of(
    names: str,
    model: Verdicts,
    core: Verdicts,
    eps: str,
    mechanisms: Sequence[str],
    count: int,
) -> list[tuple[str, CoreVerdicts]]:
    """A network mixed with the core at many weights above one half; each always answers.

    The natural accuracy is a lower bound too: records hold margins, not whole distributions.

    Args:
        names: Of both, as the mixture shall be called.
        model: Judged at eps with its worst probabilities.
        core: Likewise, on the same samples; for a one-hot mixture its answers are enough.
        eps: The attacker's radius.
        mechanisms: Which mixtures.
        count: Weights of each.

    Raises:
        RecordError: The worst probabilities were not judged.
    """
    found = []
    if MIXTURE in mechanisms:
        near, far = sure_margin(model, eps), sure_margin(core, eps)
        at_x = model.values("margin"), core.values("margin")
        for share in _weights(np.linspace(0, 1, count + 2)[1:-1]):
            right = mixture_core(core.accurate(), *at_x, share=share).robust
            mixed = mixture_core(right, near, far, share=share)
            found.append((f"mixture({names}; {share:g})", mixed))
    if ONE_HOT in mechanisms:
        near, clean = sure_margin(model, eps), model.values("margin")
        answers = core.accurate()
        for share in _weights(np.linspace(0, 1, count + 2)[1:-1]):
            standing = CoreVerdicts(answers, np.ones_like(answers))
            right = one_hot_mixture_core(answers, clean, standing, share=share).robust
            mixed = one_hot_mixture_core(right, near, core_of(core, eps), share=share)
            found.append((f"one-hot-mixture({names}; {share:g})", mixed))
    return [
        (name, CoreVerdicts(core.accurate, core.accurate & core.robust)) for name, core in found
    ]


def _thresholds(confidence: Values, count: int) -> Values:
    """Thresholds above one half that cut the samples into equal parts."""
    sure = confidence[confidence > 0.5]
    if not sure.size:
        return np.zeros(0)
    cuts = np.round(np.quantile(sure, np.linspace(0, 1, count + 2)[1:-1]), _DIGITS)
    found: Values = np.unique(cuts[(cuts > 0.5) & (cuts < 1)])
    return found


def _weights(margins: Values) -> list[float]:
    """Weights at which the first network needs these margins to outvote the other."""
    return [float(weight) for weight in np.unique(np.round(1 / (1 + margins), _DIGITS))]


def sure_margin(model: Verdicts, eps: str) -> Values:
    """Worst margin, at most 0 where any attack changed the answer."""
    margin = model.worst_margin(eps)
    return np.where(model.broken(eps), np.fmin(margin, 0.0), margin)


def sure_confidence(model: Verdicts, eps: str) -> Values:
    """Least confidence, at most one half where any attack changed the answer."""
    least = model.least_confidence(eps)
    return np.where(model.broken(eps), np.fmin(least, 0.5), least)


__all__ = [
    "INDICATOR",
    "MECHANISMS",
    "MIXTURE",
    "ONE_HOT",
    "SOFTMAX",
    "check_mechanisms",
    "mixtures_of",
    "stages_of",
    "sure_confidence",
    "sure_margin",
]
