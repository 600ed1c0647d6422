"""Processor threads for networks: as many as the work can feed.

Threads of one pass wait for one another at every layer. A small layer is done before they have
met, and where other programs want the processor as well the wait is for their time slices: two
attack steps of the digits' network took 3.5 ms with one thread and 1.5 s with two, on two cores
under a load of 12 (``benchmarks/threads.py``).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recuse.modes import evaluation_mode

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
# What was set by hand wins.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# One or two milliseconds of a processor, many times what it takes to wake a thread.
WORK_PER_THREAD = 32_000_000


def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Multiplications of the convolutions and linear layers of one forward pass of one image."""
    total = 0

    def count(layer: Any, _: Any, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        with evaluation_mode(model), torch.no_grad():
            model(image[:1])
    finally:
        for handle in handles:
            handle.remove()
    return total


def suitable_threads(model: nn.Module, images: Tensor, rows: int) -> int:
    """Threads for passes over ``rows`` images like these, at most those that torch has now.

    All of them where the environment says how many there shall be, on an accelerator, and for a
    network without a layer that could tell its work.
    """
    most = torch.get_num_threads()
    if most == 1 or images.device.type != "cpu" or any(name in os.environ for name in VARIABLES):
        return most
    work = multiply_adds(model, images) * rows
    return min(most, max(1, work // WORK_PER_THREAD)) if work else most


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run a block with so many threads, then go back to as many as there were."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


__all__ = ["VARIABLES", "WORK_PER_THREAD", "multiply_adds", "suitable_threads", "using_threads"]
