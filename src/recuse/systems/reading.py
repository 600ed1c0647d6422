"""Encoded images from people and networks: what is no single, ordinary image is refused."""

import io
import warnings
from pathlib import Path

from PIL import Image

from recuse.data.decode import DAMAGED, open_image
from recuse.errors import DataError


def read_path(path: Path, mode: str = "RGB") -> Image.Image:
    """The image in a file.

    Raises:
        DataError: No such file, or no image that is taken (see :func:`read_image`).
    """
    try:
        return read_image(path.read_bytes(), str(path), mode)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def read_image(data: bytes, where: str, mode: str = "RGB") -> Image.Image:
    """One still image, turned upright as its file asks.

    Args:
        data: The encoded file.
        where: Names it in messages.
        mode: Pillow mode to convert to.

    Raises:
        DataError: No image, a damaged one, one that is too large or has more than 8 bits per
            channel, or several frames.
    """
    with warnings.catch_warnings():
        # Large images are told of in a sentence, not by a warning.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        frames = _frames(data, where)
        if frames > 1:
            raise DataError(
                f"{where}: the file holds {frames} frames, an animation; give one image"
            )
        return open_image(data, where, mode)


def _frames(data: bytes, where: str) -> int:
    """How many there are, without decoding."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return int(getattr(image, "n_frames", 1))
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: the image is too large to be read; make it smaller") from error
    except DAMAGED as error:
        raise DataError(f"{where}: the image is truncated or not an image") from error


__all__ = ["read_image", "read_path"]
