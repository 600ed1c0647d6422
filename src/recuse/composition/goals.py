"""What an adversary of a whole composition may want, as inequalities that hold together.

A composition is broken by steering it to a stage that then answers wrongly. Each goal is a
list of terms, one number per sample, all above 0 where the goal is reached: the stages before
must abstain, the stage itself must select, and its answer must be wrong.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks.margins import TargetedDlr, margin, without_class
from recuse.composition.cascade import Cascade
from recuse.composition.members import Stage, ask
from recuse.models.mixture import mixed
from recuse.random import SampleNoise
from recuse.selectors.always import Always
from recuse.selectors.scores import RelabellingSelector, attackable


@dataclass(frozen=True)
class Goal:
    """Where the composition shall end up.

    Attributes:
        stage: Index of the stage that answers; the number of stages means the core.
        wrong: The answer must be wrong. False asks for no more than being passed on to that
            stage: with the core, the attack on the cost.
        target: Which wrong answer, 1 = the likeliest at the clean input; 0 for any.
    """

    stage: int
    wrong: bool = True
    target: int = 0


def wrong_answer_goals(cascade: Cascade, targets: int = 0) -> tuple[Goal, ...]:
    """A goal for every member that can answer, the core first (it is the weakest).

    Without a core the first goal is that nobody answers, which is no right answer either. Nobody
    comes after a stage that always answers.

    Args:
        cascade: The composition.
        targets: Wrong answers of each member that have a goal of their own as well.
    """
    ranks = range(targets + 1)
    goals = (Goal(s, target=r) for s in range(last_reached(cascade), -1, -1) for r in ranks)
    return tuple(g for g in goals if not g.target or g.stage < len(cascade.models))


@torch.no_grad()
def answer_aimed_at(cascade: Cascade, goal: Goal, x: Images, y: Labels) -> Labels | None:
    """The wrong answer that a goal is after; None for any.

    A mixture is fooled where both members lean to one wrong class. The accurate one is led to
    whichever is asked of it, so that the robust one's likeliest classes are worth asking for.
    """
    if not goal.target:
        return None
    model = cascade.models[goal.stage]
    parts = mixed(model)
    logits = (model if parts is None else parts.mapped)(x)
    return TargetedDlr(goal.target).targets(logits, y)


def last_reached(cascade: Cascade) -> int:
    """The last place that an image can come to: a stage that always answers passes none on."""
    always = (i for i, stage in enumerate(cascade.stages) if isinstance(stage.selector, Always))
    return next(always, len(cascade.stages))


def cost_goal(cascade: Cascade) -> Goal:
    """Every stage abstains, so that the core has to run."""
    return Goal(len(cascade.stages), wrong=False)


def stages_without_gradient(cascade: Cascade, goal: Goal) -> tuple[Stage, ...]:
    """Stages of a goal whose selectors have no differentiable stand-in."""
    asked = cascade.stages[: goal.stage + 1]
    return tuple(s for s in asked if not attackable(s.selector))


@dataclass(frozen=True)
class Terms:
    """Differentiable terms of a goal.

    Attributes:
        wanted: All above 0 where the goal is reached.
        guides: What helps to get there where a wanted term has no gradient.
    """

    wanted: list[PerSample]
    guides: list[PerSample]


def surrogate_terms(
    cascade: Cascade,
    goal: Goal,
    x: Images,
    y: Labels,
    *,
    noise: SampleNoise,
    aim: Labels | None = None,
) -> Terms:
    """Differentiable terms of a goal; selectors without a stand-in are left out.

    Args:
        cascade: The composition.
        goal: Where it shall end up.
        x: Where the terms are asked for.
        y: True labels.
        noise: Of searches within selectors.
        aim: From :func:`answer_aimed_at`.
    """
    terms = []
    for index, stage in enumerate(cascade.stages[: goal.stage]):
        selector = stage.selector
        if attackable(selector):
            inner = noise.substream("abstain", index)
            labels = _answers(stage, x, inner)
            terms.append(-selector.surrogate(stage.model, x, labels, noise=inner))
    if not goal.wrong:
        return Terms(terms, [])
    wanted = [*terms, *_wrong_terms(cascade, goal, x, y, noise, aim)]
    return Terms(wanted, _guides(cascade, goal, x, y, aim))


def _wrong_terms(
    cascade: Cascade, goal: Goal, x: Images, y: Labels, noise: SampleNoise, aim: Labels | None
) -> list[PerSample]:
    if goal.stage == len(cascade.stages):
        return [] if cascade.core is None else [_wrong(cascade.core.model(x), y, aim)]
    stage, inner = cascade.stages[goal.stage], noise.substream("select", goal.stage)
    logits, selector = _deciding(stage, x, inner), stage.selector
    terms = [_wrong(logits, y, aim)]
    if attackable(selector):
        # The wrong class nearest to winning is the one that has to be stable.
        target = without_class(logits.detach(), y).argmax(1) if aim is None else aim
        terms.append(selector.surrogate(stage.model, x, target, noise=inner))
    return terms


def _wrong(logits: Logits, y: Labels, aim: Labels | None) -> PerSample:
    """Positive where the answer is wrong, and the one that is aimed at."""
    return margin(logits, y) if aim is None else -margin(logits, aim)


def _guides(
    cascade: Cascade, goal: Goal, x: Images, y: Labels, aim: Labels | None
) -> list[PerSample]:
    model = (*cascade.models, None)[goal.stage]
    parts = None if model is None else mixed(model)
    # A sure member's softmax is flat, so the mixture's own margin has no gradient towards
    # fooling it: a plain attack follows the other member and overrates the mixture.
    return [] if parts is None else [_wrong(parts.standard(x), y, aim)]


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
    if goal.stage == len(cascade.stages):
        return terms if cascade.core is None else [*terms, margin(cascade.core.model(x), y)]
    stage = cascade.stages[goal.stage]
    logits, scores = ask(stage, x, noise.substream("stage", goal.stage))
    return [*terms, margin(logits, y), scores - stage.selector.threshold]


def _deciding(stage: Stage, x: Images, noise: SampleNoise) -> Logits:
    """Differentiable logits of what the stage answers if it selects."""
    if isinstance(stage.selector, RelabellingSelector):
        return stage.selector.relabelled(stage.model, x, noise=noise)
    logits: Logits = stage.model(x)
    return logits


@torch.no_grad()
def _answers(stage: Stage, x: Tensor, noise: SampleNoise) -> Labels:
    return _deciding(stage, x.detach(), noise).argmax(1)


__all__ = [
    "Goal",
    "Terms",
    "answer_aimed_at",
    "cost_goal",
    "last_reached",
    "scored_terms",
    "stages_without_gradient",
    "surrogate_terms",
    "wrong_answer_goals",
]
