"""Auto-PGD: gradient ascent with momentum whose step size halves where progress stalls.

The published algorithm as its authors run it, with three changes that alter no verdict: an
input is dropped as soon as its adversarial point is found, the last step computes no gradient,
and the state is updated without reading anything back from the device.
"""

from dataclasses import dataclass, field, fields
from functools import partial

import torch
from torch import Tensor, nn

from recuse.arrays import Counts, Images, Labels, Logits, PerSample
from recuse.attacks.active import ActiveSet, Compaction
from recuse.attacks.margins import CrossEntropy, bind
from recuse.attacks.search import Problem, attack_batch, clean_pass, input_gradient
from recuse.attacks.verify import evaluation_mode, forward
from recuse.errors import ConfigError
from recuse.protocols import AscentLoss, Criterion
from recuse.random import SampleNoise
from recuse.results import AttackOutcome
from recuse.threat import Threat, expand_as

_MOMENTUM = 0.75
_FIRST_STEP = 2.0
_FIRST_WINDOW, _SHRINK, _SHORTEST_WINDOW = 0.22, 0.03, 0.06


def checkpoints(steps: int) -> tuple[int, ...]:
    """After how many steps the step size is reviewed.

    The windows between reviews start at 22 % of the run and shrink by 3 % down to 6 %, in whole
    steps.

    >>> checkpoints(40)
    (8, 15, 21, 26, 30, 33, 35, 37, 39)
    """
    window = max(int(_FIRST_WINDOW * steps), 1)
    shrink = max(int(_SHRINK * steps), 1)
    shortest = max(int(_SHORTEST_WINDOW * steps), 1)
    found = []
    at = window
    while at <= steps:
        found.append(at)
        window = max(window - shrink, shortest)
        at += window
    return tuple(found)


@dataclass(frozen=True)
class Maximum:
    """The highest value an attack reached, per input.

    Attributes:
        x_adv: Where it was reached, inside the threat.
        value: The loss there, from a fresh float32 forward pass.
        forwards: Forward passes spent per sample, the fresh one included.
        backwards: Backward passes to the input spent per sample.
    """

    x_adv: Images
    value: PerSample
    forwards: Counts
    backwards: Counts


@dataclass
class _State:
    """One entry per active row; images first, numbers after."""

    x: Tensor
    x_adv: Tensor
    x_old: Tensor
    x_best: Tensor
    grad: Tensor
    grad_best: Tensor
    step_size: Tensor
    best: Tensor
    previous: Tensor
    rises: Tensor
    best_at_review: Tensor
    reduced: Tensor

    @classmethod
    def begin(
        cls, x: Images, x_adv: Images, value: PerSample, grad: Images, eps: float
    ) -> "_State":
        # The published code compares its first step with a row of zeros, not with the value at
        # the start; with ``previous = 0`` the count of rises is the same.
        zeros = torch.zeros_like(value)
        return cls(
            x=x,
            x_adv=x_adv,
            x_old=x_adv,
            x_best=x_adv.clone(),
            grad=grad,
            grad_best=grad.clone(),
            step_size=torch.full_like(value, _FIRST_STEP * eps),
            best=value.clone(),
            previous=zeros,
            rises=zeros.clone(),
            best_at_review=value.clone(),
            reduced=torch.ones_like(value, dtype=torch.bool),
        )

    def take(self, keep: Tensor) -> "_State":
        return _State(*(getattr(self, f.name)[keep] for f in fields(self)))

    def move(self, threat: Threat, momentum: float) -> Images:
        """The next iterate: a projected gradient step, averaged with the last displacement."""
        direction = threat.ascent_direction(self.grad)
        x_next = threat.project(
            torch.addcmul(self.x_adv, direction, expand_as(self.step_size, direction)), self.x
        )
        if momentum < 1:
            # x + a(z - x) + (1 - a)(x - x_old), collected by point
            x_next.mul_(momentum).add_(self.x_adv, alpha=2 - 2 * momentum)
            x_next.sub_(self.x_old, alpha=1 - momentum)
            x_next = threat.project(x_next, self.x)
        self.x_old, self.x_adv = self.x_adv, x_next
        return x_next

    def observe(self, value: PerSample, grad: Images) -> None:
        """Compare the current iterate's value with the best and with the last one."""
        self.grad = grad
        better = value > self.best
        where = expand_as(better, self.x_adv)
        torch.where(where, self.x_adv, self.x_best, out=self.x_best)
        torch.where(where, self.grad, self.grad_best, out=self.grad_best)
        self.best = torch.maximum(value, self.best)
        self.rises += value > self.previous
        self.previous = value

    def review(self, window: int, rho: float) -> None:
        """Halve the step and return to the best point where a window brought too little."""
        stalled = self.rises <= rho * window
        stuck = ~self.reduced & (self.best_at_review >= self.best)
        self.reduced = stalled | stuck
        self.step_size = torch.where(self.reduced, self.step_size / 2, self.step_size)
        where = expand_as(self.reduced, self.x_adv)
        self.x_adv = torch.where(where, self.x_best, self.x_adv)
        self.grad = torch.where(where, self.grad_best, self.grad)
        self.best_at_review = self.best.clone()
        self.rises = torch.zeros_like(self.rises)


def ascend(
    problem: Problem, start: Images, active: ActiveSet, *, steps: int, rho: float
) -> tuple[Images, PerSample]:
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
    state: _State | None = None
    reviewed = 0
    for step in range(steps + 1):
        if state is not None:
            x_adv = state.move(problem.threat, 1.0 if step == 1 else _MOMENTUM)
        last = step == steps
        logits, value, grad = _evaluate(problem, x_adv, active.rows, last=last)
        active.spend(forwards=1, backwards=int(not last))
        hit = problem.hits(x_adv, logits, active.rows)
        if state is None:
            centre = problem.x[active.rows]
            state = _State.begin(centre, x_adv, value, grad, problem.threat.eps)
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
            value = bind(self.loss, logits, y)
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
            x_best = threat.project(x_best, x)
            return Maximum(
                x_best, value(forward(model, x_best), rows), active.forwards, active.backwards
            )

    def _start(
        self,
        x: Images,
        threat: Threat,
        noise: SampleNoise,
        start: Images | None,
        restart: int,
        rows: Labels,
    ) -> Images:
        if start is not None and restart == 0:
            return start[rows]
        return threat.random_start(x[rows], noise.take(rows.tolist()).substream("apgd", restart))


__all__ = ["Apgd", "Maximum", "ascend", "checkpoints"]
