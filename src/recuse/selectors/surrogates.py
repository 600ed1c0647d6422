"""A differentiable stand-in for "the label is stable over a ball", for adaptive adversaries."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, PerSample
from recuse.attacks.margins import margin
from recuse.random import SampleNoise
from recuse.threat import Threat


@dataclass(frozen=True)
class InnerSearch:
    """The search inside an adversary's surrogate of the indicator.

    Attributes:
        steps: Gradient steps to the worst point of the ball.
        restarts: Starts averaged over; the first is the centre.
        step_size: Relative to the ball's radius.
    """

    steps: int = 5
    restarts: int = 1
    step_size: float = 0.5


def worst_margin(
    model: nn.Module,
    x: Images,
    labels: Labels,
    threat: Threat,
    *,
    noise: SampleNoise,
    search: InnerSearch,
) -> PerSample:
    """Smallest margin of ``labels`` over the ball around ``x``, differentiable in ``x``.

    The worst offsets are searched with the gradient off and then held fixed, which gives the
    gradient of the minimum (Danskin). Averaged over restarts.
    """
    total = x.new_zeros(len(x))
    for restart in range(search.restarts):
        with torch.no_grad():
            centre = x.detach()
            worst = (
                threat.random_start(centre, noise.substream("inner", restart))
                if restart
                else centre
            )
        for _ in range(search.steps):
            worst = _towards_other(model, worst, centre, labels, threat, search.step_size)
        total = total - margin(model(x + (worst - centre)), labels)
    return total / search.restarts


def _towards_other(
    model: nn.Module, x: Tensor, centre: Tensor, labels: Labels, threat: Threat, step: float
) -> Tensor:
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        (grad,) = torch.autograd.grad(margin(model(point), labels).sum(), point)
    with torch.no_grad():
        moved = point + step * threat.eps * threat.ascent_direction(grad)
        return threat.project(moved, centre)
