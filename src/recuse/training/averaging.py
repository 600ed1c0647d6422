"""Averages of weights along the training path; the average is what is validated and kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from recuse.errors import ConfigError

State = dict[str, Tensor]


@runtime_checkable
class WeightAverage(Protocol):
    """When the average takes in the current weights, and how much of them."""

    def weight(self, taken: int, progress: float, *, epoch_end: bool) -> float:
        """Share of the current weights in the new average; 0 leaves the average alone.

        Args:
            taken: Times weights were taken in before.
            progress: Share of training done.
            epoch_end: The step was the last of an epoch.
        """
        ...


@dataclass(frozen=True)
class NoAverage:
    """Keep the last weights as they are."""

    def weight(self, taken: int, progress: float, *, epoch_end: bool) -> float:
        """Always the current weights."""
        return 1.0


@dataclass(frozen=True)
class Ema:
    """Exponential moving average after every step.

    Attributes:
        decay: Share of the old average that stays; the first steps use less, so that the
            initial weights are forgotten as fast as in a plain mean.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"EMA decay {self.decay} must be in [0, 1), for example 0.999")

    def weight(self, taken: int, progress: float, *, epoch_end: bool) -> float:
        """``1 - min(decay, (1 + n) / (10 + n))`` after ``n`` steps."""
        return 1 - min(self.decay, (1 + taken) / (10 + taken))


@dataclass(frozen=True)
class Swa:
    """Stochastic weight averaging: the plain mean of the weights at the end of late epochs.

    Attributes:
        start: Share of training that is done when the first weights are taken.

    Source: Izmailov et al., UAI 2018.
    """

    start: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise ConfigError(f"SWA start {self.start} must be a share of training in [0, 1]")

    def weight(self, taken: int, progress: float, *, epoch_end: bool) -> float:
        """The current weights until ``start``, then ``1 / (n + 1)`` at the end of each epoch."""
        if progress <= self.start:
            return 1.0
        return 1 / (taken + 1) if epoch_end else 0.0


AVERAGES: dict[str, type[WeightAverage]] = {"none": NoAverage, "ema": Ema, "swa": Swa}


class Averager:
    """The running average of one network's weights and floating-point statistics.

    Batch-norm statistics are averaged like the weights; integer counters follow the network.

    Args:
        rule: When and how much to take in.
        network: The network being trained.
    """

    def __init__(self, rule: WeightAverage, network: nn.Module) -> None:
        self.rule, self.taken = rule, 0
        self._state: State | None = None
        if not isinstance(rule, NoAverage):
            self._state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, progress: float, *, epoch_end: bool) -> None:
        """Take in the network's weights after a step, as much as the rule says."""
        if self._state is None:
            return
        weight = self.rule.weight(self.taken, progress, epoch_end=epoch_end)
        if weight == 0:
            return
        self.taken = 1 if weight == 1.0 else self.taken + 1
        pairs = [(self._state[name], now) for name, now in network.state_dict().items()]
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        # Together: a GPU would wait for each of hundreds of small operations to be asked for.
        torch._foreach_lerp_([kept for kept, _ in floating], [now for _, now in floating], weight)
        for kept, now in pairs:
            if not kept.is_floating_point():
                kept.copy_(now)

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint needs."""
        return {"taken": self.taken, "state": self._state}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        """Go on where :meth:`state_dict` left off."""
        taken, state = saved["taken"], saved["state"]
        assert isinstance(taken, int)
        self.taken = taken
        if self._state is not None:
            assert isinstance(state, dict)
            for name, value in state.items():
                self._state[name].copy_(value)

    def averaged(self, network: nn.Module) -> State:
        """The averaged state, or the network's own where nothing is averaged."""
        return network.state_dict() if self._state is None else self._state


@contextmanager
def swapped(network: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Run a block with other weights in the network, then put its own back."""
    own = {k: v.detach().clone() for k, v in network.state_dict().items()}
    network.load_state_dict(state)
    try:
        yield
    finally:
        network.load_state_dict(own)
