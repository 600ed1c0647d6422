"""Which of several records of one network says most of it."""

from collections.abc import Sequence

from recuse.analysis.metrics import rate
from recuse.analysis.verdicts import Kind, Verdicts, add_radii


def evidence_rank(model: Verdicts, eps: str, kind: Kind) -> tuple[bool, bool, int, float]:
    """Orders records of one network: judged at eps, at 2 eps, samples, and how much they say.

    An attack says more the more it broke, a certificate the more it proves.
    """
    double = add_radii(eps, eps)
    if kind == "robust":
        judged, doubled = model.has(kind, eps), model.has(kind, double)
        most = rate(model.broken(eps)) if judged else -1.0
    else:
        judged, doubled = model.proves(eps), model.proves(double)
        most = rate(model.certified(double if doubled else eps)) if judged else 0.0
    return judged, doubled, model.samples, most


def strongest_record(found: Sequence[Verdicts], eps: str, kind: Kind) -> Verdicts:
    """The record that says most, the first of equal ones."""
    return max(found, key=lambda model: evidence_rank(model, eps, kind))


def network_of(model: Verdicts) -> tuple[str, ...]:
    """What the records of one network in one run have in common."""
    meta = model.meta
    return model.run, meta.model, meta.weights, meta.norm, meta.dataset


def same_weights(first: Verdicts, second: Verdicts) -> bool:
    """Whether two records are known to be of one network, whatever they call it."""
    return bool(first.meta.weights) and first.meta.weights == second.meta.weights


__all__ = ["evidence_rank", "network_of", "same_weights", "strongest_record"]
