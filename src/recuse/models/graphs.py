"""A network's passes on small batches replayed as CUDA graphs: one launch in place of hundreds.

On a GPU a batch of a few images takes as long as its kernels take to launch. A graph launches
them at once, but works on memory of its own: what it returns is overwritten by the next replay,
so that everything is copied out here, and a gradient asked for too late is an error.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from recuse.arrays import Images, Logits

Passes = Callable[[Tensor], Tensor]
Capture = Callable[[nn.Module, Tensor], Passes]
"""``capture(network, sample)``: passes over inputs shaped like the sample, which they differentiate
if the sample requires a gradient; results live in memory that the next call overwrites."""


def cuda_graphs(network: nn.Module, sample: Tensor) -> Passes:
    """Forward pass, and backward pass if the sample requires a gradient, as CUDA graphs."""
    # A function: given the network itself, its forward method would be replaced.
    with torch.set_grad_enabled(sample.requires_grad):
        passes = torch.cuda.make_graphed_callables(lambda x: network(x), (sample,))
    return cast(Passes, passes)


class Replay:
    """The captured passes for one shape of input.

    Attributes:
        passes: What was captured.
        number: Replays so far; a gradient belongs to the last one only.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.number = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The network's output, and its gradient until the next call."""
        self.number += 1
        own: Tensor = _Own.apply(x, self)  # type: ignore[no-untyped-call]
        return self.passes(own).clone()


class _Own(torch.autograd.Function):
    """Copies the gradient out of the graph's memory while it is the gradient of this replay."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, replay: Replay) -> Tensor:
        ctx.replay, ctx.number = replay, replay.number
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if ctx.number != ctx.replay.number:
            raise RuntimeError(
                "a graphed network was run again on a batch of this size before the gradient of "
                "the run before was taken; take it first, or use the network without graphs"
            )
        return grad.clone(), None


class GraphedNetwork(nn.Module):
    """A frozen network whose passes on small batches are replayed, one graph per shape.

    Graphs hold the weights and the memory they were captured with: the network must be prepared
    (see :func:`recuse.models.prepared.prepare`), and neither be trained nor moved afterwards.
    The gradient with respect to the input must be taken before the next batch of the same size.

    Args:
        network: A prepared network on a GPU.
        largest: Batches of more images run as they are.
        capture: How passes are captured.
    """

    def __init__(
        self, network: nn.Module, largest: int = 64, capture: Capture = cuda_graphs
    ) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)
        self.largest = largest
        self._capture = capture
        self._replays: dict[tuple[Any, ...], Replay] = {}

    def forward(self, x: Images) -> Logits:
        """Logits of the network."""
        if not self._fits(x):
            out: Tensor = self.network(x)
            return out
        gradient = x.requires_grad and torch.is_grad_enabled()
        key = (x.shape, x.dtype, x.device, x.stride(), gradient)
        if key not in self._replays:
            sample = x.detach().clone().requires_grad_(gradient)
            self._replays[key] = Replay(self._capture(self.network, sample))
        return self._replays[key](x if gradient else x.detach())

    def _fits(self, x: Tensor) -> bool:
        own = self._capture is not cuda_graphs or x.is_cuda
        return own and 0 < len(x) <= self.largest and not torch.is_autocast_enabled(x.device.type)


__all__ = ["GraphedNetwork", "Replay", "cuda_graphs"]
