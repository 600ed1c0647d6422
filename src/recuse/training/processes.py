"""The processes that train together, through accelerate: one by default, many under its launcher.

Every process sees the same batch and takes its share of the rows; gradients are averaged before
the step, so that all hold the same weights at all times. No wrapper around the network is
needed, which an objective that runs it several times a step would have to work around.
"""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from recuse.training.batches import Batch


@dataclass(frozen=True)
class Processes:
    """This process and its peers.

    Attributes:
        accelerator: Knows how many there are and how they talk.
    """

    accelerator: Accelerator

    @classmethod
    def on(cls, device: torch.device) -> "Processes":
        """The processes launched together (one if none were)."""
        return cls(Accelerator(cpu=device.type == "cpu"))

    @property
    def writes(self) -> bool:
        """Whether this process writes files and reports progress."""
        return bool(self.accelerator.is_main_process)

    def share(self, batch: Batch) -> tuple[Batch, int]:
        """The rows of the batch that this process computes on, and how many of them count.

        In a last batch of fewer rows than processes, who is left without one computes the first
        row along, which counts for nothing: all processes must take part in every step.
        """
        count = self.accelerator.num_processes
        own = batch if count == 1 else batch.every(count, self.accelerator.process_index)
        return (own, len(own)) if len(own) else (batch.every(len(batch), 0), 0)

    def average_gradients(self, network: nn.Module, *, rows: int, total: int) -> None:
        """Make every gradient that of the whole batch of ``total`` rows, of which we had ``rows``.

        Each process holds the gradient of its own mean loss.
        """
        if self.accelerator.num_processes == 1:
            return
        for parameter in network.parameters():
            if parameter.grad is not None:
                own = parameter.grad * (rows / total)
                parameter.grad.copy_(self.accelerator.reduce(own, reduction="sum"))

    def average_buffers(self, network: nn.Module) -> None:
        """Give every process the mean of the batch-norm statistics."""
        if self.accelerator.num_processes == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.copy_(self.accelerator.reduce(buffer, reduction="mean"))

    def wait(self) -> None:
        """Go on when everybody is here."""
        self.accelerator.wait_for_everyone()
