"""Accuracy with rejection: what counts as an error of a system that may reject moved images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recuse.analysis.intervals import Interval, paired_difference, wilson_of
from recuse.analysis.verdicts import Mask, Verdicts
from recuse.errors import RecordError
from recuse.radius import parse_radius
from recuse.records.schema import Record


@dataclass(frozen=True, eq=False)
class Rejecting:
    """A network behind an indicator, counted by how far an image may be moved before it may reject.

    Attributes:
        name: Of the network.
        dataset: Of its images.
        eps: The attacker's radius.
        radius: The indicator's own, as a share of eps.
        steps: Of the indicator's attack.
        right: Right and accepted at x.
        shares: eps_0 / eps.
        counted: For each of them, where no rejection was found within eps_0 and no wrong answer
            was accepted within eps.
        broken: Right at x by the network, and a wrong answer was accepted within eps: what an
            indicator of radius eps or more promises never to do.
        promised: For each share, where the network alone is right and no attack changed it as far
            as the promise needs (:func:`sure_radius`); empty where that was not judged.
    """

    name: str
    dataset: str
    eps: str
    radius: float
    steps: int
    right: Mask
    shares: tuple[float, ...]
    counted: tuple[Mask, ...]
    broken: Mask
    promised: tuple[Mask, ...] = ()

    @property
    def contradictions(self) -> int:
        """Promises that an attack on the system broke."""
        pairs = zip(self.promised, self.counted, strict=False)
        return sum(int(np.count_nonzero(sure & ~left)) for sure, left in pairs)

    def over(self, other: "Rejecting") -> list[Interval]:
        """What it has over another on the same images at each share, paired, with intervals."""
        return [paired_difference(a, b) for a, b in zip(self.counted, other.counted, strict=True)]

    @property
    def rates(self) -> list[Interval]:
        """Accuracy with rejection at each share, with 95 % intervals."""
        return [wilson_of(mask) for mask in self.counted]


def sure_radius(radius: float, share: float, eps: float) -> float:
    """How far a network must keep its answer, for its indicator to count whatever search it has.

    Within eps no answer is wrong, and wherever an image is moved within share * eps, no other
    answer lies within the indicator's radius.

    Args:
        radius: Of the indicator.
        share: eps_0 / eps.
        eps: The attacker's radius.
    """
    return max(radius + share * eps, eps)


def rejecting(records: Sequence[Record], networks: Sequence[Verdicts] = ()) -> list[Rejecting]:
    """What the records of networks that may reject say, by network, then by radius.

    Args:
        records: Of such networks.
        networks: The same networks judged by themselves, from which bounds follow.

    Raises:
        RecordError: A record of something else.
    """
    known = {network.meta.weights: network for network in networks}
    found = [
        _of(Verdicts(record.meta, record.frame), known.get(record.meta.weights))
        for record in records
    ]
    return sorted(found, key=lambda one: (one.dataset, one.name, one.radius))


def _of(found: Verdicts, alone: Verdicts | None) -> Rejecting:
    meta, how = found.meta, found.meta.settings.get("rejection")
    if how is None or "selected" not in found.frame.columns:
        raise RecordError(f"record of {meta.model!r} is none of a network that may reject")
    eps, accurate = meta.radii[-1], found.accurate()
    unfooled = found.frame[f"robust@{eps}"].to_numpy()
    kept = [found.frame["selected"], *(found.frame[f"selected_robust@{r}"] for r in meta.radii)]
    return Rejecting(
        meta.model,
        meta.dataset,
        eps,
        round(parse_radius(how["radius"]) / parse_radius(how["eps"]), 4),
        int(how["indicator"]["steps"]),
        np.asarray(accurate & kept[0].to_numpy()),
        tuple(how["shares"]),
        tuple(np.asarray(unfooled & accepted.to_numpy()) for accepted in kept),
        np.asarray(accurate & ~unfooled),
        _promised(alone, found, tuple(how["shares"])),
    )


def _promised(
    alone: Verdicts | None, found: Verdicts, shares: tuple[float, ...]
) -> tuple[Mask, ...]:
    how = found.meta.settings["rejection"]
    own, eps = parse_radius(how["radius"]), parse_radius(how["eps"])
    radii = [sure_radius(own, share, eps) for share in shares]
    if alone is None or not alone.ids.equals(found.ids):
        return ()
    if not all(alone.has("robust", radius) for radius in radii):
        return ()
    return tuple(np.asarray(alone.accurate() & alone.robust(radius)) for radius in radii)


__all__ = ["Rejecting", "rejecting", "sure_radius"]
