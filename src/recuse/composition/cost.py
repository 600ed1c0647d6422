"""What a composition spends: network passes counted where they happen, and the expectation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Passes:
    """Rows sent through networks, filled while :func:`counted` is open.

    Attributes:
        forwards: Rows of all forward passes.
        backwards: Rows of all backward passes that reached a network's output.
    """

    forwards: int = 0
    backwards: int = 0

    @property
    def total(self) -> int:
        """Forward and backward passes together, the unit in which attacks are compared."""
        return self.forwards + self.backwards


@contextmanager
def counted(*models: nn.Module) -> Iterator[Passes]:
    """Count the rows that pass through each of ``models`` inside the block, each model once."""
    passes = Passes()

    def seen(_: nn.Module, __: Any, output: object) -> None:
        if not isinstance(output, Tensor):
            return  # no logits, which others refuse
        passes.forwards += len(output)
        if output.requires_grad:
            output.register_hook(seen_again)  # type: ignore[no-untyped-call]

    def seen_again(grad: Tensor) -> None:
        passes.backwards += len(grad)

    handles = [model.register_forward_hook(seen) for model in dict.fromkeys(models)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def expected_cost(costs: Sequence[float], abstain: Sequence[float]) -> float:
    """Sum of c_j times the probability that all earlier stages abstain.

    Args:
        costs: Cost per input of each stage and, last, of the core.
        abstain: P(stage i abstains | it was asked), one per stage.

    Raises:
        ValueError: Not one cost more than probabilities.

    >>> expected_cost([1.0, 2.0, 10.0], [0.5, 0.1])
    2.5
    """
    if len(costs) != len(abstain) + 1:
        raise ValueError(f"{len(costs)} costs for {len(abstain)} stages and a core")
    total, reached = 0.0, 1.0
    for cost, left in zip(costs, [*abstain, 0.0], strict=True):
        total += cost * reached
        reached *= left
    return total
