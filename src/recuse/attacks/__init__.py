"""Attacks search a threat's ball for adversarial points: they refute robustness only."""

from recuse.attacks.apgd import Apgd, Maximum
from recuse.attacks.criteria import (
    CRITERIA,
    ConfidentlyWrong,
    LabelChanged,
    Rejected,
    WrongAndSelected,
)
from recuse.attacks.ensemble import Ensemble, standard_ensemble
from recuse.attacks.indicator import Decision, StreamSettings, decide_stream
from recuse.attacks.margins import LOSSES, Confidence, CrossEntropy, Dlr, Margin, TargetedDlr
from recuse.attacks.masking import MaskingCheck, MaskingSigns
from recuse.attacks.names import ATTACKS, attack_name
from recuse.attacks.pgd import Pgd, pgd
from recuse.attacks.radii import RadiiOutcome, attack_radii
from recuse.attacks.screen import Screened
from recuse.attacks.square import Square
from recuse.attacks.verify import verify
from recuse.attacks.worst import Margins, ProbabilityMargin, WorstCases

__all__ = [
    "ATTACKS",
    "CRITERIA",
    "LOSSES",
    "Apgd",
    "Confidence",
    "ConfidentlyWrong",
    "CrossEntropy",
    "Decision",
    "Dlr",
    "Ensemble",
    "LabelChanged",
    "Margin",
    "Margins",
    "MaskingCheck",
    "MaskingSigns",
    "Maximum",
    "Pgd",
    "ProbabilityMargin",
    "RadiiOutcome",
    "Rejected",
    "Screened",
    "Square",
    "StreamSettings",
    "TargetedDlr",
    "WorstCases",
    "WrongAndSelected",
    "attack_name",
    "attack_radii",
    "decide_stream",
    "pgd",
    "standard_ensemble",
    "verify",
]
