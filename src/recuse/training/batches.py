"""Which samples a step sees: an order that depends on (seed, epoch, sample id) alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recuse.data.split import Split
from recuse.errors import ConfigError
from recuse.random import stable_seed
from recuse.transfer import sent

# Of the rows of a batch, counted from 0, those that one process computes, ascending.
Deal = Callable[[int], Sequence[int]]


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's inputs.

    Attributes:
        images: Before augmentation.
        labels: Class indices (pseudo-labels for extra data).
        ids: Sample ids.
        whole: Rows of the step in all processes together.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    whole: int

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """The batch on a device, images in the network's type."""
        images, labels = sent(self.images, device, dtype), sent(self.labels, device)
        return Batch(images, labels, self.ids, self.whole)

    def cut(self, sizes: Sequence[int]) -> Iterator["Batch"]:
        """Consecutive parts of these sizes."""
        at = 0
        for size in sizes:
            rows = slice(at, at + size)
            yield Batch(self.images[rows], self.labels[rows], self.ids[rows], self.whole)
            at += size


def shuffled(ids: tuple[str, ...], *, seed: int, epoch: int) -> list[int]:
    """Row numbers in the order of the epoch: sorted by a hash of (seed, epoch, id).

    The order of the samples does not depend on the order of the rows.
    """
    keys = [stable_seed(seed, "order", epoch, i) for i in ids]
    return sorted(range(len(ids)), key=keys.__getitem__)


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of every epoch.

    Attributes:
        train: Labelled data; an epoch visits each row once.
        size: Rows per batch, extra rows included.
        seed: Of the order.
        extra: Pseudo-labelled data for robust self-training, if any.
        share: Share of each batch that is extra.
    """

    train: Split
    size: int
    seed: int
    extra: Split | None = None
    share: float = 0.0

    def __post_init__(self) -> None:
        if self.extra is None and self.share > 0:
            raise ConfigError(
                f"{self.share:.0%} of each batch shall be extra data, but none was given; pass "
                "the pseudo-labelled split or set extra_share to 0"
            )
        if self.extra is not None and self.extras == 0:
            raise ConfigError(
                f"no row of a batch of {self.size} would be extra data, of which the share is "
                f"{self.share:g}; raise extra_share, or give no extra data"
            )
        if self.extra is not None and self.extra.shape != self.train.shape:
            raise ConfigError(
                f"extra images of shape {self.extra.shape} cannot be mixed with those of "
                f"{self.train.name}, {self.train.shape}"
            )
        if self.own < 1:
            raise ConfigError(
                f"a batch of {self.size} with {self.share:.0%} extra data has no room for labelled "
                "data; raise batch_size or lower extra_share"
            )

    @property
    def extras(self) -> int:
        """Extra rows per batch."""
        return round(self.size * self.share) if self.extra is not None else 0

    @property
    def own(self) -> int:
        """Labelled rows per batch."""
        return self.size - self.extras

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.train) // self.own)

    def epoch(self, number: int, *, start: int = 0, deal: Deal = range) -> Iterator[Batch]:
        """The batches of an epoch from the ``start``-th on; of each, the rows that are dealt out.

        What is dealt to other processes is not decoded here.
        """
        order = shuffled(self.train.ids, seed=self.seed, epoch=number)
        steps = range(start, len(self))
        own = [order[s * self.own : (s + 1) * self.own] for s in steps]
        wholes = [len(rows) + self.extras for rows in own]
        dealt = [deal(whole) for whole in wholes]
        parts = self.train.parts(
            [rows[at] for at in mine if at < len(rows)]
            for rows, mine in zip(own, dealt, strict=True)
        )
        if not self.extra:
            for part, whole in zip(parts, wholes, strict=True):
                yield Batch(part.images, part.labels, part.ids, whole)
            return
        pool = shuffled(self.extra.ids, seed=self.seed, epoch=number)
        extra = self.extra.parts(
            [pool[(s * self.extras + at - len(rows)) % len(pool)] for at in mine if at >= len(rows)]
            for s, rows, mine in zip(steps, own, dealt, strict=True)
        )
        for first, second, whole in zip(parts, extra, wholes, strict=True):
            yield _joined(first, second, whole)


def _joined(a: Split, b: Split, whole: int) -> Batch:
    images, labels = torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels])
    return Batch(images, labels, a.ids + b.ids, whole)
