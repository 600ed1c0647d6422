"""Selectors: a score per input, higher = keep; select where the score reaches the threshold."""

from recuse.protocols import Selector
from recuse.selectors.always import Always
from recuse.selectors.calibrate import (
    Calibration,
    Coverage,
    NaturalLoss,
    Risk,
    RiskCoverage,
    calibrate,
    require_selecting,
    risk_coverage,
    selected,
)
from recuse.selectors.certified import CertifiedIndicator, CertifiedSelection
from recuse.selectors.entropy import EntropyResponse, entropy
from recuse.selectors.narrow import NarrowIndicator
from recuse.selectors.reach import Reach
from recuse.selectors.robustness import (
    RobustMargin,
    RobustnessIndicator,
    robust_selection,
    robust_within,
)
from recuse.selectors.scores import AnsweringSelector, AttackableSelector, BudgetedSelector
from recuse.selectors.selection_network import (
    SelectionBounds,
    SelectionNetwork,
    acceptance,
    acceptance_split,
    selection_bounds,
)
from recuse.selectors.softmax_response import (
    RobustSoftmaxResponse,
    SoftmaxResponse,
    log_odds,
    max_softmax,
)
from recuse.selectors.surrogates import InnerSearch, worst_margin

SELECTORS: dict[str, type[Selector]] = {
    "indicator": RobustnessIndicator,
    "narrow-indicator": NarrowIndicator,
    "certified": CertifiedIndicator,
    "robust-margin": RobustMargin,
    "softmax": SoftmaxResponse,
    "robust-softmax": RobustSoftmaxResponse,
    "entropy": EntropyResponse,
    "network": SelectionNetwork,
    "always": Always,
}

__all__ = [
    "SELECTORS",
    "Always",
    "AnsweringSelector",
    "AttackableSelector",
    "BudgetedSelector",
    "Calibration",
    "CertifiedIndicator",
    "CertifiedSelection",
    "Coverage",
    "EntropyResponse",
    "InnerSearch",
    "NarrowIndicator",
    "NaturalLoss",
    "Reach",
    "Risk",
    "RiskCoverage",
    "RobustMargin",
    "RobustSoftmaxResponse",
    "RobustnessIndicator",
    "SelectionBounds",
    "SelectionNetwork",
    "SoftmaxResponse",
    "acceptance",
    "acceptance_split",
    "calibrate",
    "entropy",
    "log_odds",
    "max_softmax",
    "require_selecting",
    "risk_coverage",
    "robust_selection",
    "robust_within",
    "selected",
    "selection_bounds",
    "worst_margin",
]
