"""Auto-PGD: gradient ascent with momentum whose step size halves where progress stalls.

The published algorithm as its authors run it, with three changes that alter no verdict: an
input is dropped as soon as its adversarial point is found, the last step computes no gradient,
and the state is updated without reading anything back from the device.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from recuse.arrays import Counts, Images, Labels, Logits, Mask, PerSample
from recuse.attacks.active import ActiveSet, Compaction, Rows, require_gradients
from recuse.attacks.binding import as_defined, bind, rounded
from recuse.attacks.margins import CrossEntropy
from recuse.attacks.search import Problem, attack_batch, clean_pass, input_gradient
from recuse.attacks.trajectories import MOMENTUM, Trajectories, checkpoints
from recuse.attacks.verify import evaluation_mode, forward
from recuse.errors import ConfigError
from recuse.protocols import AscentLoss, Criterion
from recuse.random import SampleNoise
from recuse.results import AttackOutcome
from recuse.threat import Threat, expand_as


@dataclass(frozen=True)
class Maximum:
    """The highest value an attack reached, per input.

    Attributes:
        x_adv: Where it was reached, inside the threat.
        value: The loss there, from a fresh float32 forward pass.
        forwards: Forward passes spent per sample, the fresh one included.
        backwards: Backward passes to the input spent per sample.
        searched: Inputs at which a gradient led above the clean value; the value at the others
            bounds nothing.
    """

    x_adv: Images
    value: PerSample
    forwards: Counts
    backwards: Counts
    searched: Mask


def ascend(
    problem: Problem, start: Images, active: ActiveSet, *, steps: int, rho: float
) -> tuple[Tensor, Tensor]:
    """One run of Auto-PGD over the active rows.

    Args:
        problem: What is increased and what counts as found.
        start: First iterate of each active row.
        active: The active rows; what is found and what it cost is noted there.
        steps: Number of steps after the first evaluation.
        rho: Share of the steps of a window that must rise, else the step is halved.

    Returns:
        The point of highest value and the value, for each row still active.
    """
    reviews = checkpoints(steps)
    x_adv = problem.threat.project(start, problem.x[active.rows])
    state: Trajectories | None = None
    reviewed = 0
    for step in range(steps + 1):
        if state is not None:
            x_adv = state.move(problem.threat, 1.0 if step == 1 else MOMENTUM)
        last = step == steps
        logits, value, grad = _evaluate(problem, x_adv, active.rows, last=last)
        active.spend(forwards=1, backwards=int(not last))
        active.look_at(value, grad)
        hit = problem.hits(x_adv, logits, active.rows)
        if state is None:
            centre = problem.x[active.rows]
            state = Trajectories.begin(centre, x_adv, value, grad, problem.threat.eps)
        if (keep := active.settle(x_adv, hit, step, last=last)) is not None:
            state, value, grad = state.take(keep), value[keep], grad[keep]
        if len(active.rows) == 0:
            break
        if step > 0:
            state.observe(value, grad)
        if step in reviews:
            state.review(step - reviewed, rho)
            reviewed = step
    assert state is not None
    return state.x_best, state.best


def _evaluate(
    problem: Problem, x_adv: Images, rows: Labels, *, last: bool
) -> tuple[Logits, PerSample, Images]:
    """Logits, value and gradient at the current iterate; no gradient after the last step."""
    value = partial(problem.value, rows=rows)
    if last:
        logits = forward(problem.model, x_adv)
        return logits, value(logits), torch.zeros_like(x_adv)
    return input_gradient(problem.model, x_adv, value)


@dataclass(frozen=True)
class Apgd:
    """Auto-PGD: 40 steps without a step size to tune.

    Attributes:
        steps: Steps after the first evaluation.
        loss: What to ascend.
        restarts: Runs from different starts; later ones only on inputs not yet broken.
        rho: Share of the steps of a window that must rise, else the step is halved.

    Source: Croce & Hein, ICML 2020, Algorithm 1.
    """

    steps: int = 40
    loss: AscentLoss = field(default_factory=CrossEntropy)
    restarts: int = 1
    rho: float = 0.75

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ConfigError("APGD needs at least one step and one restart")
        if not 0 < self.rho < 1:
            raise ConfigError(f"APGD: rho {self.rho} must lie between 0 and 1")

    def __call__(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        criterion: Criterion | None = None,
        start: Images | None = None,
        clean_logits: Logits | None = None,
    ) -> AttackOutcome:
        """Attack a batch; see :class:`recuse.protocols.Attack`.

        ``start`` replaces the random start of the first run. ``clean_logits``, the logits at
        ``x``, save the pass that tests the input itself.
        """

        def run(problem: Problem, first: Images, active: ActiveSet) -> None:
            best, _ = ascend(problem, first, active, steps=self.steps, rho=self.rho)
            active.keep_best(best)

        return attack_batch(
            model,
            x,
            y,
            threat,
            loss=self.loss,
            run=run,
            starts=lambda restart, rows: self._start(x, threat, noise, start, restart, rows),
            restarts=self.restarts,
            criterion=criterion,
            clean_logits=clean_logits,
        )

    def maximise(
        self,
        model: nn.Module,
        x: Images,
        y: Labels,
        threat: Threat,
        *,
        noise: SampleNoise,
        start: Images | None = None,
        clean_logits: Logits | None = None,
    ) -> Maximum:
        """The highest value of the loss in the ball that all runs together reach.

        Nothing is dropped on the way: with ``Apgd(loss=Confidence())`` this is the largest
        wrong-class confidence, from which every threshold of softmax response can be judged.

        Returns:
            The value at the best point found (the unperturbed input counts), re-evaluated by a
            fresh float32 forward pass.
        """
        x = x.detach()
        with evaluation_mode(model):
            logits, spent = clean_pass(model, x, clean_logits)
            value = bind(self.loss, logits, y, rounded(self.loss, logits))
            rows = torch.arange(len(x), device=x.device)
            none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            active = ActiveSet(x, none, Compaction.suited_to(x.device))
            active.forwards += spent + 1
            x_best, best = x.clone(), value(logits, rows)
            problem = Problem(model, x, threat, value)
            for restart in range(self.restarts if len(x) else 0):
                first = self._start(x, threat, noise, start, restart, rows)
                points, reached = ascend(problem, first, active, steps=self.steps, rho=self.rho)
                higher = reached > best
                x_best = torch.where(expand_as(higher, x), points, x_best)
                best = torch.maximum(best, reached)
            require_gradients(active.undefined)
            x_best = threat.project(x_best, x)
            reached = as_defined(self.loss, logits, y)(forward(model, x_best), rows)
            searched = active.searched(value(logits, rows))
            return Maximum(x_best, reached, active.forwards, active.backwards, searched)

    def _start(
        self,
        x: Images,
        threat: Threat,
        noise: SampleNoise,
        start: Images | None,
        restart: int,
        rows: Rows,
    ) -> Tensor:
        if start is not None and restart == 0:
            return start[rows]
        return threat.random_start(x[rows], noise.take(rows.tolist()).substream("apgd", restart))


__all__ = ["Apgd", "Maximum", "ascend"]
