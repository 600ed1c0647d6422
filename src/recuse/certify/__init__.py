"""Certificates: randomized smoothing in L2, interval bounds in Linf."""

import sys

from recuse import CallableRoom
from recuse.certify.bounds import (
    betting_interval,
    betting_log_wealth,
    certified_radius,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from recuse.certify.crown import Crown
from recuse.certify.ibp import Ibp, largest_radius, output_bounds
from recuse.certify.power import VotingCertifier, needed_radius
from recuse.certify.sequential import GroupSequential
from recuse.certify.smoothing import Cohen
from recuse.certify.tables import (
    OperatingPoint,
    StoppingTable,
    draws_needed,
    make_table,
    needed_probability,
    operating_point,
)
from recuse.protocols import Certifier

CERTIFIERS: dict[str, type[Certifier]] = {
    "sequential": GroupSequential,
    "fixed": Cohen,
    "ibp": Ibp,
    "crown": Crown,
}

__all__ = [
    "CERTIFIERS",
    "Cohen",
    "Crown",
    "GroupSequential",
    "Ibp",
    "OperatingPoint",
    "StoppingTable",
    "VotingCertifier",
    "betting_interval",
    "betting_log_wealth",
    "certified_radius",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "draws_needed",
    "largest_radius",
    "make_table",
    "needed_probability",
    "needed_radius",
    "operating_point",
    "output_bounds",
]

sys.modules[__name__].__class__ = CallableRoom
