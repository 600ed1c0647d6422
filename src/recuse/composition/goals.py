"""What an adversary of a whole composition may want, as inequalities that hold together.

A composition is broken by steering it to a stage that then answers wrongly. Each goal is a
list of terms, one number per sample, all above 0 where the goal is reached: the stages before
must abstain, the stage itself must select, and its answer must be wrong.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, PerSample
from recuse.attacks.margins import margin, without_class
from recuse.composition.cascade import Cascade
from recuse.composition.members import Stage
from recuse.composition.mixture import ProbabilityMixture
from recuse.random import SampleNoise
from recuse.selectors.scores import AttackableSelector


@dataclass(frozen=True)
class Goal:
    """Where the composition shall end up.

    Attributes:
        stage: Index of the stage that answers; the number of stages means the core.
        wrong: The answer must be wrong. False asks for no more than being passed on to that
            stage: with the core, the attack on the cost.
    """

    stage: int
    wrong: bool = True


def wrong_answer_goals(cascade: Cascade) -> tuple[Goal, ...]:
    """One goal for every member that can answer, the core first (it is the weakest)."""
    return tuple(Goal(stage) for stage in range(len(cascade.stages), -1, -1))


def cost_goal(cascade: Cascade) -> Goal:
    """Every stage abstains, so that the core has to run."""
    return Goal(len(cascade.stages), wrong=False)


def stages_without_gradient(cascade: Cascade, goal: Goal) -> tuple[Stage, ...]:
    """Stages of a goal whose selectors have no differentiable stand-in."""
    asked = cascade.stages[: goal.stage + 1]
    return tuple(s for s in asked if not isinstance(s.selector, AttackableSelector))


def surrogate_terms(
    cascade: Cascade, goal: Goal, x: Images, y: Labels, *, noise: SampleNoise
) -> list[PerSample]:
    """Differentiable terms of a goal; selectors without a stand-in are left out."""
    terms = []
    for index, stage in enumerate(cascade.stages[: goal.stage]):
        if isinstance(stage.selector, AttackableSelector):
            labels = _answers(stage.model, x)
            inner = noise.substream("abstain", index)
            terms.append(-stage.selector.surrogate(stage.model, x, labels, noise=inner))
    return [*terms, *_answering_terms(cascade, goal, x, y, noise)]


def _answering_terms(
    cascade: Cascade, goal: Goal, x: Images, y: Labels, noise: SampleNoise
) -> list[PerSample]:
    if not goal.wrong:
        return []
    model = cascade.models[goal.stage]
    logits = model(x)
    terms = [margin(logits, y)]
    if isinstance(model, ProbabilityMixture):
        # A sure member's softmax is flat, so the mixture's own margin has no gradient towards
        # fooling it: a plain attack follows the other member and overrates the mixture.
        terms.append(margin(model.standard(x), y))
    if goal.stage < len(cascade.stages):
        selector = cascade.stages[goal.stage].selector
        if isinstance(selector, AttackableSelector):
            # The wrong class nearest to winning is the one that has to be stable.
            target = without_class(logits.detach(), y).argmax(1)
            inner = noise.substream("select", goal.stage)
            terms.append(selector.surrogate(model, x, target, noise=inner))
    return terms


@torch.no_grad()
def scored_terms(
    cascade: Cascade, goal: Goal, x: Images, y: Labels, *, noise: SampleNoise
) -> list[PerSample]:
    """The terms of a goal from the selectors' own scores, for a search without gradients."""
    terms = []
    for index, stage in enumerate(cascade.stages[: goal.stage]):
        scores = stage.selector(stage.model, x, noise=noise.substream("stage", index))
        terms.append(stage.selector.threshold - scores)
    if not goal.wrong:
        return terms
    terms.append(margin(cascade.models[goal.stage](x), y))
    if goal.stage < len(cascade.stages):
        stage = cascade.stages[goal.stage]
        scores = stage.selector(stage.model, x, noise=noise.substream("stage", goal.stage))
        terms.append(scores - stage.selector.threshold)
    return terms


@torch.no_grad()
def _answers(model: nn.Module, x: Tensor) -> Labels:
    labels: Labels = model(x.detach()).argmax(1)
    return labels


__all__ = [
    "Goal",
    "cost_goal",
    "scored_terms",
    "stages_without_gradient",
    "surrogate_terms",
    "wrong_answer_goals",
]
