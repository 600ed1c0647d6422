"""Projected gradient ascent: the inner loop of adversarial training, and an attack."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks.active import ActiveSet, Rows
from recuse.attacks.margins import CrossEntropy
from recuse.attacks.search import Problem, attack_batch, input_gradient
from recuse.attacks.verify import forward
from recuse.errors import ConfigError
from recuse.protocols import AscentLoss, Criterion
from recuse.random import SampleNoise
from recuse.results import AttackOutcome
from recuse.threat import Threat


def pgd(
    model: nn.Module,
    x: Images,
    threat: Threat,
    objective: Callable[[Logits], PerSample],
    *,
    steps: int,
    step_size: float,
    start: Images,
) -> Images:
    """The last iterate of projected gradient ascent on ``objective``.

    Costs ``steps`` forward passes and as many backward passes to the input; the weights'
    gradients are neither computed nor touched.

    Args:
        model: The classifier, in the mode the caller chose.
        x: Centre of the ball.
        threat: The ball.
        objective: Value per sample from the logits at the perturbed inputs. A closure holds
            what the value is measured against (labels, clean probabilities, a step counter).
        steps: Number of gradient steps.
        step_size: Length of a step in the threat's norm.
        start: First iterate; it is projected before use.

    Returns:
        The perturbed inputs, detached.

    Source: Madry et al., ICLR 2018.
    """
    x = x.detach()
    x_adv = threat.project(start.detach(), x)
    for _ in range(steps):
        _, _, grad = input_gradient(model, x_adv, objective)
        x_adv = threat.project(x_adv + step_size * threat.ascent_direction(grad), x)
    return x_adv


@dataclass(frozen=True)
class Pgd:
    """Projected gradient descent as a strategy: settings of training, and an attack.

    As an attack it keeps the first adversarial iterate of each input and stops working on it.

    Attributes:
        steps: Gradient steps of each run.
        step_size_relative: Step length as a fraction of the radius.
        loss: What to ascend when used as an attack.
        restarts: Runs; later ones only on inputs not yet broken.
        random_start: Begin at a random point of the ball instead of at the input.
    """

    steps: int = 10
    step_size_relative: float = 0.25
    loss: AscentLoss = field(default_factory=CrossEntropy)
    restarts: int = 1
    random_start: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ConfigError("PGD needs at least one step and one restart")
        if not self.step_size_relative > 0:
            raise ConfigError(f"PGD step size {self.step_size_relative} must be above 0")

    def begin(self, x: Images, threat: Threat, noise: SampleNoise) -> Images:
        """The first iterate of a run."""
        return threat.random_start(x, noise) if self.random_start else x.clone()

    def perturb(
        self,
        model: nn.Module,
        x: Images,
        threat: Threat,
        objective: Callable[[Logits], PerSample],
        *,
        noise: SampleNoise,
        start: Images | None = None,
    ) -> Images:
        """The last iterate of one run on any objective: the training attack.

        ``start`` replaces the random start. See :func:`pgd` for the rest.
        """
        return pgd(
            model,
            x,
            threat,
            objective,
            steps=self.steps,
            step_size=self.step_size_relative * threat.eps,
            start=self.begin(x, threat, noise) if start is None else start,
        )

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

        ``clean_logits``, the logits at ``x``, save the pass that tests the input itself.
        """

        def starts(restart: int, rows: Rows) -> Tensor:
            if start is not None and restart == 0:
                return start[rows]
            return self.begin(x[rows], threat, noise.take(rows.tolist()).substream("pgd", restart))

        return attack_batch(
            model,
            x,
            y,
            threat,
            loss=self.loss,
            run=self._run,
            starts=starts,
            restarts=self.restarts,
            criterion=criterion,
            clean_logits=clean_logits,
        )

    def _run(self, problem: Problem, start: Images, active: ActiveSet) -> None:
        threat, centre = problem.threat, problem.x[active.rows]
        x_adv = threat.project(start, centre)
        length = self.step_size_relative * threat.eps
        for step in range(self.steps):
            rows = active.rows
            logits, value, grad = input_gradient(
                problem.model, x_adv, partial(problem.value, rows=rows)
            )
            active.spend(forwards=1, backwards=1)
            active.look_at(value, grad)
            keep = active.settle(x_adv, problem.hits(x_adv, logits, rows), step)
            if keep is not None:
                centre, x_adv, grad = centre[keep], x_adv[keep], grad[keep]
            if len(active.rows) == 0:
                return
            x_adv = threat.project(x_adv + length * threat.ascent_direction(grad), centre)
        logits = forward(problem.model, x_adv)
        active.spend(forwards=1)
        keep = active.settle(x_adv, problem.hits(x_adv, logits, active.rows), self.steps, last=True)
        active.keep_best(x_adv if keep is None else x_adv[keep])


__all__ = ["Pgd", "pgd"]
