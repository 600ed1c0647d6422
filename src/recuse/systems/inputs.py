"""Images as they come, made into the batch that a system's networks take.

Every refusal is one sentence. Nothing is guessed that could change an answer: an array whose
numbers or axes do not fit is refused, not repaired.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from recuse.errors import DataError
from recuse.images import check_images
from recuse.systems.reading import read_image, read_path

_MODES = {1: "L", 3: "RGB"}
_BATCH, _SINGLE = 4, 3


@dataclass(frozen=True)
class InputForm:
    """What the networks of a system take, and how images of other sizes get there.

    Attributes:
        channels: 3 for RGB, in that order, or 1 for grey.
        size: Height and width.
        resize: How images of another size are brought to it, the whole image, as the data sets
            here do it; None refuses them.
        crop: ``center`` first cuts an image to the proportions of ``size``; None keeps all of it.
    """

    channels: int
    size: tuple[int, int]
    resize: Literal["bilinear"] | None = "bilinear"
    crop: Literal["center"] | None = None

    def __post_init__(self) -> None:
        if self.channels not in _MODES or len(self.size) != 2 or min(self.size) < 1:
            raise DataError(
                f"inputs of {self.channels} channels and size {list(self.size)} cannot be; a "
                "system takes grey (1) or RGB (3) images of at least one pixel"
            )
        if self.resize not in ("bilinear", None) or self.crop not in ("center", None):
            raise DataError(
                f"resize {self.resize!r} or crop {self.crop!r} is unknown; known are bilinear and "
                "center, and null"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image as the networks take it."""
        return (self.channels, *self.size)

    def batch(self, images: object) -> Tensor:
        """Any images as one batch in [0, 1], float32.

        Args:
            images: One or several of: a tensor or array (channels first or last, 256 steps or
                floats in [0, 1]), a Pillow image, a path, the bytes of a file.

        Raises:
            DataError: Anything that is no such image.
        """
        if isinstance(images, Tensor | np.ndarray):
            return self._array(images)
        if isinstance(images, Image.Image | str | Path | bytes):
            return self._picture(images)
        if isinstance(images, Iterable):
            parts = [self.batch(image) for image in images]
            return torch.cat(parts) if parts else torch.zeros(0, *self.shape)
        raise DataError(
            f"a {type(images).__name__} is no image; give tensors, arrays, Pillow images, paths or "
            "the bytes of a file, one or several"
        )

    def _picture(self, source: Image.Image | str | Path | bytes) -> Tensor:
        mode = _MODES[self.channels]
        if isinstance(source, Image.Image):
            picture = ImageOps.exif_transpose(source).convert(mode)
        elif isinstance(source, bytes):
            picture = read_image(source, "the bytes given", mode)
        else:
            picture = read_path(Path(source), mode)
        return self._tensor(picture)[None]

    def _tensor(self, picture: Image.Image) -> Tensor:
        height, width = self.size
        if picture.size != (width, height):
            self._require_resize(picture.height, picture.width)
            box = self._box(picture.height, picture.width)
            picture = picture.crop(box).resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, dtype=np.uint8).reshape(height, width, self.channels)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(255)

    def _array(self, array: Any) -> Tensor:
        images = torch.as_tensor(np.ascontiguousarray(array)) if _is_numpy(array) else array
        images = self._channels_first(images.detach().cpu())
        if images.dtype == torch.uint8:
            if tuple(images.shape[2:]) != self.size:
                mode = _MODES[self.channels]
                rows = images.permute(0, 2, 3, 1).numpy()
                pictures = [Image.fromarray(r[:, :, 0] if mode == "L" else r) for r in rows]
                return torch.stack([self._tensor(p.convert(mode)) for p in pictures])
            return images.float().div_(255)
        return self._resized(check_images(images).float())

    def _channels_first(self, images: Tensor) -> Tensor:
        """A batch with the channels behind the batch axis; grey images may come without."""
        shape, channels = tuple(images.shape), self.channels
        grey = channels == 1
        if images.dim() == _SINGLE and channels in (shape[0], shape[2]):
            images = images[None]
        elif grey and images.dim() < _BATCH:
            images = images.reshape(-1, 1, *shape[-2:]) if len(shape) > 1 else images
        if images.dim() == _BATCH and images.shape[1] == channels:
            return images
        if images.dim() == _BATCH and images.shape[3] == channels:
            return images.permute(0, 3, 1, 2)
        kind = "grey" if grey else "RGB"
        raise DataError(
            f"an array of shape {shape} holds no {kind} images; this system takes {channels} "
            "channels, before or behind height and width, with or without a batch axis"
        )

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if (height, width) == self.size:
            return images
        self._require_resize(height, width)
        left, top, right, bottom = self._box(height, width)
        cut = images[:, :, top:bottom, left:right]
        found: Tensor = interpolate(cut, self.size, mode="bilinear", antialias=True)
        return found.clamp_(0, 1)

    def _box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """What of an image is kept: left, top, right, bottom."""
        if self.crop is None:
            return (0, 0, width, height)
        tall, wide = self.size
        keep_w = min(width, max(1, round(height * wide / tall)))
        keep_h = min(height, max(1, round(width * tall / wide)))
        left, top = (width - keep_w) // 2, (height - keep_h) // 2
        return (left, top, left + keep_w, top + keep_h)

    def _require_resize(self, height: int, width: int) -> None:
        if self.resize is None:
            tall, wide = self.size
            raise DataError(
                f"an image of {width}x{height} pixels does not fit: this system takes "
                f"{wide}x{tall} and resizes nothing"
            )


def _is_numpy(array: object) -> bool:
    return isinstance(array, np.ndarray)


__all__ = ["InputForm"]
