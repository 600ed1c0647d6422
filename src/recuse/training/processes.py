"""The processes that train together, through accelerate: one by default, many under its launcher.

Every process sees the same batch and takes its share of the rows; gradients are averaged before
the step, so that all hold the same weights at all times. No wrapper around the network is
needed, which an objective that runs it several times a step would have to work around.
"""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from recuse.training.batches import Batch


@dataclass(frozen=True, eq=False)
class Share:
    """What one process computes of a batch.

    Attributes:
        batch: The rows it computes on.
        rows: How many of them count.
        total: Rows of the whole batch.
    """

    batch: Batch
    rows: int
    total: int


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

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    def share(self, batch: Batch) -> Share:
        """The rows of the batch that this process computes on, and how many of them count.

        In a last batch of fewer rows than processes, who is left without one computes the first
        row along, which counts for nothing: all processes must take part in every step.
        """
        count, total = self.count, len(batch)
        own = batch if count == 1 else batch.every(count, self.accelerator.process_index)
        return Share(own, len(own), total) if len(own) else Share(batch.every(total, 0), 0, total)

    def mean_weight(self, weight: Tensor, share: Share) -> Tensor:
        """Mean over the whole batch of weights whose sum over our share is ``weight``."""
        own = weight if share.rows else torch.zeros_like(weight)
        everybody: Tensor = self.accelerator.reduce(own, reduction="sum")
        return everybody / share.total

    def average_gradients(self, network: nn.Module, share: Share) -> None:
        """Make every gradient that of the whole batch.

        Each process holds the gradient of the mean loss of its share.
        """
        if self.count == 1:
            return
        for parameter in network.parameters():
            if parameter.grad is not None:
                own = parameter.grad * (share.rows / share.total)
                parameter.grad.copy_(self.accelerator.reduce(own, reduction="sum"))

    def average_buffers(self, network: nn.Module) -> None:
        """Give every process the mean of the batch-norm statistics."""
        if self.count == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.copy_(self.accelerator.reduce(buffer, reduction="mean"))

    def wait(self) -> None:
        """Go on when everybody is here."""
        self.accelerator.wait_for_everyone()
