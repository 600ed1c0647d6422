"""Passes through a network, counted where they happen: below autograd, at the convolutions.

A network's last convolution stands for one pass, the last of those that no prepared copy computes
as a matrix product. Its calls, alone or with the sum and the ReLU behind it, are recognised by the
shape of its weight (several layers may share it: one calibration pass says how many do), so that
the count is the same for a network, its folded copy and its bf16 copy, and for any program that
runs them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from recuse.models.small_maps import FEWEST_CHANNELS

Result = TypeVar("Result")
_aten = torch.ops.aten
_fused = torch.ops.mkldnn._convolution_pointwise
# Where each forward convolution takes its weight.
WEIGHT_AT = {_aten.convolution.default: 1, _fused.default: 1, _fused.binary: 2}


@dataclass(frozen=True)
class Passes:
    """Passes of single samples.

    Attributes:
        forward: Forward passes.
        to_input: Backward passes that compute the gradient of activations.
        to_weights: Backward passes that compute the gradient of weights.
    """

    forward: float
    to_input: float
    to_weights: float

    @property
    def total(self) -> float:
        return self.forward + self.to_input + self.to_weights

    def per(self, samples: float) -> "Passes":
        return Passes(self.forward / samples, self.to_input / samples, self.to_weights / samples)

    def __str__(self) -> str:
        return f"{self.forward:.1f} F + {self.to_input:.1f} Bx + {self.to_weights:.1f} Bw"


class _ConvolutionCounter(TorchDispatchMode):
    """Counts samples that go through convolutions with one shape of weight."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape
        self.forward = self.to_input = self.to_weights = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket
        if func in WEIGHT_AT and args[WEIGHT_AT[func]].shape == self.shape:
            self.forward += len(args[0])
        elif name is _aten.convolution_backward and args[2].shape == self.shape:
            self.to_input += len(args[0]) * bool(args[-1][0])
            self.to_weights += len(args[0]) * bool(args[-1][1])
        return func(*args, **(kwargs or {}))


def last_convolution(model: nn.Module, x: Tensor) -> torch.Size:
    """Shape of the weight of the last convolution that stays one in a prepared copy."""
    seen: list[torch.Size] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            if func.overloadpacket is _aten.convolution:
                seen.append(args[1].shape)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Recorder():
        model(x)
    kept = [shape for shape in seen if shape[2] == 1 or min(shape[:2]) < FEWEST_CHANNELS]
    if not kept:
        raise ValueError("the network has no convolution, so its passes cannot be counted")
    return kept[-1]


def count_passes(model: nn.Module, x: Tensor, work: Callable[[], Result]) -> tuple[Result, Passes]:
    """Run ``work`` and count the passes of single samples through ``model`` and its copies.

    Args:
        model: The network, in eval mode, whose architecture ``work`` runs.
        x: At least one input, for calibration.
        work: What to count.

    Returns:
        What ``work`` returned, and the passes it took.
    """
    shape = last_convolution(model, x[:1])
    with torch.no_grad(), _ConvolutionCounter(shape) as once:
        model(x[:1])
    with _ConvolutionCounter(shape) as counter:
        result = work()
    layers = once.forward
    return result, Passes(
        counter.forward / layers, counter.to_input / layers, counter.to_weights / layers
    )
