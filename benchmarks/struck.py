"""A small network that suffers faults from within: what ``benchmarks/soak.py`` judges.

At each forward pass it looks for files in the folder ``SOAK_FAULTS`` that are called like a fault.
Whoever takes such a file away first, of all processes, suffers the fault. Its weights are those of
the checkpoint ``SOAK_CHECKPOINT``.
"""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import parent_process
from pathlib import Path

import torch
from torch import Tensor, nn

from recuse.models.checkpoint import load_checkpoint

FAULTS_FOLDER, CHECKPOINT = "SOAK_FAULTS", "SOAK_CHECKPOINT"
JUMP_S = 1e8


def hang() -> None:
    time.sleep(1e6)


def deafen() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang()


def fill_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def turn_clock() -> None:
    """Let the time of day jump to and fro, three years each way, from now on."""
    real = time.time
    time.time = lambda: real() + JUMP_S * (-1) ** int(10 * real())


WITHIN: dict[str, Callable[[], None]] = {
    "worker hangs": hang,
    "worker never comes back": deafen,
    "memory runs out": fill_memory,
    "clock jumps": turn_clock,
}
NAN = "worker returns NaN"
SILENT = {"worker hangs", "worker never comes back"}


class Struck(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load_checkpoint(Path(os.environ[CHECKPOINT]))[0]
        self.faults = Path(os.environ[FAULTS_FOLDER])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        for path in self.faults.iterdir():
            # A driver computes too, and nobody begins it again when it is silent.
            if path.name in SILENT and parent_process() is None:
                continue
            try:
                path.unlink()
            except FileNotFoundError:  # another process was first
                continue
            if path.name == NAN:
                return logits * torch.nan
            WITHIN[path.name]()
        return logits


def network() -> nn.Module:
    return Struck()
