"""Compositions: cascades of stages that may abstain, mixtures, and the adversary of both."""

from recuse.composition.adversary import AdaptiveAdversary, CompositionOutcome
from recuse.composition.cascade import Cascade, Trace, require_answers
from recuse.composition.cost import Passes, counted, expected_cost
from recuse.composition.goals import Goal, cost_goal, wrong_answer_goals
from recuse.composition.members import Core, Stage
from recuse.composition.mixednuts import MixedNuts, fit_mixednuts
from recuse.models.mixture import LogitMixture, MixedNutsMap, ProbabilityMixture

__all__ = [
    "AdaptiveAdversary",
    "Cascade",
    "CompositionOutcome",
    "Core",
    "Goal",
    "LogitMixture",
    "MixedNuts",
    "MixedNutsMap",
    "Passes",
    "ProbabilityMixture",
    "Stage",
    "Trace",
    "cost_goal",
    "counted",
    "expected_cost",
    "fit_mixednuts",
    "require_answers",
    "wrong_answer_goals",
]
