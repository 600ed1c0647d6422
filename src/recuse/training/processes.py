"""The processes that train together: one by default, several under a launcher such as ``torchrun``.

The batch of a step is that of the config whatever their number: each part of it is dealt out row by
row before anything is decoded, every process differentiates the sum over its rows divided by the
rows of the whole batch, and the gradients are added up. Noise is keyed by seed and sample id, batch
norm takes its statistics from the rows of all (:mod:`recuse.training.batch_norm`), and weights that
a loss scales to mean 1 are scaled over the batch. So several processes take the steps of one, up to
rounding: its weights, its log. Only dropout draws for each process.

No wrapper around the network is needed, and none exchanges anything while an attack runs: attacks
see a copy in eval mode, so that it does not matter how many steps each of them takes.
"""

import atexit
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch import distributed as dist

from recuse.errors import ConfigError, TrainingError
from recuse.results import LossTerms
from recuse.training.batches import Batch, Deal

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Share:
    """What one process computes of a batch.

    In a batch of fewer rows than processes, who is left without one computes the first row along,
    which counts for nothing: what is computed together has to be computed by all.

    Attributes:
        batch: The rows it computes on.
        counts: Whether they count.
    """

    batch: Batch
    counts: bool

    def counted(self, terms: LossTerms) -> LossTerms:
        """The terms of the rows that count; none of them keeps its graph to the weights."""
        if self.counts:
            return terms
        weighted = terms.weighted
        return LossTerms(
            terms.total[:0],
            {name: values[:0] for name, values in terms.parts.items()},
            None if terms.correct is None else terms.correct[:0],
            weighted
            and replace(
                weighted,
                share=weighted.share[:0],
                parts={name: values[:0] for name, values in weighted.parts.items()},
            ),
        )


@dataclass(frozen=True)
class Processes:
    """This process and its peers. What is exchanged is exchanged by all, in the same order.

    Attributes:
        device: Where what they exchange lies.
        index: Of this one, from 0.
        count: How many there are.
    """

    device: torch.device = CPU
    index: int = 0
    count: int = 1

    @classmethod
    def on(cls, device: torch.device) -> "Processes":
        """The processes launched together (one if none were), which meet here.

        Raises:
            ConfigError: There are several, but not how to reach them.
        """
        if not dist.is_initialized():
            if int(os.environ.get("WORLD_SIZE", "1")) == 1:
                return cls(device)
            _meet(device)
        return cls(device, dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.index == 0

    def deal(self, parts: int) -> Deal:
        """Which rows this process computes of a batch that is cut into so many parts."""
        return lambda whole: [row for own, _ in self._dealt(whole, parts) for row in own]

    def shares(self, batch: Batch, parts: int) -> Iterator[Share]:
        """What this process computes of each part of a batch whose rows were dealt out so."""
        dealt = list(self._dealt(batch.whole, parts))
        shares = batch.cut([len(own) for own, _ in dealt])
        return map(Share, shares, [counts for _, counts in dealt])

    def _dealt(self, whole: int, parts: int) -> Iterator[tuple[range, bool]]:
        """The rows of each part, and whether they count."""
        size = -(-whole // parts)
        for at in range(0, whole, size):
            own = range(at + self.index, min(at + size, whole), self.count)
            yield (own, True) if own else (range(at, at + 1), False)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each."""
        if self.count == 1:
            return values
        total = values.detach().clone(memory_format=torch.contiguous_format)
        with meeting():
            dist.all_reduce(total)
        return total

    def gathered(self, values: Tensor) -> Tensor:
        """What each process has, in their order, as the rows of one tensor."""
        found = [torch.empty_like(values) for _ in range(self.count)]
        with meeting():
            dist.all_gather(found, values.contiguous())
        return torch.stack(found)

    def from_first(self, read: Callable[[], bytes]) -> bytes:
        """What the first process reads, in all of them."""
        if self.count == 1:
            return read()
        data = read() if self.first else b""
        size = int(self.summed(torch.tensor(len(data), device=self.device)))
        sent = torch.zeros(size, dtype=torch.uint8, device=self.device)
        if data:
            sent.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        with meeting():
            dist.broadcast(sent, 0)
        return sent.cpu().numpy().tobytes()

    def agree(self, digest: str) -> bool:
        """Whether all have the same digest."""
        if self.count == 1:
            return True
        own = torch.frombuffer(bytearray(digest.encode()), dtype=torch.uint8).to(self.device)
        return bool((self.gathered(own) == own).all())

    def sum_by_name(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sum over all processes of each number."""
        if self.count == 1:
            return dict(values)
        names = sorted(values)
        totals = self.summed(torch.stack([values[name].double() for name in names]))
        return {
            name: total.to(values[name].dtype) for name, total in zip(names, totals, strict=True)
        }

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        for dtype in dict.fromkeys(g.dtype for g in gradients):
            same = [g for g in gradients if g.dtype == dtype]
            totals = self.summed(torch.cat([g.flatten() for g in same]))
            split = torch.split(totals, [g.numel() for g in same])
            for gradient, total in zip(same, split, strict=True):
                gradient.copy_(total.view(gradient.shape))


def _meet(device: torch.device) -> None:
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE asks for {os.environ['WORLD_SIZE']} processes, but {', '.join(missing)} "
            "is not set; start them by torchrun --nproc-per-node N -m recuse train ..."
        )
    with meeting():
        store, rank, count = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        # A launcher that starts lost processes again may keep its store, and with it the addresses
        # of those that are gone.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        own = dist.PrefixStore(f"recuse/{attempt}", store)  # type: ignore[attr-defined]
        backend, bound = "gloo", None
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            backend, bound = "nccl", torch.device("cuda", index)
        dist.init_process_group(backend, store=own, rank=rank, world_size=count, device_id=bound)
    atexit.register(dist.destroy_process_group)


@contextmanager
def meeting() -> Iterator[None]:
    """Say in one sentence that a process is missing where all have to take part.

    Raises:
        TrainingError: It is.
    """
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "a process that trains along has ended or cannot be reached; the same command goes on "
            "from the state saved last"
        ) from error


ALONE = Processes()
