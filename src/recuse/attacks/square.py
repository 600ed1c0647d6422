"""Square attack: random search with square-shaped changes; it uses no gradient at all.

Gradient-free, so it also breaks models that hide their gradient. Every input draws its own
windows and signs, from its own noise, so that a result does not depend on the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Labels, Logits
from recuse.attacks.active import ActiveSet, Rows
from recuse.attacks.margins import Margin
from recuse.attacks.search import Problem, attack_batch
from recuse.attacks.verify import forward
from recuse.errors import ConfigError
from recuse.protocols import AscentLoss, Criterion
from recuse.random import SampleNoise
from recuse.results import AttackOutcome
from recuse.threat import Threat, expand_as, per_sample_l2

_TINY = 1e-12
_IMAGE_DIMENSIONS = 4
_PUBLISHED_QUERIES = 10_000
# Share of the pixels halves after so many of the published run's 10,000 queries.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_BLOCK = 100
"""Queries whose random numbers are drawn together."""


def window_share(query: int, queries: int, p_init: float) -> float:
    """Share of the pixels that a window covers at a query, on the published schedule.

    >>> [window_share(q, 10_000, 0.8) for q in (0, 11, 60)]
    [0.8, 0.4, 0.2]
    """
    at = query * _PUBLISHED_QUERIES // queries
    return float(p_init / 2 ** sum(at > h for h in _HALVINGS))


@dataclass(frozen=True)
class _Windows:
    """One window of ``side`` pixels per row, at ``top`` and ``left``."""

    top: Tensor
    left: Tensor
    side: int
    height: int
    width: int

    @classmethod
    def draw(cls, uniform: Tensor, side: int, images: Tensor) -> "_Windows":
        """Windows from two uniform numbers per row."""
        height, width = int(images.shape[2]), int(images.shape[3])
        top = (uniform[:, 0] * (height - side + 1)).long().clamp_(0, height - side)
        left = (uniform[:, 1] * (width - side + 1)).long().clamp_(0, width - side)
        return cls(top, left, side, height, width)

    def mask(self) -> Tensor:
        """``(batch, 1, height, width)``: the pixels inside."""
        rows = torch.arange(self.height, device=self.top.device) - self.top[:, None]
        cols = torch.arange(self.width, device=self.left.device) - self.left[:, None]
        inside_rows = (rows >= 0) & (rows < self.side)
        inside_cols = (cols >= 0) & (cols < self.side)
        inside: Tensor = inside_rows[:, :, None] & inside_cols[:, None, :]
        return inside.unsqueeze(1)

    def index(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Index of the pixels inside, ``(batch, channels, side, side)``."""
        device = images.device
        batch = torch.arange(len(images), device=device).view(-1, 1, 1, 1)
        channel = torch.arange(images.shape[1], device=device).view(1, -1, 1, 1)
        offset = torch.arange(self.side, device=device)
        rows = (self.top[:, None] + offset).view(-1, 1, self.side, 1)
        cols = (self.left[:, None] + offset).view(-1, 1, 1, self.side)
        return batch, channel, rows, cols


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0).to(uniform.dtype)


def _frobenius(v: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(v, dim=(-2, -1), keepdim=True)
    return norm


@cache
def _bump(side: int) -> tuple[tuple[float, ...], ...]:
    """The published L2 pattern: two opposite centred peaks, of unit norm, side by side."""
    half = side // 2
    pattern = torch.cat([_peak(half, side), -_peak(side - half, side)])
    pattern = pattern / pattern.norm()
    return tuple(tuple(float(v) for v in row) for row in pattern)


def _peak(height: int, width: int) -> Tensor:
    """Nested rectangles around the centre, the k-th adding 1 / k^2; of unit norm."""
    peak = torch.zeros(height, width)
    row, col = height // 2, width // 2
    for k in range(max(height // 2, width // 2) + 1):
        top, left = row - k, col - k
        peak[max(top, 0) : row + k + 1, max(left, 0) : col + k + 1] += 1.0 / (k + 1) ** 2
    unit: Tensor = peak / peak.norm().clamp_min(_TINY)
    return unit


def _bumps(uniform: Tensor, side: int, like: Tensor) -> Tensor:
    """One pattern per row, turned where ``uniform`` is above one half: ``(batch, 1, s, s)``."""
    bump = torch.tensor(_bump(side), dtype=like.dtype, device=like.device)
    turned = expand_as(uniform > 0.5, like)
    return torch.where(turned, bump.T.expand(1, 1, -1, -1), bump.expand(1, 1, -1, -1))


def _start_linf(x: Tensor, eps: float, uniform: Tensor) -> Tensor:
    """Vertical stripes of full strength."""
    channels, width = x.shape[1], x.shape[3]
    stripes = _signs(uniform[:, : channels * width]).view(-1, channels, 1, width)
    return x + eps * stripes


def _start_l2(x: Tensor, eps: float, uniform: Tensor) -> Tensor:
    """A grid of patterns, five by five if the image is large enough, of full strength."""
    channels, height, width = x.shape[1:]
    side = max(min(height, width) // 5, 1)
    delta = torch.zeros_like(x)
    margin, at = (min(height, width) - 5 * side) // 2 if min(height, width) >= 5 else 0, 0
    for top in range(margin, height - side + 1, side):
        for left in range(margin, width - side + 1, side):
            numbers = uniform[:, at : at + channels + 1]
            at += channels + 1
            signs = _signs(numbers[:, 1:]).view(-1, channels, 1, 1)
            patch = _bumps(numbers[:, 0], side, x) * signs
            delta[:, :, top : top + side, left : left + side] = patch
    return x + eps * delta / expand_as(per_sample_l2(delta).clamp_min(_TINY), delta)


def _propose_linf(x: Tensor, best: Tensor, eps: float, share: float, uniform: Tensor) -> Tensor:
    """Set one window to plus or minus eps, per channel."""
    channels, height, width = x.shape[1:]
    side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
    window = _Windows.draw(uniform, side, x)
    signs = _signs(uniform[:, 2 : 2 + channels]).view(-1, channels, 1, 1)
    return torch.where(window.mask(), x + eps * signs, best)


def _propose_l2(x: Tensor, best: Tensor, eps: float, share: float, uniform: Tensor) -> Tensor:
    """Move the budget of one window into a pattern in another, keeping the norm at eps."""
    channels, height, width = x.shape[1:]
    side = max(round(math.sqrt(share * height * width)), 3)
    side = min(side + (side % 2 == 0), height, width)
    to = _Windows.draw(uniform[:, :2], side, x)
    source = _Windows.draw(uniform[:, 2:4], side, x)
    delta = best - x
    union = to.mask() | source.mask()
    budget = _frobenius(delta * union)
    unused = (eps**2 - per_sample_l2(delta) ** 2).clamp_min(0) / channels
    here = delta[to.index(x)]
    signs = _signs(uniform[:, 5 : 5 + channels]).view(-1, channels, 1, 1)
    fresh = _bumps(uniform[:, 4], side, x) * signs + here / (_frobenius(here) + _TINY)
    scale = (expand_as(unused, x) + budget**2).sqrt()
    fresh = fresh / (_frobenius(fresh) + _TINY) * scale
    delta = delta.masked_fill(source.mask(), 0.0)
    delta[to.index(x)] = fresh
    return x + eps * delta / expand_as(per_sample_l2(delta).clamp_min(_TINY), delta)


def _random_start(x: Tensor, threat: Threat, noise: SampleNoise) -> Tensor:
    count = 2 * (x.shape[1] + 1) * x.shape[2] * x.shape[3]
    uniform = noise.substream("start").uniform(x.new_empty(len(x), count))
    return _START[threat.norm](x, threat.eps, uniform)


Propose = Callable[[Tensor, Tensor, float, float, Tensor], Tensor]
_START: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    "linf": _start_linf,
    "l2": _start_l2,
}
_PROPOSE: dict[str, Propose] = {"linf": _propose_linf, "l2": _propose_l2}


@dataclass(frozen=True)
class Square:
    """Square attack: gradient-free random search, for Linf and L2.

    Attributes:
        queries: Proposals per input and run.
        p_init: Share of the pixels that the first windows cover.
        loss: What a proposal must increase to be kept.
        restarts: Runs from different starts; later ones only on inputs not yet broken.

    Source: Andriushchenko et al., ECCV 2020.
    """

    queries: int = 1000
    p_init: float = 0.8
    loss: AscentLoss = field(default_factory=Margin)
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.queries < 1 or self.restarts < 1:
            raise ConfigError("the square attack needs at least one query and one restart")
        if not 0 < self.p_init <= 1:
            raise ConfigError(f"square attack: p_init {self.p_init} must lie in (0, 1]")

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
        """Attack a batch of images (NCHW); see :class:`recuse.protocols.Attack`.

        Raises:
            ConfigError: The inputs are not images.
        """
        if x.dim() != _IMAGE_DIMENSIONS:
            raise ConfigError(
                f"the square attack needs images (NCHW), got inputs of shape {tuple(x.shape[1:])}; "
                "use apgd or pgd"
            )
        streams: list[SampleNoise] = []

        def starts(restart: int, rows: Rows) -> Tensor:
            streams.append(noise.take(rows.tolist()).substream("square", restart))
            if start is not None and restart == 0:
                return start[rows]
            return _random_start(x[rows], threat, streams[-1])

        def run(problem: Problem, first: Images, active: ActiveSet) -> None:
            self._run(problem, first, active, streams[-1])

        return attack_batch(
            model,
            x,
            y,
            threat,
            loss=self.loss,
            run=run,
            starts=starts,
            restarts=self.restarts,
            criterion=criterion,
            clean_logits=clean_logits,
        )

    def _run(self, problem: Problem, start: Images, active: ActiveSet, noise: SampleNoise) -> None:
        threat, x = problem.threat, problem.x[active.rows]
        best = threat.project(start, x)
        order = torch.arange(len(x), device=x.device)
        highest, block = x.new_full((len(x),), -torch.inf), x.new_empty(0)
        for query in range(self.queries + 1):
            trial = best
            if query > 0:
                if (query - 1) % _BLOCK == 0:
                    like = x.new_empty(len(noise.ids), _BLOCK, 5 + x.shape[1])
                    block = noise.substream("queries", query).uniform(like)
                share = window_share(query - 1, self.queries, self.p_init)
                uniform = block[order, (query - 1) % _BLOCK]
                trial = _PROPOSE[threat.norm](x, best, threat.eps, share, uniform)
                trial = threat.project(trial, x)
            logits = forward(problem.model, trial)
            active.spend(forwards=1)
            value = problem.value(logits, active.rows)
            active.look_at(value)
            hit = problem.hits(trial, logits, active.rows)
            better = (value > highest) | hit
            best = torch.where(expand_as(better, best), trial, best)
            highest = torch.where(better, value, highest)
            keep = active.settle(trial, hit, query, last=query == self.queries)
            if keep is not None:
                x, best, highest, order = x[keep], best[keep], highest[keep], order[keep]
            if len(active.rows) == 0:
                return
        active.keep_best(best)


__all__ = ["Square", "window_share"]
