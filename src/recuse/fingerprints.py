"""Fingerprints of images: which rows two sets share, whatever their files, names and order."""

import base64
import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# At 40 bits, one of 10,000 images is taken for one of 50,000 others once in 2,000 comparisons.
BYTES = 5
_IMAGE_DIMS = 4
_COMPRESSED = "zlib:"
_MOST = 8


def row_fingerprints(images: Tensor) -> tuple[bytes, ...]:
    """What each image shows, in a few bytes: equal for equal pixels, in 256 steps, of one shape.

    The same picture in another lossless file, under another name or label has the same
    fingerprint; one that was compressed again or resized differently does not.

    Args:
        images: ``[batch, channels, height, width]`` in [0, 1], or points ``[batch, features]``.

    Returns:
        One fingerprint of ``BYTES`` bytes per row.

    >>> len(set(row_fingerprints(torch.tensor([[0.1, 0.2], [0.2, 0.1], [0.1, 0.2]]))))
    2
    """
    shape = str(tuple(images.shape[1:])).encode()
    rows = images.detach().cpu()
    pictures = images.dim() == _IMAGE_DIMS
    return tuple(_fingerprint(shape, _in_256_steps(row) if pictures else row) for row in rows)


def pixel_fingerprint(pixels: npt.NDArray[np.uint8]) -> bytes:
    """What :func:`row_fingerprints` says of one image, from its 8-bit pixels.

    Args:
        pixels: ``[height, width, channels]``.
    """
    shape = (pixels.shape[2], *pixels.shape[:2])
    return _fingerprint(str(shape).encode(), torch.from_numpy(pixels).permute(2, 0, 1))


def _in_256_steps(image: Tensor) -> Tensor:
    return image.mul(255).round().to(torch.uint8)


def _fingerprint(shape: bytes, row: Tensor) -> bytes:
    return hashlib.blake2b(shape + row.contiguous().numpy().tobytes(), digest_size=BYTES).digest()


def packed(fingerprints: Iterable[bytes]) -> str:
    """A set of fingerprints as text; :func:`unpacked` gives it back.

    In order their first bytes repeat, so that a quarter is saved byte by byte of all of them.
    """
    rows = np.frombuffer(b"".join(sorted(set(fingerprints))), np.uint8).reshape(-1, BYTES)
    return _COMPRESSED + base64.b64encode(zlib.compress(rows.T.tobytes(), level=9)).decode()


def unpacked(text: str) -> frozenset[bytes]:
    """The fingerprints that :func:`packed` wrote, also those of an older version.

    Raises:
        ValueError: The text is damaged.
    """
    data = base64.b64decode(text.removeprefix(_COMPRESSED), validate=True)
    if text.startswith(_COMPRESSED):
        columns = np.frombuffer(_decompressed(data), np.uint8)
        data = columns.reshape(BYTES, -1).T.tobytes()
    if len(data) % BYTES:
        raise ValueError(f"{len(data)} bytes of fingerprints are no multiple of {BYTES}")
    return frozenset(data[at : at + BYTES] for at in range(0, len(data), BYTES))


def _decompressed(data: bytes) -> bytes:
    """What was compressed, up to a size that no set of fingerprints of images reaches."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, _MOST * len(data))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not stream.eof:
        raise ValueError(f"{len(data)} bytes end too early or hold too much")
    return found


__all__ = ["BYTES", "packed", "pixel_fingerprint", "row_fingerprints", "unpacked"]
