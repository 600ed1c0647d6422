"""Attacks search a threat's ball for adversarial points: they refute robustness only."""

from recuse.attacks.apgd import Apgd, Maximum
from recuse.attacks.criteria import (
    CRITERIA,
    ConfidentlyWrong,
    LabelChanged,
    Rejected,
    WrongAndSelected,
)
from recuse.attacks.margins import LOSSES, Confidence, CrossEntropy, Dlr, Margin, TargetedDlr
from recuse.attacks.pgd import Pgd, pgd
from recuse.attacks.radii import RadiiOutcome, attack_radii
from recuse.attacks.verify import verify
from recuse.protocols import Attack

ATTACKS: dict[str, type[Attack]] = {"pgd": Pgd, "apgd": Apgd}

__all__ = [
    "ATTACKS",
    "CRITERIA",
    "LOSSES",
    "Apgd",
    "Confidence",
    "ConfidentlyWrong",
    "CrossEntropy",
    "Dlr",
    "LabelChanged",
    "Margin",
    "Maximum",
    "Pgd",
    "RadiiOutcome",
    "Rejected",
    "TargetedDlr",
    "WrongAndSelected",
    "attack_radii",
    "pgd",
    "verify",
]
