"""What certificates prove of a stage as it is deployed, wherever an attacker moves its input.

A certificate at x says what the certified classifier answers in a ball around x. A deployed stage
certifies anew, at the point it is given, and abstains where that fails. Interval bounds of a ball
inside another are never looser, so that twice the radius is enough. A test with finitely many
votes needs a radius that its record names, and misses with probability beta even then. Linear
bounds may be looser on a smaller ball: they prove the answer, and not that it is given.
"""

from dataclasses import dataclass

from recuse.analysis.attainable import attainable
from recuse.analysis.verdicts import Verdicts, add_radii
from recuse.radius import format_radius, parse_radius
from recuse.records.schema import RecordMeta


@dataclass(frozen=True)
class Promise:
    """What makes a deployed stage answer at every point of the ball, or why nothing does.

    Attributes:
        radius: To be certified at x, canonical text; empty where the record proves nothing.
        alpha: Probability that the certificate at x is false.
        beta: Probability that the stage misses the answer that it owes.
        lacking: A sentence that says why nothing is proven; empty where something is.
    """

    radius: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    lacking: str = ""

    @property
    def failure(self) -> float:
        """Probability, per image, that the stage does otherwise than it is counted."""
        return self.alpha + self.beta


def smoothed(meta: RecordMeta) -> bool:
    """Whether a record is of a smoothed classifier, which answers by votes under noise."""
    return meta.method == "smoothing"


def promise(model: Verdicts, eps: str) -> Promise:
    """What the record of a stage of radius eps proves against an attacker of the same radius."""
    meta = model.meta
    if meta.method == "ibp":
        return Promise(add_radii(eps, eps))
    if smoothed(meta):
        return _by_votes(model, eps, "needs")
    return Promise(
        lacking=f"{meta.model} is certified by {meta.method}, whose bounds may be looser at a "
        "moved image: they prove its answer, but not that the stage gives it; certify it with ibp"
    )


def promise_alone(model: Verdicts, eps: str) -> Promise:
    """What the record of a model that answers alone proves against an attacker of radius eps.

    A network that answers by itself is proven by any certificate at eps. A smoothed one answers
    by votes, as a stage of radius 0 does.
    """
    if smoothed(model.meta):
        return _by_votes(model, eps, "alone")
    if model.proves(eps):
        return Promise(format_radius(parse_radius(eps)))
    return Promise(lacking=f"{model.meta.model} was not certified at {eps}")


def _by_votes(model: Verdicts, eps: str, deployed: str) -> Promise:
    meta = model.meta
    told = meta.settings.get("deployed", {})
    needs, own = told.get(deployed, {}), format_radius(parse_radius(eps))
    needed = needs.get(own)
    if own in needs and (needed is None or not attainable(meta, needed)):
        return Promise(
            lacking=f"a stage of {meta.model} draws too few votes to answer surely at {own}; "
            "allow more draws, or more noise"
        )
    if needed is None or not model.proves(needed):
        return Promise(
            lacking=f"the record of {meta.model} does not hold the certificate that a stage with "
            f"finitely many votes needs at {own}; certify it again (recuse certify)"
        )
    return Promise(needed, alpha=meta.settings["alpha"], beta=told["beta"])


__all__ = ["Promise", "promise", "promise_alone", "smoothed"]
