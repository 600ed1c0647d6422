"""Encoded images (PNG, JPEG, WebP, ...) to one tensor in [0, 1]; damage is named by row."""

import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
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


# Formats in which several frames are an animation; the second one of a photograph is a preview.
_ANIMATED = ("GIF", "PNG", "WEBP")


class UnreadableImageError(DataError):
    """One image of many that cannot be read."""


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
        UnreadableImageError: Truncated, damaged, animated, too large or not an image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if said := refusal(image):
                raise UnreadableImageError(f"{where}: {said}")
            return ImageOps.exif_transpose(image).convert(mode)
    except DAMAGED as error:
        raise UnreadableImageError(
            f"{where}: the image is truncated or not an image ({error})"
        ) from error


def refusal(image: Image.Image) -> str:
    """Why an opened image is not decoded; empty if it is.

    Raises:
        DataError: The variable that sets the limit of size holds no number.
    """
    if said := too_large(image):
        return said
    if is_deep(image):
        return (
            f"the image has more than 8 bits per channel (mode {image.mode}), which would be cut "
            "off; save it with 8 bits per channel"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format in _ANIMATED:
        return f"the file holds {frames} frames, an animation; give one image"
    return ""


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
        blobs: The files, or where they are; None where a row holds no bytes, which is an error.
        rows: Name of each image in messages; default ``row 0``, ``row 1``, ...
        boxes: Crop per image, ``(x_min, y_min, x_max, y_max)`` in pixels, right and lower edge
            exclusive, before any resize.
    """

    source: str
    blobs: Sequence[bytes | Path | None]
    rows: Sequence[str] | None = None
    boxes: Sequence[Box] | None = None

    def take(self, rows: Sequence[int]) -> "EncodedImages":
        """The images at ``rows``; messages name them as before."""
        names = [self._name(row) for row in rows]
        boxes = None if self.boxes is None else [self.boxes[row] for row in rows]
        return EncodedImages(self.source, [self.blobs[row] for row in rows], names, boxes)

    def decode(self, how: Decoding) -> Tensor:
        """Decode all images, in threads.

        Returns:
            float32 ``[n, channels, height, width]`` in [0, 1].

        Raises:
            DataError: A damaged image, or (without ``how.size``) one of another size.
        """
        return self.readable(how)[0]

    def readable(
        self, how: Decoding, *, skip: bool = False
    ) -> tuple[Tensor, list[int], tuple[str, ...]]:
        """Decode all images that can be read, in threads.

        Args:
            how: How they become pixels.
            skip: Leave out those that cannot be read.

        Returns:
            The images as of :meth:`decode`, their rows, and why others were left out.

        Raises:
            DataError: An image that cannot be read, where none is to be left out, or none can be
                read; or one of another size than the first.
        """
        with warnings.catch_warnings():  # around the threads, which share the filters
            # Pillow warns of large images; here they are refused in a sentence.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            pixels, skipped = self._all_pixels(how, skip=skip)
        rows = [row for row in range(len(pixels)) if row not in skipped]
        said = tuple(skipped[row] for row in sorted(skipped))
        return to_unit_interval(pixels[rows] if skipped else pixels), rows, said

    def _all_pixels(
        self, how: Decoding, *, skip: bool
    ) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
        """Every image, and why some, whose place is left as it is, cannot be read."""
        skipped: dict[int, str] = {}

        def pixels(row: int, like: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8] | None:
            try:
                return self._pixels(row, how, like=like)
            except UnreadableImageError as error:
                if not skip:
                    raise
                skipped[row] = str(error)
                return None

        count = len(self.blobs)
        found = (p for row in range(count) if (p := pixels(row, None)) is not None)
        if (first := next(found, None)) is None:
            raise DataError(f"{self.source}: there is no image{' that can be read' * bool(count)}")
        out = np.empty((count, *first.shape), dtype=np.uint8)

        def fill(start: int) -> None:
            for row in range(start, min(start + _CHUNK, count)):
                if (image := pixels(row, first)) is not None:
                    out[row] = image

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill, range(0, count, _CHUNK)))
        return out, skipped

    def _name(self, row: int) -> str:
        return self.rows[row] if self.rows else f"row {row}"

    def _pixels(
        self, row: int, how: Decoding, like: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        where = f"{self.source}, {self._name(row)}"
        blob = self.blobs[row]
        if blob is None:
            raise UnreadableImageError(f"{where}: there are no image bytes, only a path or nothing")
        if isinstance(blob, Path):
            try:
                blob = blob.read_bytes()
            except OSError as error:
                raise UnreadableImageError(f"{where}: {error.strerror or error}") from error
        image = open_image(blob, where, _MODES[how.channels])
        image = crop_resize(image, self.boxes[row] if self.boxes else None, how.size)
        if like is not None and (image.height, image.width) != like.shape[:2]:
            raise DataError(
                f"{where}: the image is {image.width}x{image.height}, the first is "
                f"{like.shape[1]}x{like.shape[0]}; pass a size to resize all (--size)"
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
