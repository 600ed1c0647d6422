"""Two ways to move a batch towards a goal: along gradients, or by random patches."""

import torch
from torch import Tensor

from recuse.arrays import Images, Labels
from recuse.attacks.search import slope
from recuse.composition.cascade import Cascade
from recuse.composition.goals import Goal, scored_terms, surrogate_terms
from recuse.random import SampleNoise
from recuse.threat import Threat, expand_as, per_sample_l2

_TINY = 1e-12
_LEAST, _MOST = 0.03, 1e3
_FAR = 1e30
_IMAGE = 4


def ascend(
    cascade: Cascade,
    goal: Goal,
    x: Images,
    y: Labels,
    *,
    start: Images,
    noise: SampleNoise,
    steps: int,
    aim: Labels | None = None,
) -> Images:
    """Push a batch towards a goal by gradients; the point whose worst term is best.

    The terms come from different networks on different scales: each is measured by its first
    value and its reach, see :func:`_reach`. Each step follows the unit gradients of the terms not
    yet met, or of the smallest one when all are, with a step that shrinks from the radius to a
    tenth of it. Guides steer and are not asked for.
    """
    threat = cascade.budget
    x_adv = threat.project(start, x)
    best, best_value = x_adv.clone(), x.new_full((len(x),), float("-inf"))
    scale: Tensor | None = None
    for step in range(steps + 1):
        with torch.enable_grad():
            leaf = x_adv.detach().requires_grad_()
            inner = noise.substream("step", step)
            terms = surrogate_terms(cascade, goal, leaf, y, noise=inner, aim=aim)
            if not terms.wanted:
                return x_adv
            every = [*terms.wanted, *terms.guides]
            # A selector that always answers is infinitely far from abstaining.
            values = torch.stack([v.detach() for v in every]).clamp(-_FAR, _FAR)
            slopes = [] if step == steps else [slope(v, leaf, retain_graph=True) for v in every]
            grads = [g / expand_as(per_sample_l2(g).clamp_min(_TINY), g) for g in slopes]
            if scale is None:
                scale = _reach(slopes, threat) + values.abs()
        worst = (values / scale)[: len(terms.wanted)].amin(0)
        better = worst > best_value
        best_value = torch.maximum(best_value, worst)
        best = torch.where(expand_as(better, x), x_adv, best)
        if step < steps:
            size = threat.eps * max(1 - step / steps, 0.1)
            direction = _combined(grads, values / scale)
            x_adv = threat.project(x_adv + size * threat.ascent_direction(direction), x)
    return best


def _reach(slopes: list[Tensor], threat: Threat) -> Tensor:
    """How far each term can move in the ball, by its slope; 1 where that is of an ordinary size.

    Multiplying a network's logits by a number multiplies its terms, their slopes and their reach.
    """
    moves = [threat.eps * (threat.ascent_direction(g) * g).flatten(1).sum(1) for g in slopes]
    reach = torch.stack(moves)
    ordinary = (reach > _LEAST) & (reach < _MOST) | (reach == 0)
    return torch.where(ordinary, 1.0, reach)


def _combined(grads: list[Tensor], values: Tensor) -> Tensor:
    wanted = (values <= 0) | (values == values.amin(0))
    return sum(
        (
            grad * expand_as(want.to(grad.dtype), grad)
            for grad, want in zip(grads, wanted, strict=True)
        ),
        start=torch.zeros_like(grads[0]),
    )


@torch.no_grad()
def random_search(
    cascade: Cascade,
    goal: Goal,
    x: Images,
    y: Labels,
    *,
    noise: SampleNoise,
    deployed: SampleNoise,
    queries: int,
) -> Images:
    """Random search towards a goal on the selectors' own scores; needs no gradient.

    Each proposal moves a random patch of the current point to the border of the ball and is
    kept where the worst term does not fall; patches shrink from a half to a twentieth of the
    input.

    Args:
        cascade: The composition.
        goal: What to reach.
        x: Centres of the balls.
        y: True labels.
        noise: Randomness of the proposals.
        deployed: Randomness of the selectors as deployed.
        queries: Proposals.
    """
    threat = cascade.budget
    best = threat.random_start(x, noise)
    scale: Tensor | None = None
    best_value = x.new_full((len(x),), float("-inf"))
    for query in range(queries):
        share = 0.5 * 0.1 ** (query / queries)
        proposal = (
            _moved(best, x, threat, noise.substream("patch", query), share) if query else best
        )
        terms = torch.stack(scored_terms(cascade, goal, proposal, y, noise=deployed))
        scale = 1 + terms.abs() if scale is None else scale
        value = (terms / scale).amin(0)
        keep = value >= best_value
        best_value = torch.where(keep, value, best_value)
        best = torch.where(expand_as(keep, x), proposal, best)
    return best


def _moved(best: Images, x: Images, threat: Threat, noise: SampleNoise, share: float) -> Images:
    direction = noise.normal(x)
    if x.dim() == _IMAGE:
        height, width = x.shape[2:]
        side = max(1, round((share * height * width) ** 0.5))
        corner = noise.substream("corner").uniform(x[:, 0, 0, :2])
        top, left = (
            (corner[:, i] * (n - min(side, n) + 1)).long() for i, n in ((0, height), (1, width))
        )
        inside = _within(height, top, side)[:, :, None] & _within(width, left, side)[:, None, :]
        direction = direction[:, :, :1, :1] * inside[:, None].to(x.dtype)
    else:
        direction = direction * (noise.substream("mask").uniform(x) < max(share, 1 / x[0].numel()))
    return threat.project(best + 2 * threat.eps * threat.ascent_direction(direction), x)


def _within(length: int, first: Tensor, size: int) -> Tensor:
    place = torch.arange(length, device=first.device)
    return (place >= first[:, None]) & (place < first[:, None] + size)


__all__ = ["ascend", "random_search"]
