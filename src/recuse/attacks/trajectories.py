"""The state of Auto-PGD, one trajectory per row: where it is, where it was best, how it goes."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from recuse.arrays import Images, PerSample
from recuse.threat import Threat, expand_as

MOMENTUM = 0.75
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


@dataclass
class Trajectories:
    """One trajectory per row; images first, numbers after. Images share one memory layout.

    Attributes:
        x: Centre of the ball.
        x_adv: Current iterate.
        x_old: The iterate before.
        x_best: The iterate of highest value.
        grad: Gradient at the current iterate.
        grad_best: Gradient at the best one.
        step_size: Current step, in the threat's norm.
        best: Highest value.
        previous: Value of the iterate before.
        rises: Steps since the last review whose value rose.
        best_at_review: Highest value at the last review.
        reduced: The last review halved the step.
    """

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
    _project: Callable[[Tensor], Tensor] | None = field(default=None, init=False, repr=False)

    @classmethod
    def begin(
        cls, x: Images, x_adv: Images, value: PerSample, grad: Images, eps: float
    ) -> "Trajectories":
        """Trajectories at their first iterate, evaluated."""
        # The published code compares its first step with a row of zeros, not with the value at
        # the start; with ``previous = 0`` the count of rises is the same.
        zeros = torch.zeros_like(value)
        # Elementwise steps over two memory layouts are slow: all images take the gradient's.
        x_adv = torch.empty_like(grad).copy_(x_adv)
        return Trajectories(
            x=torch.empty_like(grad).copy_(x),
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

    def __len__(self) -> int:
        return len(self.best)

    def take(self, keep: Tensor) -> "Trajectories":
        """The trajectories at ``keep``, in that order."""
        return Trajectories(*(tensor[keep] for tensor in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, f.name) for f in fields(self) if f.name != "_project"]

    def joined(self, other: "Trajectories") -> "Trajectories":
        """These trajectories and then the others."""
        pairs = zip(self._tensors(), other._tensors(), strict=True)
        return Trajectories(*(torch.cat(pair) for pair in pairs))

    def move(self, threat: Threat, momentum: float | Tensor) -> Images:
        """The next iterate: a projected gradient step, averaged with the last displacement.

        Args:
            threat: The ball.
            momentum: Weight of the gradient step, 1 in the first step; one number, or one per
                row in the shape of the images.
        """
        if self._project is None:
            self._project = threat.projector(self.x)
        step = threat.ascent_direction(self.grad)
        x_next = step.mul_(expand_as(self.step_size, step)).add_(self.x_adv)
        x_next = self._project(x_next)
        # x + a(z - x) + (1 - a)(x - x_old), collected by point
        if isinstance(momentum, Tensor):
            x_next.mul_(momentum).addcmul_(self.x_adv, 2 - 2 * momentum)
            x_next = self._project(x_next.addcmul_(self.x_old, momentum - 1))
        elif momentum < 1:
            x_next.mul_(momentum).add_(self.x_adv, alpha=2 - 2 * momentum)
            x_next = self._project(x_next.sub_(self.x_old, alpha=1 - momentum))
        self.x_old, self.x_adv = self.x_adv, x_next
        return x_next

    def observe(self, value: PerSample, grad: Images) -> None:
        """Compare the current iterate's value with the best and with the last one."""
        self.grad = grad
        better = value > self.best
        where = expand_as(better, self.x_adv)
        torch.where(where, self.x_adv, self.x_best, out=self.x_best)
        torch.where(where, grad, self.grad_best, out=self.grad_best)
        self.best = torch.maximum(value, self.best)
        self.rises += value > self.previous
        self.previous = value

    def review(self, window: int | Tensor, rho: float, due: Tensor | None = None) -> None:
        """Halve the step and return to the best point where a window brought too little.

        Args:
            window: Steps since the last review, one number or one per row.
            rho: Share of them that must have risen.
            due: Which rows are reviewed; all if absent.
        """
        stalled = self.rises <= rho * window
        stuck = ~self.reduced & (self.best_at_review >= self.best)
        halve = stalled | stuck
        if due is None:
            self.reduced, self.best_at_review = halve, self.best.clone()
            self.rises = torch.zeros_like(self.rises)
        else:
            halve &= due
            self.reduced = torch.where(due, halve, self.reduced)
            self.best_at_review = torch.where(due, self.best, self.best_at_review)
            self.rises = self.rises.masked_fill(due, 0)
        self.step_size = torch.where(halve, self.step_size / 2, self.step_size)
        where = expand_as(halve, self.x_adv)
        self.x_adv = torch.where(where, self.x_best, self.x_adv)
        self.grad = torch.where(where, self.grad_best, self.grad)


__all__ = ["MOMENTUM", "Trajectories", "checkpoints"]
