"""An adversary that knows the whole composition: its stages, selectors, core and their order.

Three members look for a point of the attacker's ball at which the deployed composition
answers wrongly: plain attacks on each classifier, gradient ascent on the joint goals of
:mod:`recuse.composition.goals`, and a random search where a selector has no gradient. Whatever
they propose is judged by running the composition itself.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Mask
from recuse.composition.cascade import Cascade
from recuse.composition.goals import (
    Goal,
    answer_aimed_at,
    cost_goal,
    last_reached,
    stages_without_gradient,
    wrong_answer_goals,
)
from recuse.composition.search import ascend, random_search
from recuse.errors import ConfigError
from recuse.models.mixture import mixed
from recuse.protocols import Attack
from recuse.random import SampleNoise
from recuse.results import Prediction


@dataclass(frozen=True)
class CompositionOutcome:
    """What the adversary found, every point re-judged by the deployed composition.

    Attributes:
        natural: The answers without an attack.
        correct: H(x) = y.
        robust: H(x) = y and no point was found where H answers wrongly: the attacked account.
        x_adv: The point where H answers wrongly, else the input.
        broken_by: Stage that gives the wrong answer there (the core, or nobody, is the last
            index); -1 where nothing was found.
        abstained: ``[batch, stages]``: the stage was seen to abstain at a point of the ball,
            which refutes that it surely selects.
        reached_core: A point was found that every stage passes on: the core's share under
            attack.
        x_costly: That point, else the input.
        notes: One sentence per selector that the gradient member could not use.
    """

    natural: Prediction
    correct: Mask
    robust: Mask
    x_adv: Images
    broken_by: Labels
    abstained: Tensor
    reached_core: Mask
    x_costly: Images
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AdaptiveAdversary:
    """Attacks selector, classifier and core as one system.

    Attributes:
        steps: Gradient steps towards each goal.
        restarts: Runs per goal; the first starts at the plain attack's point on the classifier
            that shall answer, later ones at random points.
        attacks: Plain attacks on every classifier, whose points are tried as they are.
        queries: Proposals of the random search per goal with a selector without gradient.
        targets: Likeliest wrong answers of each member that are goals of their own as well.
    """

    steps: int = 20
    restarts: int = 1
    attacks: tuple[Attack, ...] = ()
    queries: int = 100
    targets: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or min(self.queries, self.targets) < 0:
            raise ConfigError(
                "the adaptive adversary needs at least one step, one restart and no negative "
                f"number of queries or targets, got {self.steps}, {self.restarts}, {self.queries}, "
                f"{self.targets}"
            )

    def __call__(
        self, cascade: Cascade, x: Images, y: Labels, *, noise: SampleNoise
    ) -> CompositionOutcome:
        """Attack a batch within the cascade's budget.

        Args:
            cascade: The composition as deployed.
            x: Inputs.
            y: True labels.
            noise: The deployed composition's noise. The adversary draws its own random numbers
                from other streams, and asks the composition, and in the random search the
                selectors' scores, as they are deployed: with this noise.
        """
        with cascade.evaluating():
            case = _Case.open(cascade, x, y, noise)
            starts = self._plain(case)
            for goal in wrong_answer_goals(cascade, self.targets):
                self._pursue(case, goal, case.x if goal.target else starts[goal.stage])
            if last_reached(cascade) == case.stages:
                self._pursue(case, cost_goal(cascade), starts[-1])
        return case.outcome(_notes(cascade, self.queries))

    def _plain(self, case: "_Case") -> list[Images]:
        """Points of plain attacks on each classifier, tried and kept as starts.

        Of a mixture both members are attacked too: a sure member hides the other's gradient.
        """
        starts = [case.x.clone() for _ in range(case.stages + 1)]
        networks = [
            (index, part)
            for index, model in enumerate(case.cascade.models)
            for part in _with_members(model)
        ]
        for number, attack in enumerate(self.attacks):
            for place, (index, model) in enumerate(networks):
                rows = case.open_rows()
                if not len(rows):
                    return starts
                noise = case.adversary_noise(rows, "plain", number, place)
                x, y = case.x[rows], case.y[rows]
                found = attack(model, x, y, case.cascade.budget, noise=noise).x_adv
                if model is case.cascade.models[index]:
                    starts[index][rows] = found
                case.try_points(rows, found)
        return starts

    def _pursue(self, case: "_Case", goal: Goal, start: Images) -> None:
        cascade = case.cascade
        for restart in range(self.restarts):
            rows = case.rows_for(goal)
            if not len(rows):
                return
            aimed = (goal.target,) if goal.target else ()
            noise = case.adversary_noise(rows, "goal", goal.stage, goal.wrong, restart, *aimed)
            x, y, first = case.x[rows], case.y[rows], start[rows]
            if restart:
                first = cascade.budget.random_start(x, noise)
            aim = answer_aimed_at(cascade, goal, x, y)
            found = ascend(cascade, goal, x, y, start=first, noise=noise, steps=self.steps, aim=aim)
            case.try_points(rows, found)
        if not goal.target and stages_without_gradient(cascade, goal) and self.queries:
            self._query(case, goal)

    def _query(self, case: "_Case", goal: Goal) -> None:
        rows = case.rows_for(goal)
        if len(rows):
            points = random_search(
                case.cascade,
                goal,
                case.x[rows],
                case.y[rows],
                noise=case.adversary_noise(rows, "queries", goal.stage, goal.wrong),
                deployed=case.noise.take(rows.tolist()),
                queries=self.queries,
            )
            case.try_points(rows, points)


@dataclass
class _Case:
    """One batch under attack: what was tried and what came of it."""

    cascade: Cascade
    x: Images
    y: Labels
    noise: SampleNoise
    natural: Prediction
    broken: Mask
    x_adv: Images
    broken_by: Labels
    abstained: Tensor
    reached_core: Mask
    x_costly: Images
    stages: int = field(init=False)

    def __post_init__(self) -> None:
        self.stages = len(self.cascade.stages)
        self._note(torch.arange(len(self.x), device=self.x.device), self.x, self.natural)

    @classmethod
    def open(cls, cascade: Cascade, x: Images, y: Labels, noise: SampleNoise) -> "_Case":
        none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return cls(
            cascade=cascade,
            x=x.detach(),
            y=y,
            noise=noise,
            natural=cascade(x, noise=noise),
            broken=none.clone(),
            x_adv=x.detach().clone(),
            broken_by=torch.full_like(y, -1),
            abstained=none[:, None].repeat(1, len(cascade.stages)),
            reached_core=none.clone(),
            x_costly=x.detach().clone(),
        )

    def open_rows(self) -> Tensor:
        """Rows on which the composition is not yet wrong."""
        return (~self.broken).nonzero()[:, 0]

    def rows_for(self, goal: Goal) -> Tensor:
        """Rows on which a goal is still worth pursuing."""
        return self.open_rows() if goal.wrong else (~self.reached_core).nonzero()[:, 0]

    def adversary_noise(self, rows: Tensor, *stream: object) -> SampleNoise:
        """Randomness of the adversary, independent of the deployed composition's."""
        return self.noise.take(rows.tolist()).substream("adversary", *stream)

    def try_points(self, rows: Tensor, points: Images) -> None:
        """Run the composition at points and keep those of the ball that change something."""
        inside = self.cascade.budget.contains(points, self.x[rows])
        rows, points = rows[inside], points[inside]
        if len(rows):
            deployed = self.noise.take(rows.tolist())
            self._note(rows, points, self.cascade(points, noise=deployed))

    def _note(self, rows: Tensor, points: Images, answers: Prediction) -> None:
        wrong = (answers.label != self.y[rows]) & ~self.broken[rows]
        hit = rows[wrong]
        self.broken[hit] = True
        self.x_adv[hit] = points[wrong]
        self.broken_by[hit] = answers.stage[wrong]
        stage = torch.arange(self.stages, device=rows.device)
        self.abstained[rows] |= answers.stage[:, None] > stage
        costly = (answers.stage == self.stages) & ~self.reached_core[rows]
        self.reached_core[rows[costly]] = True
        self.x_costly[rows[costly]] = points[costly]

    def outcome(self, notes: tuple[str, ...]) -> CompositionOutcome:
        return CompositionOutcome(
            natural=self.natural,
            correct=self.natural.label == self.y,
            robust=~self.broken,
            x_adv=self.x_adv,
            broken_by=self.broken_by,
            abstained=self.abstained,
            reached_core=self.reached_core,
            x_costly=self.x_costly,
            notes=notes,
        )


def _with_members(model: nn.Module) -> tuple[nn.Module, ...]:
    """A network, and of a mixture both members as well."""
    parts = mixed(model)
    return (model,) if parts is None else (model, parts.mapped, parts.standard)


def _notes(cascade: Cascade, queries: int) -> tuple[str, ...]:
    blind = stages_without_gradient(cascade, Goal(len(cascade.stages)))
    return tuple(
        f"the selector of {stage.name!r} ({type(stage.selector).__name__}) has no gradient: it is "
        + (
            f"attacked by a random search of {queries} queries per goal"
            if queries
            else "not attacked, because the random search has 0 queries"
        )
        for stage in blind
    )


__all__ = ["AdaptiveAdversary", "CompositionOutcome"]
