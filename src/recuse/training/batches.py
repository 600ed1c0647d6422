"""Which samples a step sees: an order that depends on (seed, epoch, sample id) alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recuse.data.split import Split
from recuse.errors import ConfigError
from recuse.random import stable_seed
from recuse.transfer import sent


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's inputs.

    Attributes:
        images: Before augmentation.
        labels: Class indices (pseudo-labels for extra data).
        ids: Sample ids.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Batch":
        """The batch on a device, images in the network's type."""
        return Batch(sent(self.images, device, dtype), sent(self.labels, device), self.ids)

    def parts(self, count: int) -> Iterator["Batch"]:
        """At most ``count`` parts of nearly equal size."""
        size = -(-len(self) // count)
        for at in range(0, len(self), size):
            rows = slice(at, at + size)
            yield Batch(self.images[rows], self.labels[rows], self.ids[rows])

    def every(self, count: int, offset: int) -> "Batch":
        """Rows ``offset, offset + count, ...``: the share of one of ``count`` processes."""
        rows = slice(offset, None, count)
        return Batch(self.images[rows], self.labels[rows], self.ids[rows])


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

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the ``start``-th on."""
        order = shuffled(self.train.ids, seed=self.seed, epoch=number)
        steps = range(start, len(self))
        parts = self.train.parts(order[s * self.own : (s + 1) * self.own] for s in steps)
        if not self.extra:
            yield from map(_batch, parts)
            return
        pool = shuffled(self.extra.ids, seed=self.seed, epoch=number)
        size, count = self.extras, len(pool)
        extra = self.extra.parts([pool[(s * size + i) % count] for i in range(size)] for s in steps)
        for own, more in zip(parts, extra, strict=True):
            yield _joined(_batch(own), _batch(more))


def _batch(part: Split) -> Batch:
    return Batch(part.images, part.labels, part.ids)


def _joined(a: Batch, b: Batch) -> Batch:
    return Batch(torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels]), a.ids + b.ids)
