"""Differentiable stand-ins for "stable over a ball", for adaptive adversaries.

Their sign is the selector's decision: above 0 where the score is above the threshold.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits, PerSample
from recuse.attacks.margins import logit_of, margin, without_class
from recuse.attacks.search import slope
from recuse.random import SampleNoise
from recuse.threat import Threat

LogitValue = Callable[[Logits, Labels], PerSample]
# The smallest probability that single precision rounds to 1.
LARGEST_BELOW_ONE = 1 - 2**-25


@dataclass(frozen=True)
class InnerSearch:
    """The search inside an adversary's surrogate of the indicator.

    Attributes:
        steps: Gradient steps to the worst point of the ball.
        restarts: Starts, of which the worst counts; the first is the centre.
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
    threshold: float = 0.0,
) -> PerSample:
    """How far the smallest margin of ``labels`` over the ball is above ``threshold``.

    Above 0 exactly where the smallest probability margin is: see :func:`margin_above`.
    """
    value = partial(margin_above, threshold=threshold)
    return smallest_in_ball(model, x, labels, threat, value, noise=noise, search=search)


def smallest_in_ball(
    model: nn.Module,
    x: Images,
    labels: Labels,
    threat: Threat,
    value: LogitValue,
    *,
    noise: SampleNoise,
    search: InnerSearch,
) -> PerSample:
    """Smallest value that a search finds over the ball around ``x``, differentiable in ``x``."""
    worst = worst_points(model, x, labels, threat, value, noise=noise, search=search)
    return torch.stack([value(model(point), labels) for point in worst]).amin(0)


def worst_points(
    model: nn.Module,
    x: Images,
    labels: Labels,
    threat: Threat,
    value: LogitValue,
    *,
    noise: SampleNoise,
    search: InnerSearch,
) -> list[Images]:
    """Where a search for the smallest value of the ball ends, one batch of points per start.

    The offsets from ``x`` are searched with the gradient off and then held fixed, which gives
    the gradient of the minimum (Danskin).

    Args:
        model: Classifier.
        x: Centres of the balls.
        labels: Reference labels of ``value``.
        threat: The ball.
        value: What shall be small.
        noise: Of the starts after the first.
        search: Steps and starts.
    """
    found = []
    for restart in range(search.restarts):
        with torch.no_grad():
            centre = x.detach()
            worst = (
                threat.random_start(centre, noise.substream("inner", restart))
                if restart
                else centre
            )
        for _ in range(search.steps):
            worst = _descend(model, worst, centre, labels, threat, value, search.step_size)
        found.append(x + (worst - centre))
    return found


def margin_above(logits: Logits, labels: Labels, *, threshold: float) -> PerSample:
    """Positive exactly where ``p_y - max_other p`` exceeds a threshold; never saturates.

    With j the best other class, ``p_y - p_j >= tau`` says that ``(1 - tau) e^{z_y}`` reaches
    ``(1 + tau) e^{z_j} + tau sum_{k != y, j} e^{z_k}``: the difference of the logarithms of both
    sides. At threshold 0 it is the logit margin.
    """
    if threshold == 0:
        return -margin(logits, labels)
    tau = min(threshold, LARGEST_BELOW_ONE)
    others = without_class(logits, labels)
    best = others.detach().argmax(1, keepdim=True)
    weights = torch.full_like(logits, math.log(tau)).scatter(1, best, math.log1p(tau))
    return logit_of(logits, labels) + math.log1p(-tau) - (others + weights).logsumexp(1)


def _descend(
    model: nn.Module,
    x: Tensor,
    centre: Tensor,
    labels: Labels,
    threat: Threat,
    value: LogitValue,
    step: float,
) -> Tensor:
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        grad = slope(-value(model(point), labels), point)
    with torch.no_grad():
        moved = point + step * threat.eps * threat.ascent_direction(grad)
        return threat.project(moved, centre)
