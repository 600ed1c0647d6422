"""Encoded images (PNG, JPEG, WebP, ...) to one tensor in [0, 1]; damage is named by row."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from recuse.errors import DataError

# Whole or fractional pixels; written out because the runtime type checker does not promote.
Box = tuple[int | float, int | float, int | float, int | float]
_MODES: dict[int, str] = {1: "L", 3: "RGB"}
_CHUNK = 256
# Pillow cuts these modes off at 255 where it converts them; of colours with 16 bits it reads 8.
_DEEP_MODES = ("I", "F")
_DEEP_COLOURS = (";16B", ";16L", ";16N")
# A few bytes of PNG can ask for gigabytes of pixels.
PIXEL_LIMIT, MEGAPIXELS = "RECUSE_MAX_MEGAPIXELS", 64
# What Pillow raises on damaged input, by format: truncation, bad headers, bad PNG chunks, bombs.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Decoding:
    """How encoded images become pixels.

    Attributes:
        channels: 3 for RGB, 1 for grey; images of another mode are converted.
        size: Side to resize to (bilinear, with antialiasing), or None: all images must
            already have the size of the first.
    """

    channels: Literal[1, 3] = 3
    size: int | None = None


def open_image(data: bytes, where: str, mode: str = "RGB") -> Image.Image:
    """Decode one image completely, turned upright as its file asks.

    Args:
        data: The encoded file.
        where: Names it in the error.
        mode: Pillow mode to convert to.

    Raises:
        DataError: Truncated, damaged, too large or not an image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if said := too_large(image):
                raise DataError(f"{where}: {said}")
            if is_deep(image):
                raise DataError(
                    f"{where}: the image has more than 8 bits per channel (mode {image.mode}), "
                    "which would be cut off; save it with 8 bits per channel"
                )
            return ImageOps.exif_transpose(image).convert(mode)
    except DAMAGED as error:
        raise DataError(f"{where}: the image is truncated or not an image ({error})") from error


def too_large(image: Image.Image) -> str:
    """Why an opened image is not decoded; empty if it is small enough.

    Raises:
        DataError: The variable that sets the limit holds no number.
    """
    text = os.environ.get(PIXEL_LIMIT, str(MEGAPIXELS))
    try:
        limit = float(text)
    except ValueError:
        raise DataError(f"{PIXEL_LIMIT} is {text!r}; give a number of megapixels") from None
    if image.width * image.height <= 1e6 * limit:
        return ""
    return (
        f"the image has {image.width} x {image.height} pixels, more than {limit:g} megapixels; "
        f"make it smaller, or raise the limit by {PIXEL_LIMIT}"
    )


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Encoded image files of one source, not decoded yet.

    Attributes:
        source: File or folder that holds them, for messages.
        blobs: The files; None where a row holds no bytes, which is an error.
        rows: Name of each image in messages; default ``row 0``, ``row 1``, ...
        boxes: Crop per image, ``(x_min, y_min, x_max, y_max)`` in pixels, right and lower edge
            exclusive, before any resize.
    """

    source: str
    blobs: Sequence[bytes | None]
    rows: Sequence[str] | None = None
    boxes: Sequence[Box] | None = None

    def decode(self, how: Decoding) -> Tensor:
        """Decode all images, in threads.

        Returns:
            float32 ``[n, channels, height, width]`` in [0, 1].

        Raises:
            DataError: A damaged image, or (without ``how.size``) one of another size.
        """
        if not self.blobs:
            raise DataError(f"{self.source}: there is no image")
        first = self._pixels(0, how)
        out = np.empty((len(self.blobs), *first.shape), dtype=np.uint8)

        def fill(start: int) -> None:
            for row in range(start, min(start + _CHUNK, len(self.blobs))):
                out[row] = self._pixels(row, how, like=first)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(0, len(self.blobs), _CHUNK)))
        return to_unit_interval(out)

    def _pixels(
        self, row: int, how: Decoding, like: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        where = f"{self.source}, {self.rows[row] if self.rows else f'row {row}'}"
        blob = self.blobs[row]
        if blob is None:
            raise DataError(f"{where}: there are no image bytes, only a path or nothing")
        image = open_image(blob, where, _MODES[how.channels])
        image = crop_resize(image, self.boxes[row] if self.boxes else None, how.size)
        if like is not None and (image.height, image.width) != like.shape[:2]:
            raise DataError(
                f"{where}: the image is {image.width}x{image.height}, the first is "
                f"{like.shape[1]}x{like.shape[0]}; pass a size to resize all"
            )
        return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, how.channels)


def is_deep(image: Image.Image) -> bool:
    """Whether a file that is opened, but not decoded yet, has more than 8 bits per channel."""
    kinds = [str(tile[3]) for tile in getattr(image, "tile", ())]
    coloured = any(deep in kind for deep in _DEEP_COLOURS for kind in kinds)
    return image.mode[0] in _DEEP_MODES or coloured


def crop_resize(image: Image.Image, box: Box | None, size: int | None) -> Image.Image:
    """Cut out ``box``, to whole pixels, and resize what is left to a square of ``size``."""
    if box is not None:
        # Cut first: a resize of a box would let the filter reach beyond its edges.
        x_min, y_min, x_max, y_max = (round(edge) for edge in box)
        image = image.crop((x_min, y_min, x_max, y_max))
    if size is None:
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR)


def to_unit_interval(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """8-bit images ``[n, height, width, channels]`` as float32 NCHW, divided by 255."""
    count, height, width, channels = pixels.shape
    images = torch.empty(count, channels, height, width)
    return images.copy_(torch.from_numpy(pixels).permute(0, 3, 1, 2)).div_(255)
