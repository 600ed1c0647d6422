"""Which radii a certified record could have proven at all, from the settings it carries."""

import math
from statistics import NormalDist

from recuse.radius import parse_radius
from recuse.records.schema import RecordMeta


def attainable(meta: RecordMeta, radius: str | float) -> bool:
    """Whether agreeing votes of every draw would have proven ``radius``.

    A radius beyond that is certified nowhere, which says nothing about the model.

    Args:
        meta: Of a record of certificates by Gaussian smoothing; any other has no such limit.
        radius: In the unit of the noise.

    Returns:
        ``Phi(radius / sigma)^n <= level`` for ``n`` draws, the level being alpha or the share of
        it that the clean prediction is tested on.
    """
    certifier = meta.settings.get("certifier", {})
    draws, sigma = certifier.get("n_max", certifier.get("n")), certifier.get("sigma")
    if draws is None or sigma is None:
        return True
    level = certifier["alpha"] * certifier.get("guess_weight", 1.0)
    needed = NormalDist().cdf(parse_radius(radius) / sigma)
    return bool(draws * math.log(needed) <= math.log(level))
