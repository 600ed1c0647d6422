"""The robustness indicator over a stream of inputs, with the batch kept full.

Each input is decided as soon as it can be: the clean pass gives its label, an adversarial point
ends its search at once, and only robust inputs take every step of Auto-PGD. Slots that become
free are refilled from the stream, so the network always sees batches of nearly one size.
Rows of one batch are therefore at different steps; each keeps its own clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from recuse.attacks.active import not_finite, require_gradients, total_size
from recuse.attacks.apgd import Apgd
from recuse.attacks.binding import TargetedLoss, at_temperature, temperature
from recuse.attacks.search import input_gradient
from recuse.attacks.trajectories import MOMENTUM, Trajectories, checkpoints
from recuse.attacks.verify import evaluation_mode, forward, require_precision
from recuse.errors import ConfigError
from recuse.random import SampleNoise
from recuse.threat import Threat, expand_as


@dataclass(frozen=True)
class Decision:
    """What the indicator says about one input.

    Attributes:
        sample_id: The input's id.
        label: The classifier's answer F(x).
        robust: The ball was searched and no other label was found: select. Otherwise abstain.
        forwards: Forward passes spent.
        backwards: Backward passes to the input spent.
        judged: Another label was found, or there was a gradient to search with; without one an
            input is not robust, and nothing is known of it.
    """

    sample_id: str
    label: int
    robust: bool
    forwards: int
    backwards: int
    judged: bool = True


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is worked on.

    Attributes:
        slots: Inputs under attack at a time.
        refill: Take new inputs when so many slots are free (all of them at the end).
        seed: Of the random starts, together with each input's id.
        stream: Names the noise, as in :class:`recuse.random.SampleNoise`.
    """

    slots: int = 64
    refill: int = 8
    seed: int = 0
    stream: str = "indicator"

    def __post_init__(self) -> None:
        if not 1 <= self.refill <= self.slots:
            raise ConfigError(
                f"refill {self.refill} must lie between 1 and the number of slots, {self.slots}"
            )


@dataclass
class _Pool:
    """The inputs under attack: trajectories, labels, temperatures, steps made, gradients met."""

    paths: Trajectories
    labels: Tensor
    temperatures: Tensor
    clean: Tensor
    clock: Tensor
    undefined: Tensor
    followed: Tensor
    ids: list[str]

    def changed(self, logits: Tensor) -> Tensor:
        """Which rows have another label; after a step without a gradient a point can be NaN."""
        return (logits.argmax(1) != self.labels) & ~not_finite(self.paths.x_adv)

    def searched(self, last: Tensor) -> Tensor:
        """Which rows a gradient led above their clean value; ``last`` is that of the last point."""
        return self.followed & (torch.maximum(self.paths.best, last) > self.clean)

    def take(self, keep: Tensor) -> "_Pool":
        ids = [self.ids[i] for i in keep.tolist()]
        return _Pool(
            self.paths.take(keep),
            self.labels[keep],
            self.temperatures[keep],
            self.clean[keep],
            self.clock[keep],
            self.undefined[keep],
            self.followed[keep],
            ids,
        )

    def joined(self, other: "_Pool") -> "_Pool":
        return _Pool(
            self.paths.joined(other.paths),
            torch.cat([self.labels, other.labels]),
            torch.cat([self.temperatures, other.temperatures]),
            torch.cat([self.clean, other.clean]),
            torch.cat([self.clock, other.clock]),
            torch.cat([self.undefined, other.undefined]),
            torch.cat([self.followed, other.followed]),
            self.ids + other.ids,
        )


def decide_stream(
    model: nn.Module,
    inputs: Iterable[tuple[str, Tensor]],
    threat: Threat,
    *,
    attack: Apgd,
    settings: StreamSettings,
) -> Iterator[Decision]:
    """Decide for every input of a stream whether its label is stable over the ball.

    Strength is that of ``attack`` on each input, with the same random starts.

    Args:
        model: The classifier, on the device to compute on; put in eval mode while it runs.
        inputs: Pairs of a stable id and one image, without a batch dimension.
        threat: The indicator's ball.
        attack: Auto-PGD with one run; its steps, loss and rho.
        settings: Number of slots and seed.

    Yields:
        One decision per input, in the order in which they are reached.

    Raises:
        ConfigError: An attack with more than one run or with a targeted loss, or images in half
            precision.
        DataError: An input could not be searched, because its gradient is not finite.
    """
    if attack.restarts != 1:
        raise ConfigError("a stream is decided by one run per input; use Apgd(restarts=1)")
    if isinstance(attack.loss, TargetedLoss):
        raise ConfigError(
            "a stream is decided without targets, which a targeted loss chooses once per input; "
            "use the cross-entropy or Dlr(), or attack in batches"
        )
    engine = _Engine(model, threat, attack, settings)
    source = iter(inputs)
    pool: _Pool | None = None
    with evaluation_mode(model):
        while True:
            free = settings.slots - (len(pool.ids) if pool else 0)
            fresh = list(islice(source, free)) if free >= settings.refill or pool is None else []
            if pool is None and not fresh:
                return
            pool, decisions = engine.advance(pool, fresh)
            yield from decisions


@dataclass(frozen=True)
class _Engine:
    model: nn.Module
    threat: Threat
    attack: Apgd
    settings: StreamSettings

    def advance(
        self, pool: _Pool | None, fresh: list[tuple[str, Tensor]]
    ) -> tuple[_Pool | None, list[Decision]]:
        """One step of every row: the rows at their end decided, new ones admitted."""
        pool, decisions = self._without_gradient(pool, fresh)
        if pool is None or len(pool.ids) == 0:
            return None, decisions
        logits, value, grad = input_gradient(
            self.model, pool.paths.x_adv, partial(self._value, pool)
        )
        changed = pool.changed(logits)
        decisions += self._decided(pool, changed, robust=False)
        if bool(changed.any()):
            keep = (~changed).nonzero().squeeze(1)
            pool, value, grad = pool.take(keep), value[keep], grad[keep]
        size = total_size(grad)
        pool.undefined |= ~size.isfinite()
        pool.followed |= size > 0
        if len(pool.ids) == 0:
            return None, decisions
        self._step(pool, value, grad)
        return pool, decisions

    def _without_gradient(
        self, pool: _Pool | None, fresh: list[tuple[str, Tensor]]
    ) -> tuple[_Pool | None, list[Decision]]:
        """One forward pass for the last evaluation of some rows and the clean one of others."""
        last = _rows(pool.clock == self.attack.steps) if pool is not None else None
        ending = pool.take(last) if pool is not None and last is not None and len(last) else None
        parts = [ending.paths.x_adv] if ending is not None else []
        if fresh:
            device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
            parts.append(torch.stack([image for _, image in fresh]).to(device))
            require_precision(parts[-1])
        if not parts:
            return pool, []
        logits = forward(self.model, torch.cat(parts))
        decisions: list[Decision] = []
        if ending is not None and pool is not None:
            reached = logits[: len(ending.ids)]
            changed = ending.changed(reached)
            decisions += self._decided(ending, changed, robust=False)
            require_gradients(ending.undefined & ~changed)
            searched = ending.searched(self._value(ending, reached))
            decisions += self._decided(ending, ~changed & searched, robust=True)
            decisions += self._decided(ending, ~changed & ~searched, robust=False, judged=False)
            pool = pool.take(_rows(pool.clock < self.attack.steps))
        if fresh:
            admitted = self._admit(parts[-1], logits[-len(fresh) :], fresh)
            pool = admitted if pool is None else pool.joined(admitted)
        return pool, decisions

    def _admit(self, x: Tensor, logits: Tensor, fresh: list[tuple[str, Tensor]]) -> _Pool:
        ids = [sample_id for sample_id, _ in fresh]
        noise = SampleNoise(self.settings.seed, tuple(ids), self.settings.stream)
        start = self.threat.random_start(x, noise.substream("apgd", 0))
        unknown = x.new_full((len(x),), -torch.inf)
        labels, none = logits.argmax(1), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        temperatures = temperature(self.attack.loss, logits)
        return _Pool(
            Trajectories.begin(x, start, unknown, torch.zeros_like(x), self.threat.eps),
            labels,
            temperatures,
            at_temperature(self.attack.loss, logits, labels, temperatures),
            torch.zeros_like(labels),
            none,
            none.clone(),
            ids,
        )

    def _value(self, pool: _Pool, logits: Tensor) -> Tensor:
        """What the rows of a pool ascend."""
        return at_temperature(self.attack.loss, logits, pool.labels, pool.temperatures)

    def _step(self, pool: _Pool, value: Tensor, grad: Tensor) -> None:
        """Note the value of each row's current iterate and move it to the next."""
        paths, first = pool.paths, pool.clock == 0
        paths.observe(value, grad)
        momentum: float | Tensor = MOMENTUM
        if bool(first.any()):
            paths.rises.masked_fill_(first, 0)
            paths.previous = value.masked_fill(first, 0)
            paths.best_at_review = torch.where(first, value, paths.best_at_review)
            momentum = expand_as(torch.where(first, 1.0, MOMENTUM).to(value.dtype), paths.x)
        window = self._windows(value)[pool.clock]
        if bool((window > 0).any()):
            paths.review(window, self.attack.rho, window > 0)
        paths.move(self.threat, momentum)
        pool.clock += 1

    def _windows(self, like: Tensor) -> Tensor:
        """Per step, the length of the window that a review after it closes; 0 without a review."""
        reviews = checkpoints(self.attack.steps)
        windows = like.new_zeros(self.attack.steps + 1)
        windows[list(reviews)] = like.new_tensor(
            [at - before for before, at in zip((0, *reviews), reviews, strict=False)]
        )
        return windows

    def _decided(
        self, pool: _Pool, which: Tensor, *, robust: bool, judged: bool = True
    ) -> list[Decision]:
        found = []
        for row in _rows(which).tolist():
            steps = int(pool.clock[row])
            found.append(
                Decision(
                    sample_id=pool.ids[row],
                    label=int(pool.labels[row]),
                    robust=robust,
                    forwards=steps + 2,
                    backwards=min(steps + 1, self.attack.steps),
                    judged=judged,
                )
            )
        return found


def _rows(mask: Tensor) -> Tensor:
    return mask.nonzero().squeeze(1)


__all__ = ["Decision", "StreamSettings", "decide_stream"]
