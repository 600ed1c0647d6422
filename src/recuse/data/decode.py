"""One encoded image (PNG, JPEG, WebP, ...) to pixels; what is damaged or too large is refused."""

import io
import math
import os
import re
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
Pixels = npt.NDArray[np.uint8]
MODES: dict[int, str] = {1: "L", 3: "RGB"}
# Pillow cuts these modes off at 255 where it converts them; of colours with 16 bits it reads 8.
_DEEP_MODES = ("I", "F")
_DEEP_COLOURS = (";16B", ";16L", ";16N")
_ADDRESS = re.compile(" <_io.BytesIO object at 0x[0-9a-f]+>")
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
        said = _ADDRESS.sub("", str(error))  # which Pillow adds where it knows no file's name
        raise UnreadableImageError(
            f"{where}: the image is truncated or not an image ({said})"
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
    limit = number_of(PIXEL_LIMIT, MEGAPIXELS, "megapixels")
    if image.width * image.height <= 1e6 * limit:
        return ""
    return (
        f"the image has {image.width} x {image.height} pixels, more than {limit:g} megapixels; "
        f"make it smaller, or raise the limit by {PIXEL_LIMIT}"
    )


def number_of(variable: str, default: int, what: str) -> float:
    """What an environment variable says, or the default.

    Raises:
        DataError: It holds no number, or one that cannot be counted to.
    """
    text = os.environ.get(variable, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{variable} is {text!r}; give a number of {what}")
    return value


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


def to_unit_interval(pixels: Pixels) -> Tensor:
    """8-bit images ``[n, height, width, channels]`` as float32 NCHW, divided by 255."""
    count, height, width, channels = pixels.shape
    images = torch.empty(count, channels, height, width)
    return images.copy_(torch.from_numpy(pixels).permute(0, 3, 1, 2)).div_(255)
