"""Boolean arrays packed 64 samples to the word, so that counting is a few instructions."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from recuse.analysis.verdicts import Mask, Values

Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

_WORD = 64


def pack(mask: Mask) -> Words:
    """Pack the last axis of a boolean array; the padding is zero.

    >>> int(count(pack(np.array([True, False, True]))))
    2
    """
    padded = np.zeros((*mask.shape[:-1], -(-mask.shape[-1] // _WORD) * _WORD), dtype=np.bool_)
    padded[..., : mask.shape[-1]] = mask
    return np.packbits(padded, axis=-1).view(np.uint64)


def count(words: Words) -> Numbers:
    """Number of set samples along the last axis."""
    # A product is exact here, and up to twice as fast as a sum along so short an axis.
    return np.asarray(np.bitwise_count(words) @ _ones(words.shape[-1])).astype(np.int64)


@lru_cache(maxsize=8)
def _ones(width: int) -> Values:
    return np.ones(width)
