"""Randomness keyed by (seed, sample id): results do not depend on batch size, order or shard."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recuse.transfer import sent

_SEED_BITS = 63


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from the text of ``parts``, the same on every machine and Python.

    >>> stable_seed(0, "cifar10/test/7") == stable_seed(0, "cifar10/test/7")
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> (
        64 - _SEED_BITS
    )


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by ``stable_seed(*parts)``."""
    return torch.Generator().manual_seed(stable_seed(*parts))


@dataclass(frozen=True)
class SampleNoise:
    """Noise for one batch whose rows depend only on (seed, stream, sample id).

    Attributes:
        seed: The run's seed.
        ids: Stable sample ids, one per row.
        stream: Names what the noise is for; different streams are independent.
    """

    seed: int
    ids: tuple[str, ...]
    stream: str = ""

    def take(self, index: Sequence[int]) -> "SampleNoise":
        """The same noise for a subset of the rows."""
        return SampleNoise(self.seed, tuple(self.ids[i] for i in index), self.stream)

    def substream(self, *parts: object) -> "SampleNoise":
        """An independent stream, for example of one restart."""
        name = "/".join([self.stream, *(str(part) for part in parts)])
        return SampleNoise(self.seed, self.ids, name)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal noise of the shape, dtype and device of ``like`` (rows = ids)."""
        return self._filled(like, Tensor.normal_)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform noise in [0, 1) of the shape, dtype and device of ``like`` (rows = ids)."""
        return self._filled(like, Tensor.uniform_)

    def _filled(self, like: Tensor, fill: Callable[..., Tensor]) -> Tensor:
        if len(self.ids) != len(like):
            raise ValueError(
                f"{len(self.ids)} sample ids for a batch of {len(like)}; give one id per row"
            )
        # Drawn on the processor whatever the device, so that it is the same everywhere; a GPU
        # that trains a small network waits for little else, hence one generator, seeded anew.
        rows, draw = torch.empty(like.shape), torch.Generator()
        for row, i in zip(rows.unbind(), self.ids, strict=True):
            fill(row, generator=draw.manual_seed(stable_seed(self.seed, self.stream, i)))
        return sent(rows, like.device, like.dtype)


def fresh_noise(rows: int) -> SampleNoise:
    """Noise that nobody can foresee: its seed comes from the operating system.

    What is deployed draws from it; what is measured is keyed by a seed and sample ids.
    """
    return SampleNoise(secrets.randbits(_SEED_BITS), tuple(str(row) for row in range(rows)))
