"""Every weight of a mixture of a network and the core, counted soundly from their records."""

from collections.abc import Sequence

import numpy as np

from recuse.analysis.accounting import CoreVerdicts
from recuse.analysis.compositions import core_of
from recuse.analysis.mechanism_pool import MIXTURE, ONE_HOT, sure_margin
from recuse.analysis.mechanisms import mixture_core, one_hot_mixture_core
from recuse.analysis.verdicts import Values, Verdicts

_DIGITS = 4


def mixtures_of(
    names: str,
    model: Verdicts,
    core: Verdicts,
    eps: str,
    mechanisms: Sequence[str],
    count: int,
) -> list[tuple[str, CoreVerdicts]]:
    """A network mixed with the core at many weights above one half; each always answers.

    The natural accuracy is a lower bound too: records hold margins, not whole distributions. With
    the core's bare answer the mixture decides as a stage does whose selector asks how far the
    network's class is ahead of the core's.

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
    weights = _weights(np.linspace(0, 1, count + 2)[1:-1])
    if MIXTURE in mechanisms:
        near, far = sure_margin(model, eps), sure_margin(core, eps)
        at_x = model.values("margin"), core.values("margin")
        for share in weights:
            right = mixture_core(core.accurate(), *at_x, share=share).robust
            mixed = mixture_core(right, near, far, share=share)
            found.append((f"mixture({names}; {share:g})", mixed))
    if ONE_HOT in mechanisms:
        near, clean = sure_margin(model, eps), model.values("margin")
        answers = core.accurate()
        for share in weights:
            standing = CoreVerdicts(answers, np.ones_like(answers))
            right = one_hot_mixture_core(answers, clean, standing, share=share).robust
            mixed = one_hot_mixture_core(right, near, core_of(core, eps), share=share)
            found.append((f"one-hot-mixture({names}; {share:g})", mixed))
    return [
        (name, CoreVerdicts(core.accurate, core.accurate & core.robust)) for name, core in found
    ]


def _weights(margins: Values) -> list[float]:
    """Weights at which the first network needs these margins to outvote the other."""
    return [float(weight) for weight in np.unique(np.round(1 / (1 + margins), _DIGITS))]


__all__ = ["mixtures_of"]
